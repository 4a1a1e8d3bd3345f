"""Small releases with files good and bad, made on the spot for the tests of store and preprocessing."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from placecli.config import Preset, load_preset

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"

REPORTS = (
    "The heart is normal in size. The lungs are clear.",
    "There is a small left pleural effusion.",
    "Heart size is enlarged. No pneumothorax is seen.",
)


def openi_preset(*overrides: str) -> Preset:
    """The openi preset at 32 pixels with four images a shard."""
    return load_preset("openi", ["preprocess.size=32", "preprocess.images_per_shard=4", *overrides])


def write_openi(root: Path, num_studies: int = 10) -> None:
    """The Kaggle layout of Open-i. Study 4 is cut off, 7 is empty, 5 has no report, every third has a lateral."""
    folder = root / "images" / "images_normalized"
    folder.mkdir(parents=True)
    reports, projections = [], []
    for uid in range(1, num_studies + 1):
        findings = "" if uid == 5 else REPORTS[uid % len(REPORTS)]
        reports.append([uid, "normal", "normal", "Xray Chest", "Cough.", "None.", findings, ""])
        views = ["Frontal", "Lateral"] if uid % 3 == 0 else ["Frontal"]
        for number, view in enumerate(views):
            name = f"{uid}_IM-{uid:04d}-{number + 1}001.dcm.png"
            projections.append([uid, name, view])
            write_png(folder / name, uid * 2 + number)
    cut = folder / "4_IM-0004-1001.dcm.png"
    cut.write_bytes(cut.read_bytes()[:100])
    (folder / "7_IM-0007-1001.dcm.png").write_bytes(b"")
    header = "uid,MeSH,Problems,image,indication,comparison,findings,impression"
    write_csv(root / "indiana_reports.csv", header.split(","), reports)
    write_csv(root / "indiana_projections.csv", ["uid", "filename", "projection"], projections)


def write_png(path: Path, seed: int, height: int = 40, width: int = 36) -> None:
    """A grey picture of noise that differs from seed to seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_dicom(path: Path, seed: int, **values: str) -> None:
    """A small chest radiograph, 12 bits; `values` are header elements by keyword, with ids made from the seed."""
    unique = str(int(hashlib.sha256(str(seed).encode()).hexdigest()[:12], 16))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = COMPUTED_RADIOGRAPHY
    meta.MediaStorageSOPInstanceUID = f"2.25.{unique}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = COMPUTED_RADIOGRAPHY, f"2.25.{unique}"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientID, dataset.StudyInstanceUID = f"patient-{seed}", f"2.25.{unique}1"
    dataset.AccessionNumber = f"A{seed}"
    dataset.Rows, dataset.Columns = 48, 40
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    pixels = np.random.default_rng(seed).integers(0, 4096, (48, 40), dtype=np.uint16)
    dataset.PixelData = pixels.tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def store_bytes(path: Path) -> dict[str, bytes]:
    """Every file under a store, by relative path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
