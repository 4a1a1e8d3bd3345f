"""What can be asked, and that what cannot be read costs one query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from placecli.config import PreprocessConfig
from placecli.records import PlaceError, Reject
from placecli.tasks.queries import Query, QueryImage, gather, image_queries, read_images, read_lines, text_queries


def test_folders_are_read_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.dcm", "a/IM000001", "note.txt", ".hidden.png", ".cache/x.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found = [query.image.relative_to(tmp_path).as_posix() for query in image_queries([tmp_path]) if query.image]
    assert found == ["a/IM000001", "a/z.dcm", "b.PNG"]
    assert [query.name for query in image_queries(["missing.png"])] == ["missing.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlaceError, match="no DICOM, PNG or JPEG"):
        list(image_queries([tmp_path / "empty"]))


def test_lines_are_paths_or_objects_and_the_rest_is_refused() -> None:
    lines = [
        "a.png\n",
        "\n",
        '{"image": "b.dcm", "id": 3}',
        '{"text": "effusion", "image": null}',
        "{broken",
        '{"image": "x.png", "text": "both"}',
        '{"text": " "}',
        "{}",
    ]
    found = list(read_lines(lines))
    assert found[:3] == [
        Query("a.png", image=Path("a.png")),
        Query("b.dcm", image=Path("b.dcm")),
        Query("effusion", text="effusion"),
    ]
    assert [each.source for each in found[3:] if isinstance(each, Reject)] == ["line 5", "line 6", "line 7", "line 8"]


def test_a_hit_asks_with_its_report() -> None:
    assert list(read_lines(['{"query": "q", "rank": 1, "report": "Clear lungs."}'])) == [
        Query("Clear lungs.", text="Clear lungs.")
    ]
    refused = list(read_lines(['{"query": "q", "rank": 1, "report": ""}', '{"report": "not a hit"}']))
    assert [each.code for each in refused if isinstance(each, Reject)] == ["line_invalid"] * 2


def test_stdin_is_read_where_nothing_else_asks() -> None:
    names = lambda *asked: [each.name for each in gather(*asked) if isinstance(each, Query)]  # noqa: E731
    assert names(["a.png", "-"], ["words"], ["b.png"]) == ["a.png", "words", "b.png"]
    assert names([], [], ["b.png"]) == ["b.png"]
    assert names(["a.png", "-"], [], []) == ["a.png"]
    for paths in ([], ["-"]):
        with pytest.raises(PlaceError, match="nothing was asked: stdin has no line"):
            names(paths, [], ["", " "])
    known = gather(["a.png"], ["words"], ["b.png"])
    assert isinstance(known, list)
    assert len(known) == 2


@given(st.text())
@example("x" * 5000)
@example('{"image": "' + "x" * 5000 + '"}')
@example("[1]")
@example('{"text": 3}')
def test_no_line_raises(line: str) -> None:
    assume(not line.strip().startswith((".", "/")))  # a folder that is there would be walked
    images = [each.image for each in read_lines([line]) if isinstance(each, Query) and each.image]
    read_images(images, 32, PreprocessConfig(size=32))


def test_an_empty_text_is_an_error() -> None:
    assert [query.text for query in text_queries(["left effusion"])] == ["left effusion"]
    with pytest.raises(PlaceError, match="asks nothing"):
        list(text_queries([" "]))


def test_pictures_come_into_the_frame_of_the_store_and_bad_files_are_refused(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 30)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "good.png"), picture)
    (tmp_path / "page.png").write_text("<html>not an image</html>")
    (tmp_path / "empty.dcm").touch()
    paths = [tmp_path / name for name in ("page.png", "good.png", "missing.png", "empty.dcm")]
    found = read_images(paths, 48, PreprocessConfig(size=48))
    good = found[1]
    assert isinstance(good, QueryImage)
    assert good.pixels.shape == (48, 48)
    assert good.content == (12, 0, 36, 48)
    refused = [each for i, each in enumerate(found) if i != 1]
    assert all(isinstance(each, Reject) for each in refused)
    assert found[2] == Reject(str(paths[2]), "missing", "no such file (words are asked with --text)")


def test_a_dicom_is_decoded_apart_and_a_truncated_one_costs_itself(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    good = sorted((real_data("rsna_pneumonia")).rglob("*.dcm"))[0]
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:3000])
    found = read_images([tmp_path / "cut.dcm", good], 64, PreprocessConfig(size=64))
    assert isinstance(found[0], Reject)
    assert isinstance(found[1], QueryImage)
    assert found[1].pixels.shape == (64, 64)
    assert found[1].pixels.std() > 10
