"""Open-i in each of its three layouts, made on the spot: five made-up studies, one of them without an image."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np

from placecli.config import PreprocessConfig
from placecli.data.releases import read_studies
from placecli.records import Reject, Study

CONFIG = PreprocessConfig(release="openi")

# uid -> (findings, impression, images as (name without "CXR", projection))
STUDIES: dict[int, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    1: ("Clear lungs. There are XXXX.", "Normal.", (("1_IM-0001-3001", "Frontal"), ("1_IM-0001-4001", "Lateral"))),
    2: ("", "[&lt;No acute disease.&gt;] Stable<BR>heart.", (("2_IM-0652-1001", "Frontal"),)),
    10: ("Cardiomegaly.", "", (("10_IM-0002-2001", "Lateral"), ("10_IM-0002-1001", "Frontal"))),
    3: ("No image was kept.", "None.", ()),
    4: ("Small effusion.", "Effusion.", (("4_IM-2050-1001", "Frontal"),)),
}
READ = {
    "CXR1": {"findings": "Clear lungs. There are XXXX.", "impression": "Normal."},
    "CXR2": {"impression": "[<No acute disease.>] Stable heart."},
    "CXR4": {"findings": "Small effusion.", "impression": "Effusion."},
    "CXR10": {"findings": "Cardiomegaly."},
}


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, np.full((4, 4), 128, np.uint8))[1]
    path.write_bytes(encoded.tobytes())


def write_csv(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_kaggle(root: Path, ending: str = ".dcm.png") -> None:
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    reports: list[list[object]] = [[*header]]
    projections: list[list[object]] = [["uid", "filename", "projection"]]
    for uid, (findings, impression, images) in STUDIES.items():
        reports.append([uid, "normal", "normal", "Xray Chest PA and Lateral", "Cough, XXXX.", "", findings, impression])
        projections += [[uid, f"{name}.dcm.png", view] for name, view in images]
        for name, _ in images:
            write_image(root / "images" / "images_normalized" / f"{name}{ending}")
    write_csv(root / "indiana_reports.csv", reports)
    write_csv(root / "indiana_projections.csv", projections)


def xml_report(uid: int) -> str:
    findings, impression, images = STUDIES[uid]
    sections = {"COMPARISON": "", "INDICATION": "Cough", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "".join(
        f'<AbstractText Label="{label}">{text.replace("&", "&amp;").replace("<", "&lt;")}</AbstractText>'
        for label, text in sections.items()
    )
    # The release writes the images of its first report with the number twice.
    names = [f"CXR{'1_' if uid == 1 else ''}{name}" for name, _ in images]
    pictures = "".join(f'<parentImage id="{name}"><caption>PA and Lateral</caption></parentImage>' for name in names)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><meta type="rr"/><uId id="CXR{uid}"/><MedlineCitation>'
        f"<Article><Abstract>{texts}</Abstract></Article></MedlineCitation>{pictures}</eCitation>"
    )


def write_nlm(root: Path) -> None:
    (root / "ecgen-radiology").mkdir(parents=True)
    (root / "NLMCXR_png").mkdir()
    for uid, (_, _, images) in STUDIES.items():
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(xml_report(uid), encoding="utf-8")
        for name, _ in images:
            write_image(root / "NLMCXR_png" / f"CXR{'1_' if uid == 1 else ''}{name}.png")


def write_archive(path: Path, extra: dict[str, bytes] | None = None) -> None:
    members = {f"ecgen-radiology/{uid}.xml": xml_report(uid).encode() for uid in STUDIES} | (extra or {})
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_r2gen(root: Path) -> None:
    names = {
        "train": ("CXR2_IM-0652", "CXR10_IM-0002-1001"),
        "val": ("CXR1_1_IM-0001",),
        "test": ("CXR4_IM-2050", "CXR5_IM-1"),
    }
    annotation = {
        split: [
            {
                "id": name,
                "report": f"Report of {name}.",
                "image_path": [f"{name}/0.png", f"{name}/1.png"],
                "split": split,
            }
            for name in ids
        ]
        for split, ids in names.items()
    }
    for ids in names.values():
        for name in ids:
            for number in (0, 1):
                write_image(root / "images" / name / f"{number}.png")
    (root / "annotation.json").write_text(json.dumps(annotation), encoding="utf-8")


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[dict[str, Study], list[Reject]]:
    entries = list(read_studies(config, root))
    studies = [entry for entry in entries if isinstance(entry, Study)]
    assert [study.study_id for study in studies] == [study.patient_id for study in studies]
    return {study.study_id: study for study in studies}, [entry for entry in entries if isinstance(entry, Reject)]


def texts(studies: dict[str, Study]) -> dict[str, dict[str, str]]:
    names = ("findings", "impression")
    return {key: {n: study.sections[n] for n in names if n in study.sections} for key, study in studies.items()}
