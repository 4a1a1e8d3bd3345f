"""Every release that the pages name, made up, in one folder and under the names of the pages; few studies each."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
from marked_releases import MS_ROWS, write_ms_cxr, write_object_cxr, write_rsna, write_siim
from releases import test_chexpert, test_covidx, test_lung_masks, test_mimic_cxr, test_nih, test_r2gen, test_vindr
from small_covid import write_covid_chestxray
from small_dicom import draw_picture, write
from small_pictures import write_picture
from small_releases import write_csv, write_openi

LABELS = {
    "object-cxr": ("Foreign Object",),
    "lung-masks": ("Lungs", "Tuberculosis"),
    "siim": ("Pneumothorax",),
    "rsna": ("Pneumonia",),
}
"""Labels of the stores that the pages tune on, where the preset does not name them."""
REPORTS = ("No pleural effusion.", "Small left pleural effusion. The heart is enlarged.", "The lungs are clear.")


def write_releases(root: Path) -> None:
    """{rsna,siim,object-cxr,lung-masks,nih,vindr,covidx,openi,iu_xray,mimic_cxr,...} below `root`, which exists."""
    write_rsna(root / "rsna")
    write_siim(root / "siim", [(0, "131200 20 1004 20"), (1, " -1"), (2, "-1"), (3, "131200 9"), (4, "-1")])
    write_object_cxr(root / "object-cxr")
    test_lung_masks.write_kaggle(root / "lung-masks")
    test_chexpert.write_release(root / "CheXpert-v1.0-small")
    test_nih.write_release(root / "nih")
    (root / "vindr").mkdir()
    test_vindr.write_physionet(root / "vindr")
    test_vindr.write_images(root / "vindr")
    write_covidx(root / "covidx")
    test_r2gen.write_iu(root / "iu_xray")
    test_r2gen.write_mimic(root / "mimic_cxr")
    write_mimic(root / "MIMIC-CXR")
    shutil.copytree(root / "MIMIC-CXR", root / "MIMIC-CXR-JPG")
    write_ms_cxr(root / "MIMIC-CXR-JPG", MS_ROWS)
    write_covid_chestxray(root / "covid-chestxray-dataset")
    write_open_i(root)


def write_covidx(root: Path) -> None:
    """Version 9A, and the lists of 9B in a folder of their own."""
    test_covidx.write_lists(root)
    test_covidx.write_images(root)
    negative = {"normal": "negative", "pneumonia": "negative", "COVID-19": "positive"}
    lists = (
        tuple(
            " ".join(negative.get(word, word) if at else word for at, word in enumerate(line.split())) for line in lines
        )
        for lines in (test_covidx.TRAIN, test_covidx.TEST)
    )
    test_covidx.write_lists(root / "lists", "9B", *lists)


def write_mimic(root: Path) -> None:
    """The JPG release, with pictures."""
    root.mkdir()
    test_mimic_cxr.write_files(root, ".jpg", "mimic-cxr-reports/files")
    test_mimic_cxr.write_metadata(root)
    test_mimic_cxr.write_split(root)
    test_mimic_cxr.write_labels(root)
    for seed, path in enumerate(sorted(root.rglob("*.jpg"))):
        write_picture(path, seed)


def write_open_i(root: Path) -> None:
    """openi and openi_iu_xray: Kaggle's layout, with one file as another copy names it; and gold labels."""
    write_openi(root / "openi", 40)
    images = root / "openi" / "images" / "images_normalized"
    picture = cv2.imread(str(images / "1_IM-0001-1001.dcm.png"))
    cv2.imwrite(str(images / "1100_IM-0068-1001.dcm.jpg"), picture)
    (root / "openi_iu_xray").symlink_to(root / "openi", target_is_directory=True)
    (root / "openi_gold_labels").mkdir()
    rows = [[f"CXR{uid}", int(uid % 3 == 1), int(uid % 3 == 2)] for uid in range(1, 41)]
    write_csv(root / "openi_gold_labels" / "openi_gld_std14.csv", ["filename", "Effusion", "Cardiomegaly"], rows)


def write_scans(root: Path, num_dicom: int = 30) -> None:
    """DICOM files in scans, one.dcm among them, beside what is there; reports.csv names every file of scans."""
    scans = root / "scans"
    scans.mkdir(exist_ok=True)
    for seed in range(num_dicom):
        ids = {"PatientID": f"P{seed}", "StudyInstanceUID": f"2.25.7{seed}", "SOPInstanceUID": f"2.25.8{seed}"}
        write(scans / ("one.dcm" if seed == 0 else f"{seed}.dcm"), (draw_picture() + seed * 7) % 4096, **ids)
    shutil.copy(scans / "one.dcm", root / "image.dcm")
    rows = [[path.name, REPORTS[at % 3]] for at, path in enumerate(sorted(scans.iterdir()))]
    write_csv(root / "reports.csv", ["file", "report"], rows)
