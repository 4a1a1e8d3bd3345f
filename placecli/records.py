"""The typed objects that pass between stages: release -> store -> encoder -> use. No torch, no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

SPLITS: Final = ("train", "validate", "test")
"""Names of the three parts of a data set, as MIMIC-CXR writes them. One patient is in one of them only."""

VIEWS: Final = ("PA", "AP", "FRONTAL", "LATERAL", "OTHER", "")
"""View positions kept in a store. FRONTAL is PA or AP, not told which; "" is not known."""


class PlaceError(Exception):
    """A failure that the user can act on: one line naming the thing, the place and the remedy.

    The shell prints the message alone and exits with 1; `--debug` adds the traceback.
    """


class InputRefused(PlaceError):
    """One input file cannot be used; the run goes on.

    `code` is stable and documented in docs/dicom.md and docs/data.md, e.g. `pixels_truncated`. `message`
    is one sentence without any header value that could identify a patient.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box: top-left corner and size in pixels of the frame named where the box is used."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled outline. `points` are (x, y) in pixels, (0, 0) the outer corner of the top left pixel.

    A rectangle has two opposite corners, an ellipse those of the box around it, a polygon its corners in order; what
    a polygon's outline winds around at least once is inside.
    """

    kind: Literal["rectangle", "ellipse", "polygon"]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class FileMask:
    """Image files of the image's frame, united: a pixel is inside where any of them is not zero."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class RunMask:
    """Runs of inside pixels as (start, length), united, on a frame of (width, height).

    Pixels are counted from 0 down the first column, then down the next one. No runs: nothing is inside.
    """

    frame: tuple[int, int]
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ShapeMask:
    """Shapes, united, in the frame of the image's boxes. No shapes: nothing is inside."""

    shapes: tuple[Shape, ...]


Mask: TypeAlias = Path | FileMask | RunMask | ShapeMask
"""Where a finding or an organ is, as a release gives it; a path is a FileMask of one. No mask (None) says that nobody
looked or drew, an empty one that there is nothing."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of a study as its release names it; no pixels.

    `image_id` "" means that the header or the content decides. `boxes` and a ShapeMask are in pixels of `frame`
    (width, height), None for the file's own size; a file of the same proportions and another size is allowed, any
    other is refused.
    """

    image_id: str
    path: Path
    view: str = ""
    boxes: tuple[Box, ...] = ()
    mask: Mask | None = None
    frame: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """One examination of one patient, as a release reader yields it.

    The report is given either as `sections` (lower-case name -> text, e.g. "findings") or as `report_path`,
    a text file that the preprocessing worker reads and parses. `split` "" lets the store decide by a hash
    of the patient; `patient_id` and `study_id` "" are filled from the DICOM header. `labels` holds 1.0
    (present), 0.0 (absent), -1.0 (uncertain); a label that is not there was not mentioned.
    """

    study_id: str
    patient_id: str
    images: tuple[ImageFile, ...]
    split: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    report_path: Path | None = None
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """A report as the store keeps it: two sections and the sentences that the model reads, in order."""

    findings: str
    impression: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """One input that was refused: its source, a stable reason code and one sentence."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `manifest.parquet`: an image with the report and annotations of its study.

    `shard` and `row` locate the pixels: `images-{shard:05d}.npy[row]`, uint8 `[S, S]`. `content` is
    `(x0, y0, x1, y1)`, the rectangle of that frame that holds image, the rest being padding. `boxes` are in
    pixels of that frame. `mask_row` is the row in `masks-{shard:05d}.npy`, or -1. `source` is the path
    relative to the root (a keyed hash when pseudonymized). `flags` are stable words such as
    `photometric_missing` that say which repair or doubt a file carried.
    """

    image_id: str
    study_id: str
    patient_id: str
    split: str
    view: str
    shard: int
    row: int
    content: tuple[int, int, int, int]
    sentences: tuple[str, ...]
    findings: str
    impression: str
    labels: Mapping[str, float]
    boxes: tuple[Box, ...]
    mask_row: int
    source: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SentenceMatch:
    """One sentence of a hit: its score against the image and where it was found.

    `box` is in fractions (x, y, width, height) of the image's own frame, padding excluded.
    """

    text: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of `place retrieve`; `rank` counts from 1, ties are broken by image id."""

    query: str
    rank: int
    score: float
    study_id: str
    image_id: str
    report: str
    sentences: tuple[SentenceMatch, ...] = ()
