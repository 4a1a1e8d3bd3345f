"""The manifest: what is written is read back, equal rows give equal bytes, other programs open it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.data import manifest
from placecli.data.manifest import Rows, to_record, to_row, write_manifest
from placecli.records import SPLITS, VIEWS, Box, Row

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
small = st.floats(-1e4, 1e4, width=32)
rows = st.builds(
    Row,
    image_id=texts,
    study_id=texts,
    patient_id=texts,
    split=st.sampled_from(SPLITS),
    view=st.sampled_from(VIEWS),
    shard=st.integers(0, 1000),
    row=st.integers(0, 1000),
    content=st.tuples(*[st.integers(0, 2048)] * 4),
    sentences=st.lists(texts, max_size=4).map(tuple),
    findings=texts,
    impression=texts,
    labels=st.dictionaries(texts, st.sampled_from([-1.0, 0.0, 1.0]), max_size=3),
    boxes=st.lists(st.builds(Box, texts, small, small, small, small), max_size=3).map(tuple),
    mask_row=st.integers(-1, 1000),
    source=texts,
    flags=st.lists(texts, max_size=3).map(tuple),
)


@given(rows)
@settings(deadline=None)
def test_a_row_survives_json(row: Row) -> None:
    assert to_row(json.loads(json.dumps(to_record(row)))) == row


@given(st.lists(rows, max_size=5))
@settings(max_examples=25, deadline=None)
def test_rows_survive_parquet(tmp_path_factory: pytest.TempPathFactory, expected: list[Row]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    assert write_manifest(path, iter(expected)) == len(expected)
    found = Rows(path)
    assert len(found) == len(expected)
    assert list(found) == expected
    assert [found[index] for index in range(-len(expected), len(expected))] == expected * 2
    assert found[1:3] == expected[1:3]
    assert found.column("image_id") == [row.image_id for row in expected]


def make_row(number: int) -> Row:
    return Row(
        image_id=f"i{number}",
        study_id="s",
        patient_id="p",
        split="train",
        view="PA",
        shard=0,
        row=number,
        content=(0, 1, 2, 3),
        sentences=("No effusion.",),
        findings="No effusion.",
        impression="",
        labels={"Edema": 0.0, "Atelectasis": 1.0},
        boxes=(Box("Edema", 1.0, 2.0, 3.0, 4.0),),
        mask_row=-1,
        source=f"{number}.dcm",
        flags=(),
    )


def test_an_index_out_of_range_is_an_index_error(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", [make_row(0)])
    with pytest.raises(IndexError):
        Rows(tmp_path / "m")[1]


def test_equal_rows_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_ROWS_PER_GROUP", 4)
    for name in ("a", "b"):
        write_manifest(tmp_path / name, (make_row(number) for number in range(10)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.ParquetFile(tmp_path / "a").num_row_groups == 3
    assert [row.row for row in Rows(tmp_path / "a")] == list(range(10))


def test_labels_are_sorted_whatever_their_order(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", [make_row(0)])
    assert Rows(tmp_path / "m").column("labels") == [[("Atelectasis", 1.0), ("Edema", 0.0)]]


def test_pandas_and_duckdb_open_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, [make_row(0), make_row(1)])
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == manifest.SCHEMA.names
    assert frame["content"][1] == {"x0": 0, "y0": 1, "x1": 2, "y1": 3}
    duckdb = pytest.importorskip("duckdb")
    query = "select image_id, labels['Atelectasis'], boxes[1].width, content.y1 from read_parquet(?) where row = 1"
    assert duckdb.execute(query, [str(path)]).fetchall() == [("i1", 1.0, 3.0, 3)]
