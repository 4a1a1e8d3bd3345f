"""Open-i: five made-up studies in each of its three layouts, and the real ones where they are present."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openi_layouts import (
    CONFIG,
    READ,
    STUDIES,
    read,
    texts,
    write_archive,
    write_csv,
    write_kaggle,
    write_nlm,
    write_r2gen,
    xml_report,
)

from placecli.config import PreprocessConfig
from placecli.data.releases.openi_xml import MAX_BYTES, XmlReport, parse_report
from placecli.records import PlaceError, Reject


@pytest.mark.parametrize("ending", [".dcm.png", ".dcm.jpg", ".png", ".jpg"])
def test_kaggle_layout_under_every_ending_that_goes_round(tmp_path: Path, ending: str) -> None:
    write_kaggle(tmp_path, ending)
    studies, rejects = read(tmp_path)
    assert list(studies) == ["CXR1", "CXR2", "CXR4", "CXR10"]
    assert texts(studies) == READ
    assert studies["CXR1"].sections["indication"] == "Cough, XXXX."
    assert "comparison" not in studies["CXR1"].sections
    assert [(i.image_id, i.view) for i in studies["CXR10"].images] == [
        ("CXR10_IM-0002-1001", "FRONTAL"),
        ("CXR10_IM-0002-2001", "LATERAL"),
    ]
    assert all(i.path.name.endswith(ending) and i.path.is_file() for s in studies.values() for i in s.images)
    assert [(r.source, r.code) for r in rejects] == [("CXR3", "report_without_image")]


def test_rows_that_cannot_be_used_are_rejected_one_by_one(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    (tmp_path / "images/images_normalized/4_IM-2050-1001.dcm.png").unlink()
    with (tmp_path / "indiana_reports.csv").open("a", encoding="utf-8") as stream:
        stream.write("x,,,,,,Text.,\n1,,,,,,Again.,\n")
    with (tmp_path / "indiana_projections.csv").open("a", encoding="utf-8") as stream:
        stream.write("77,77_IM-1.dcm.png,Frontal\n2,,Frontal\n2,../../etc/passwd,Frontal\n")
    studies, rejects = read(tmp_path)
    assert list(studies) == ["CXR1", "CXR2", "CXR10"]
    assert Counter(reject.code for reject in rejects) == {
        "row_invalid": 4,
        "image_without_report": 1,
        "image_missing": 1,
        "report_without_image": 1,
    }
    assert "4_IM-2050-1001.dcm.png" in {reject.source for reject in rejects}


def test_nlm_layout_has_the_same_patients_and_image_ids_as_kaggle(tmp_path: Path) -> None:
    write_nlm(tmp_path / "nlm")
    write_kaggle(tmp_path / "kaggle")
    studies, rejects = read(tmp_path / "nlm")
    kaggle, _ = read(tmp_path / "kaggle")
    assert texts(studies) == READ
    assert [(r.source, r.code) for r in rejects] == [("CXR3", "report_without_image")]
    ids = {key: [image.image_id for image in study.images] for key, study in studies.items()}
    assert ids == {key: [image.image_id for image in study.images] for key, study in kaggle.items()}
    assert ids["CXR1"] == ["CXR1_IM-0001-3001", "CXR1_IM-0001-4001"]
    assert {image.view for study in studies.values() for image in study.images} == {""}


def test_nlm_views_come_from_kaggles_table_where_it_lies_beside(tmp_path: Path) -> None:
    write_nlm(tmp_path)
    rows = [[uid, f"{name}.dcm.png", view] for uid, (_, _, images) in STUDIES.items() for name, view in images]
    write_csv(tmp_path / "indiana_projections.csv", [["uid", "filename", "projection"], *rows])
    studies, _ = read(tmp_path)
    assert [image.view for image in studies["CXR1"].images] == ["FRONTAL", "LATERAL"]
    assert [image.view for image in studies["CXR10"].images] == ["FRONTAL", "LATERAL"]


def test_nlm_archive_is_read_without_being_unpacked(tmp_path: Path) -> None:
    write_nlm(tmp_path)
    unpacked = read(tmp_path)
    for path in (tmp_path / "ecgen-radiology").iterdir():
        path.unlink()
    (tmp_path / "ecgen-radiology").rmdir()
    extra = {"../../outside/9.xml": b"<x/>", "ecgen-radiology/readme.txt": b"", "/ecgen-radiology/8.xml": b"<x/>"}
    write_archive(tmp_path / "NLMCXR_reports.tgz", extra)
    before = sorted(tmp_path.rglob("*"))
    assert read(tmp_path) == unpacked
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "NLMCXR_reports.tgz").write_bytes((tmp_path / "NLMCXR_reports.tgz").read_bytes()[:200])
    with pytest.raises(PlaceError, match=r"NLMCXR_reports\.tgz: not readable as a gzipped tar archive"):
        read(tmp_path)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><eCitation><uId id="CXR1"/><t>&b;</t></eCitation>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR1"/></eCitation>'


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\x00\xff\xfe", b"<eCitation>", b"<html><body>404</body></html>"),
        *(BOMB.encode(), OUTSIDE.encode(), BOMB.encode("utf-16")),
        *(b'<e><uId id="../x"/></e>', b'<e><uId id="CXR1"/><parentImage id="../../etc/passwd"/></e>'),
    ],
)
def test_a_bad_xml_file_is_one_reject(tmp_path: Path, content: bytes) -> None:
    write_nlm(tmp_path)
    (tmp_path / "ecgen-radiology" / "2.xml").write_bytes(content)
    studies, rejects = read(tmp_path)
    assert list(studies) == ["CXR1", "CXR4", "CXR10"]
    assert [(r.source, r.code) for r in rejects] == [
        ("ecgen-radiology/2.xml", "xml_malformed"),
        ("CXR3", "report_without_image"),
    ]


def test_a_huge_xml_file_is_refused_unread(tmp_path: Path) -> None:
    write_nlm(tmp_path)
    (tmp_path / "ecgen-radiology" / "2.xml").write_bytes(b" " * (MAX_BYTES + 1))
    assert ("ecgen-radiology/2.xml", "report_too_large") in {(r.source, r.code) for r in read(tmp_path)[1]}
    assert isinstance(parse_report("x", xml_report(1).encode()), XmlReport)


def test_r2gen_layout_brings_its_split(tmp_path: Path) -> None:
    write_r2gen(tmp_path)
    (tmp_path / "images/CXR5_IM-1/1.png").unlink()
    studies, rejects = read(tmp_path)
    assert {key: study.split for key, study in studies.items()} == {
        "CXR1": "validate",
        "CXR2": "train",
        "CXR10": "train",
        "CXR4": "test",
        "CXR5": "test",
    }
    assert texts(studies)["CXR2"] == {"findings": "Report of CXR2_IM-0652."}
    assert [image.image_id for image in studies["CXR1"].images] == ["CXR1_IM-0001_0", "CXR1_IM-0001_1"]
    assert [(r.source, r.code) for r in rejects] == [("CXR5_IM-1/1.png", "image_missing")]


def test_r2gen_annotations_that_do_not_fit(tmp_path: Path) -> None:
    write_r2gen(tmp_path)
    path = tmp_path / "annotation.json"
    annotation = json.loads(path.read_text("utf-8"))
    annotation["val"][0]["image_path"] = ["CXR1_1_IM-0001/../../x.png"]
    path.write_text(json.dumps(annotation), "utf-8")
    studies, rejects = read(tmp_path)
    assert "CXR1" not in studies
    assert [(r.source, r.code) for r in rejects] == [("annotation.json:CXR1_1_IM-0001", "row_invalid")]
    annotation["val"][0]["id"] = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
    path.write_text(json.dumps(annotation), "utf-8")
    with pytest.raises(PlaceError, match="for MIMIC-CXR use --preset mimic") as refused:
        read(tmp_path)
    assert "02aa804e" not in str(refused.value)
    for text in ("{", "[]", '{"train": []}', "[" * 100_000):
        path.write_text(text, "utf-8")
        with pytest.raises(PlaceError, match="not R2Gen's annotation"):
            read(tmp_path)


def write_labels(path: Path, rows: list[list[object]]) -> PreprocessConfig:
    write_csv(path, [["filename", "Edema", "normal"], *rows])
    return CONFIG.model_copy(update={"labels": path})


def test_gold_labels_are_joined_by_name(tmp_path: Path) -> None:
    write_kaggle(tmp_path / "kaggle")
    config = write_labels(tmp_path / "gold.csv", [["CXR10", 1, 0], ["CXR2", 0, 1], ["CXR999", 1, 1]])
    studies, _ = read(tmp_path / "kaggle", config)
    assert studies["CXR10"].labels == {"Edema": 1.0, "normal": 0.0}
    assert studies["CXR2"].labels == {"Edema": 0.0, "normal": 1.0}
    assert studies["CXR1"].labels == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["CXR1", "", 0]], r"line 2: column Edema holds ''; a gold label is 0 or 1"),
        ([["CXR1", -1, 0]], r"line 2: column Edema holds '-1'; a gold label is 0 or 1"),
        ([["CXR1", "yes", 0]], "column Edema holds 'yes'"),
        ([["1", 1, 0]], "none of its reports is a study"),
        ([["CXR1", 1]], "2 fields where the header has 3"),
    ],
)
def test_gold_labels_that_do_not_fit(tmp_path: Path, rows: list[list[object]], message: str) -> None:
    write_kaggle(tmp_path / "kaggle")
    with pytest.raises(PlaceError, match=message):
        read(tmp_path / "kaggle", write_labels(tmp_path / "gold.csv", rows))


def test_layout_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"no layout of Open-i; looked for indiana_reports\.csv"):
        read(tmp_path)
    with pytest.raises(PlaceError, match="not a folder"):
        read(tmp_path / "absent")
    write_kaggle(tmp_path)
    write_r2gen(tmp_path)
    with pytest.raises(PlaceError, match=r"more than one layout of Open-i \(kaggle, r2gen\)"):
        read(tmp_path)
    (tmp_path / "annotation.json").unlink()
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(PlaceError, match=r"indiana_projections\.csv: not there"):
        read(tmp_path)


def test_images_have_to_be_somewhere(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(PlaceError, match="none of the image folders images/images_normalized"):
        read(tmp_path)


def test_real_kaggle_layout(real_data: Callable[[str], Path]) -> None:
    gold = CONFIG.model_copy(update={"labels": real_data("openi_gold_labels") / "openi_gld_std14.csv"})
    studies, rejects = read(real_data("openi_iu_xray"), gold)
    views = Counter(image.view for study in studies.values() for image in study.images)
    assert (len(studies), rejects) == (2721, [])
    assert views == {"FRONTAL": 2822, "LATERAL": 314}
    assert sum(len(texts({"x": study})["x"]) == 2 for study in studies.values()) == 2373
    assert all(len(study.labels) == 15 for study in studies.values())


def test_real_nlm_layout_holds_the_texts_of_the_kaggle_layout(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("openi_nlmcxr")
    studies, rejects = read(root)
    assert (len(studies), sum(len(study.images) for study in studies.values()), rejects) == (60, 120, [])
    kaggle, _ = read(real_data("openi_iu_xray"))
    assert texts(studies) == {key: texts(kaggle)[key] for key in studies}
    (tmp_path / "NLMCXR_reports.tgz").symlink_to(root / "NLMCXR_reports.tgz")
    (tmp_path / "NLMCXR_png").symlink_to(root / "NLMCXR_png")
    from_archive, refused = read(tmp_path)
    assert texts(from_archive) == texts(studies)
    codes = Counter(reject.code for reject in refused)
    assert codes["report_without_image"] == 85
    assert len(from_archive) + codes["report_without_image"] + len(_absent(refused)) == 2945


def _absent(refused: list[Reject]) -> set[str]:
    """Reports of which images are named, none of them here."""
    return {reject.source.split("_")[0] for reject in refused if reject.code == "image_missing"}


def test_real_r2gen_layout(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("iu_xray_r2gen")
    studies, _ = read(root)
    assert len(studies) == 40
    annotation = json.loads((root / "annotation.json").read_text("utf-8"))
    for entry in _entries(annotation):
        (tmp_path / "images" / entry["id"]).mkdir(parents=True)
        for name in entry["image_path"]:
            (tmp_path / "images" / name).touch()
    (tmp_path / "annotation.json").symlink_to(root / "annotation.json")
    studies, rejects = read(tmp_path)
    assert Counter(study.split for study in studies.values()) == {"train": 1554, "validate": 217, "test": 422}
    assert rejects == []
    kaggle, _ = read(real_data("openi_iu_xray"))
    shared = studies.keys() & kaggle.keys()
    assert len(shared) > 2000
    same = sum(studies[key].sections.get("findings") == kaggle[key].sections.get("findings") for key in shared)
    assert same / len(shared) > 0.99


def _entries(annotation: dict[str, list[dict[str, object]]]) -> Iterator[dict[str, object]]:
    for entries in annotation.values():
        yield from entries
