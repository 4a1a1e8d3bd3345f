"""The table of a store, `manifest.parquet`: a row an image. Schema, writer with fixed options, lazy reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, overload

import pyarrow as pa
import pyarrow.parquet as pq

from placecli.records import Box, Row

_CONTENT: Final = pa.struct([(name, pa.int32()) for name in ("x0", "y0", "x1", "y1")])
_BOX: Final = pa.struct(
    [("label", pa.string()), *((name, pa.float32()) for name in ("x", "y", "width", "height"))],
)

SCHEMA: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("content", _CONTENT, nullable=False),
        pa.field("sentences", pa.list_(pa.string()), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string(), nullable=False),
        pa.field("labels", pa.map_(pa.string(), pa.float32()), nullable=False),
        pa.field("boxes", pa.list_(_BOX), nullable=False),
        pa.field("mask_row", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),
    ]
)
"""Columns of manifest.parquet, in order; docs/store.md explains each."""

_ROWS_PER_GROUP = 8192


def write_manifest(path: Path, rows: Iterable[Row]) -> int:
    """Write the rows in the order given; returns their number. Equal rows give equal bytes, file after file."""
    count = 0
    with pq.ParquetWriter(
        path,
        SCHEMA,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        store_schema=False,
    ) as writer:
        for group in _groups(rows):
            records = [to_record(row) for row in group]
            writer.write_table(pa.Table.from_pylist(records, schema=SCHEMA), row_group_size=_ROWS_PER_GROUP)
            count += len(records)
    return count


def to_record(row: Row) -> dict[str, Any]:
    """The row as plain values by column, ready for JSON and for SCHEMA. Labels are sorted by name."""
    return {
        "image_id": row.image_id,
        "study_id": row.study_id,
        "patient_id": row.patient_id,
        "split": row.split,
        "view": row.view,
        "shard": row.shard,
        "row": row.row,
        "content": dict(zip(("x0", "y0", "x1", "y1"), row.content, strict=True)),
        "sentences": list(row.sentences),
        "findings": row.findings,
        "impression": row.impression,
        "labels": dict(sorted(row.labels.items())),
        "boxes": [
            {"label": box.label, "x": box.x, "y": box.y, "width": box.width, "height": box.height} for box in row.boxes
        ],
        "mask_row": row.mask_row,
        "source": row.source,
        "flags": list(row.flags),
    }


def to_row(record: Mapping[str, Any]) -> Row:
    """The Row of a record of `to_record`, of JSON or of a pyarrow table."""
    content = record["content"]
    return Row(
        image_id=record["image_id"],
        study_id=record["study_id"],
        patient_id=record["patient_id"],
        split=record["split"],
        view=record["view"],
        shard=record["shard"],
        row=record["row"],
        content=(content["x0"], content["y0"], content["x1"], content["y1"]),
        sentences=tuple(record["sentences"]),
        findings=record["findings"],
        impression=record["impression"],
        labels=dict(record["labels"]),
        boxes=tuple(Box(**box) for box in record["boxes"]),
        mask_row=record["mask_row"],
        source=record["source"],
        flags=tuple(record["flags"]),
    )


class Rows(Sequence[Row]):
    """The rows of a manifest as a sequence; each Row is made when asked for, the table stays in Arrow's memory."""

    def __init__(self, path: Path) -> None:
        self.table: pa.Table = pq.read_table(path, schema=SCHEMA, memory_map=True)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        position = range(len(self))[index]
        return to_row(self.table.slice(position, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=_ROWS_PER_GROUP):
            yield from map(to_row, batch.to_pylist())

    def take(self, positions: Sequence[int]) -> list[Row]:
        """The rows at these positions, in that order."""
        chosen = self.table.take(pa.array(positions, pa.int64()))
        return [to_row(record) for record in chosen.to_pylist()]

    def column(self, name: str) -> list[Any]:
        """All values of one column as Python values."""
        values: list[Any] = self.table.column(name).to_pylist()
        return values


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group
