"""One planned image -> the pixels and texts of its row. Runs in the expendable workers of data/pool.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from placecli.config import PreprocessConfig
from placecli.data import images, reports
from placecli.data.identity import complete_ids
from placecli.data.masks import agrees, draw_mask
from placecli.records import VIEWS, Box, InputRefused, Mask, Reject, Report

REASONS: Final[Mapping[str, str]] = {
    "file_missing": "the file that the release names is not there",
    "file_unreadable": "the file system gives an error when the file is read",
    "view_excluded": "the view is not one of preprocess.views",
    "unknown_view": "the view is not known and preprocess.unknown_view is reject",
    "no_report": "the study has no text in the sections of preprocess.sections and preprocess.require_report is set",
    "report_too_short": "the report has fewer words than preprocess.min_words and preprocess.require_report is set",
    "report_unreadable": "the report is not a text of reasonable length",
    "frame_differs": "the annotations are for an image of other proportions, so the file is cut, padded or squeezed",
    "duplicate_image": "an image with the same id and pixels came earlier in the order of sources",
    "worker_crashed": "the decoder crashed on this file",
    "worker_timed_out": "decoding took longer than preprocess.time_limit_seconds, twice",
    "worker_out_of_memory": "decoding needs more memory than preprocess.memory_limit_mib",
    "worker_raised": "decoding failed in a way that is not foreseen",
}
"""Reason codes that preprocessing itself gives, beside those of dicom.REASONS and of the release readers."""

_MAX_REPORT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image to read: what its release says about it. Paths (those of `mask` too) are ready to open.

    `split` is the one that the release or the patient's hash decides, "" while the patient is not known.
    `source` is the name that store and rejects use: the path relative to the root, with `/`.
    """

    source: str
    path: str
    image_id: str
    study_id: str
    patient_id: str
    split: str
    view: str
    boxes: tuple[Box, ...]
    mask: Mask | None
    sections: Mapping[str, str]
    report_path: str
    labels: Mapping[str, float]
    num_bytes: int
    frame: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """What a worker sends back. `pixels` and `mask` are uint8 [S, S]; ids are complete, not yet pseudonyms.

    `report_line` names the line of the table of reports that was joined, "" for none.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    content: tuple[int, int, int, int]
    image_id: str
    study_id: str
    patient_id: str
    accession: str
    view: str
    boxes: tuple[Box, ...]
    report: Report
    flags: tuple[str, ...]
    pixels_hash: str
    split: str
    report_line: str = ""


def decode(config: PreprocessConfig, joins_reports: bool, planned: PlannedImage) -> DecodedImage | Reject:
    """The image as it enters the store, or why it does not.

    Cheap reasons come first: view and report are looked at before any pixel, where they are known by then.
    `joins_reports` leaves the report, and a view that is not known yet, to the caller, who finds them in a table by
    the ids of the header.
    """
    cv2.setNumThreads(1)
    try:
        return _decode(config, joins_reports, planned)
    except InputRefused as refusal:
        return Reject(planned.source, refusal.code, refusal.message)
    except FileNotFoundError:
        return Reject(planned.source, "file_missing", REASONS["file_missing"])
    except OSError:
        return Reject(planned.source, "file_unreadable", REASONS["file_unreadable"])


def check_view(view: str, config: PreprocessConfig) -> None:
    """Raises InputRefused for a view that the preset does not keep; "" means not known."""
    if view and view not in config.views:
        raise InputRefused("view_excluded", f"the view is {view}, preprocess.views keeps {', '.join(config.views)}")
    if not view and config.unknown_view == "reject":
        raise InputRefused("unknown_view", "the view is not known and preprocess.unknown_view is reject")


def make_report(sections: Mapping[str, str], config: PreprocessConfig) -> tuple[Report, tuple[str, ...]]:
    """The report of these sections and its flags. Raises InputRefused where the preset requires more text."""
    report = reports.build_report(sections, config.sections, config.splitter)
    num_words = sum(len(sentence.split()) for sentence in report.sentences)
    if config.require_report and num_words == 0:
        raise InputRefused("no_report", f"there is no text in {' or '.join(config.sections)}")
    if num_words >= config.min_words:
        return report, ()
    if config.require_report:
        raise InputRefused(
            "report_too_short", f"the report has {num_words} word(s), preprocess.min_words is {config.min_words}"
        )
    return report, ("report_too_short",) if num_words else ()


def _decode(config: PreprocessConfig, joins_reports: bool, planned: PlannedImage) -> DecodedImage:
    if planned.view:
        check_view(planned.view, config)
    report, report_flags = Report("", "", ()), tuple[str, ...]()
    if not joins_reports:
        report, report_flags = make_report(_read_sections(planned, config), config)
    path = Path(planned.path)
    radiograph = images.read_image(path, config.size, config)
    header, frame = radiograph.header, planned.frame or radiograph.original_size
    if not agrees(frame, radiograph.original_size):
        sizes = "{} x {}, its annotations are for {} x {}".format(*radiograph.original_size, *frame)
        raise InputRefused("frame_differs", f"the image is {sizes}")
    view = planned.view or _known_view(header.get("view", ""))
    if view or not joins_reports:
        check_view(view, config)
    pixels, content = images.fit_square(radiograph.pixels, config.size)
    image_id, study_id, patient_id, id_flags = complete_ids(
        planned.image_id or header.get("image_id", ""),
        planned.study_id or header.get("study_id", ""),
        planned.patient_id or header.get("patient_id", ""),
        partial(_hash_file, path),
    )
    return DecodedImage(
        pixels=pixels,
        mask=None if planned.mask is None else draw_mask(planned.mask, frame, content, config.size),
        content=content,
        image_id=image_id,
        study_id=study_id,
        patient_id=patient_id,
        accession=header.get("accession", ""),
        view=view,
        boxes=images.scale_boxes(planned.boxes, frame, content),
        report=report,
        flags=(*radiograph.flags, *id_flags, *report_flags),
        split=planned.split,
        pixels_hash=hashlib.sha256(pixels.data).hexdigest()[:32],
    )


def _known_view(view: str) -> str:
    return view if view in VIEWS else "OTHER"


def _read_sections(planned: PlannedImage, config: PreprocessConfig) -> Mapping[str, str]:
    if planned.sections or not planned.report_path:
        return planned.sections
    try:
        with Path(planned.report_path).open("rb") as stream:
            content = stream.read(_MAX_REPORT_BYTES + 1)
    except FileNotFoundError:
        return {}
    if len(content) > _MAX_REPORT_BYTES:
        raise InputRefused("report_unreadable", f"the report is longer than {_MAX_REPORT_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return reports.parse_sections(text) if config.release == "mimic-cxr" else reports.parse_loose_sections(text)


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
