"""A folder of synthetic studies: DICOM, report text, masks, and one line of annotations for each study."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from placecli.data.phantom_dicom import sample_encoding, write_dicom
from placecli.data.phantom_study import Finding, PhantomStudy, make_patient
from placecli.data.resources import usable_cores
from placecli.records import PlaceError

ANNOTATIONS: Final = "phantom.jsonl"
SPLIT_SHARES: Final = (("train", 0.7), ("validate", 0.1), ("test", 0.2))
PATIENTS_PER_TASK: Final = 8


def write_phantoms(
    root: Path,
    num_patients: int,
    seed: int,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `num_patients` synthetic patients below `root`; same seed, same bytes, whatever the workers.

    `files/<patient>/<study>.dcm` and `.txt`, masks under `masks/`, and `phantom.jsonl`, one line a study, which is
    written last. `workers` None takes one process a core. `progress(done, total)` counts patients. Raises
    PlaceError where `root` cannot be written.
    """
    if num_patients < 1:
        raise PlaceError(f"phantoms: the number of patients is {num_patients}; ask for at least 1")
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / ANNOTATIONS).unlink(missing_ok=True)
        lines: list[str] = []
        starts = range(0, num_patients, PATIENTS_PER_TASK)
        spans = [range(start, min(start + PATIENTS_PER_TASK, num_patients)) for start in starts]
        for span, written in zip(spans, _results(root, num_patients, seed, spans, workers), strict=True):
            lines += written
            if progress is not None:
                progress(span.stop, num_patients)
        partial_file = root / f"{ANNOTATIONS}.partial"
        partial_file.write_text("".join(lines), "utf-8")
        partial_file.replace(root / ANNOTATIONS)
    except OSError as error:
        raise PlaceError(f"phantoms: {root} cannot be written ({error.strerror}); name another folder") from None


def _results(root: Path, num_patients: int, seed: int, spans: list[range], workers: int | None) -> Iterator[list[str]]:
    count = min(workers or usable_cores(), len(spans))
    work = partial(_write_span, root, num_patients, seed)
    if count <= 1:
        yield from map(work, spans)
        return
    # Spawned, not forked: the caller may hold threads and a device.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(work, spans)


def split_of(patient: int, num_patients: int, seed: int) -> str:
    """The split of patient number `patient`: exact shares of a random order that the seed fixes."""
    order = np.random.default_rng(np.random.SeedSequence((seed, num_patients, 2**31))).permutation(num_patients)
    place = (int(np.flatnonzero(order == patient)[0]) + 0.5) / num_patients
    for name, share in SPLIT_SHARES:
        if place < share:
            return name
        place -= share
    return SPLIT_SHARES[-1][0]


def _write_span(root: Path, num_patients: int, seed: int, span: range) -> list[str]:
    lines = []
    for patient in span:
        split = split_of(patient, num_patients, seed)
        for study in make_patient(seed, patient):
            lines.append(json.dumps(_write_study(root, study, split), ensure_ascii=False) + "\n")
    return lines


def _write_study(root: Path, study: PhantomStudy, split: str) -> Mapping[str, Any]:
    """Writes the files of one study and returns its annotations; paths in them are relative to `root`."""
    folder = Path("files") / study.patient_id
    masks = Path("masks") / study.patient_id
    (root / folder).mkdir(parents=True, exist_ok=True)
    image_id = f"{study.study_id}-I1"
    encoding = sample_encoding(np.random.default_rng(study.pose.seed + 1))
    (root / folder / f"{study.study_id}.dcm").write_bytes(write_dicom(study, image_id, encoding))
    (root / folder / f"{study.study_id}.txt").write_text(study.report.text, "utf-8", newline="\n")
    union = None
    if study.findings:
        (root / masks).mkdir(parents=True, exist_ok=True)
        union = masks / f"{study.study_id}.png"
        _write_png(root / union, np.bitwise_or.reduce([finding.mask for finding in study.findings]))
    records = [_finding_record(root, masks, study, number, f) for number, f in enumerate(study.findings, 1)]
    return {
        "synthetic": True,
        "patient_id": study.patient_id,
        "study_id": study.study_id,
        "image_id": image_id,
        "split": split,
        "view": study.pose.view,
        "image": (folder / f"{study.study_id}.dcm").as_posix(),
        "report": (folder / f"{study.study_id}.txt").as_posix(),
        "width": study.image.shape[1],
        "height": study.image.shape[0],
        "mask": union.as_posix() if union else None,
        "labels": study.labels,
        "findings": records,
    }


def _finding_record(root: Path, masks: Path, study: PhantomStudy, number: int, finding: Finding) -> Mapping[str, Any]:
    path = masks / f"{study.study_id}-{number}.png"
    _write_png(root / path, finding.mask)
    condition, box = finding.condition, finding.box
    return {
        "label": condition.label,
        "side": condition.side,
        "site": condition.site,
        "severity": condition.grade,
        "severity_value": round(condition.severity, 3),
        "size_cm": condition.size_cm,
        "box": [box.x, box.y, box.width, box.height],
        "mask": path.as_posix(),
    }


def _write_png(path: Path, mask: np.ndarray) -> None:
    is_encoded, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_BILEVEL, 1])
    if not is_encoded:
        raise PlaceError(f"{path.name}: the mask could not be encoded as PNG")
    path.write_bytes(data.tobytes())
