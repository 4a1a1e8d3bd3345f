"""A folder of files in any arrangement, and the table of reports that is joined to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from placecli.config import PreprocessConfig
from placecli.data.releases import read_studies
from placecli.data.releases.folder import read_report_table
from placecli.records import PlaceError, Reject, Study

CONFIG = PreprocessConfig(release="folder")
DICOM = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"
BARE_DICOM = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\0" * 120


def encode(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.full((4, 4), 90, np.uint8))[1].tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five studies (two DICOM, one of them nameless, and three pictures) among other files."""
    folder = tmp_path / "root"
    files = {
        "b/scan.dcm": DICOM,
        "1.2.840.113619.2.55": BARE_DICOM,
        "a/001.png": encode(".png"),
        "a/002.JPG": encode(".jpg"),
        "c/picture": encode(".jpg"),
        "reports.csv": b"x",
        "README": b"x",
        "DICOMDIR": DICOM,
        ".hidden/x.png": encode(".png"),
        "__MACOSX/x.png": encode(".png"),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[list[Study], dict[str, str]]:
    """Studies in order, and reject codes by source."""
    entries = list(read_studies(config, root))
    rejects = {entry.source: entry.code for entry in entries if isinstance(entry, Reject)}
    return [entry for entry in entries if isinstance(entry, Study)], rejects


def sources(studies: list[Study], root: Path) -> list[str]:
    return [study.images[0].path.relative_to(root).as_posix() for study in studies]


def test_every_image_is_a_study_in_order_of_path(root: Path) -> None:
    studies, rejects = read(root)
    assert rejects == {}
    assert sources(studies, root) == ["1.2.840.113619.2.55", "a/001.png", "a/002.JPG", "b/scan.dcm", "c/picture"]
    ids = [(study.patient_id, study.study_id, study.images[0].image_id) for study in studies]
    assert ids == [("", "", ""), ("a/001",) * 3, ("a/002",) * 3, ("", "", ""), ("c/picture",) * 3]


def test_pictures_that_share_a_stem_keep_their_extension_as_id(root: Path) -> None:
    (root / "a/001.jpg").write_bytes(encode(".jpg"))
    (root / "b/001.png").write_bytes(encode(".png"))
    studies, _ = read(root)
    ids = [study.images[0].image_id for study in studies if study.study_id]
    assert ids == ["a/001.jpg", "a/001.png", "a/002", "b/001", "c/picture"]


def test_files_that_are_no_image_are_passed_over_or_rejected(root: Path) -> None:
    (root / "page.dcm").write_bytes(b"<html>404</html>")
    (root / "empty.png").write_bytes(b"")
    (root / "mystery.bin").write_bytes(b"?" * 200)
    (root / "nothing").write_bytes(b"")
    (root / "volume.nii.gz").write_bytes(b"x")
    (root / "scan.dcm.gz").write_bytes(b"x")
    (root / "film.tiff").write_bytes(b"x")
    (root / "notes.tar.gz").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    studies, rejects = read(root)
    # What calls itself an image goes on to the decoder, which says what is wrong with it.
    assert {"page.dcm", "empty.png"} <= set(sources(studies, root))
    assert rejects == {
        **dict.fromkeys(("mystery.bin", "nothing", "pipe"), "file_unknown"),
        **dict.fromkeys(("volume.nii.gz", "scan.dcm.gz", "film.tiff"), "format_unsupported"),
    }


def test_links_are_followed_inside_the_folder_only_and_once(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(encode(".png"))
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "out").symlink_to(outside)
    (root / "again.png").symlink_to(root / "a/001.png")
    (root / "a_again").symlink_to(root / "a")
    (root / "broken.png").symlink_to(root / "gone.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / ".store").mkdir()
    (root / ".store/object").write_bytes(encode(".png"))
    (root / "annexed.png").symlink_to(root / ".store/object")
    studies, rejects = read(root)
    assert "annexed.png" in sources(studies, root)
    assert len(studies) == 6
    assert rejects.pop("circle.png") in ("link_broken", "link_leaves_root")
    assert rejects == {"out.png": "link_leaves_root", "out": "link_leaves_root", "broken.png": "link_broken"}
    (root.parent / "alias").symlink_to(root)
    assert len(read(root.parent / "alias")[0]) == 6


def test_names_that_are_not_utf8_do_not_stop_the_walk(root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.bin")).write_bytes(b"?" * 200)
    assert read(root)[1] == {"caf\\xe9.bin": "file_unknown"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_table_gives_ids_split_and_view_to_the_files_that_it_names(root: Path) -> None:
    table = write(
        root.parent / "t.csv",
        "File,Study ID,patient_id,Split,View Position,report\n"
        "001.png,S1,P1,val,pa,Clear.\n"
        "b/scan.dcm,S2,P2,test,AP,Effusion.\n"
        "/data/root/c/picture,S3,P1,val,swimmers,Mass.\n",
    )
    studies, _ = read(root, CONFIG.model_copy(update={"reports": table}))
    found = [(s.patient_id, s.study_id, s.split, s.images[0].view) for s in studies]
    assert found == [
        ("", "", "", ""),
        ("P1", "S1", "validate", "PA"),
        ("a/002", "a/002", "", ""),
        ("", "", "test", "AP"),  # the header of a DICOM file says whose it is
        ("P1", "S3", "validate", "OTHER"),
    ]


def test_pictures_named_by_their_study_need_no_file_column(root: Path) -> None:
    table = write(root.parent / "t.csv", "study,patient_id,split,report\na/001,P1,test,Clear.\na/002,P1,test,Mass.\n")
    studies, _ = read(root, CONFIG.model_copy(update={"reports": table}))
    assert [(s.patient_id, s.study_id, s.split) for s in studies[1:3]] == [
        ("P1", "a/001", "test"),
        ("P1", "a/002", "test"),
    ]
    found = read_report_table(table).find("a/002.JPG", studies[2].study_id)
    assert found == {
        "full report": "Mass.",
        "study_id": "a/002",
        "patient_id": "P1",
        "split": "test",
        "line": "3",
    }


def test_a_bare_name_that_two_files_share_is_an_error_before_any_work(root: Path) -> None:
    (root / "b/001.png").write_bytes(encode(".png"))
    table = write(root.parent / "t.csv", "file,report\n001.png,Clear.\n")
    with pytest.raises(PlaceError, match="line 2: its file name fits 2 files;") as caught:
        read(root, CONFIG.model_copy(update={"reports": table}))
    assert "001" not in str(caught.value), "a path may name a patient"
    assert str(caught.value.__cause__) == "a/001.png, b/001.png", "what --debug shows"
    table = write(root.parent / "t.csv", "file,report\na/001.png,Clear.\nb/001.png,Mass.\n")
    assert len(read(root, CONFIG.model_copy(update={"reports": table}))[0]) == 6


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_reports_are_found_by_file_then_study_then_accession(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["path", "StudyInstanceUID", "AccessionNumber", "text"],
        ["a\\1.png", "", "", "FINDINGS: By file."],
        ["", "1.2.3", "", "By study."],
        ["", "", "A77", '"Impression: by ""accession""."'],
        ["2", "", "", "Without extension."],
    ]
    table = read_report_table(write(tmp_path / "t.csv", "\n".join(delimiter.join(row) for row in rows)))
    assert table.find("a/1.png", "1.2.3", "A77") == {"findings": "By file.", "line": "2"}
    assert table.find("x/9.dcm", "1.2.3", "A77") == {"full report": "By study.", "study_id": "1.2.3", "line": "3"}
    assert table.find("x/9.dcm", "9", "A77") == {"impression": 'by "accession".', "line": "4"}
    assert table.find("b/2.dcm") == {"full report": "Without extension.", "line": "5"}
    assert table.find("b/22.dcm", "", "") is None
    assert len(table) == 4


def test_jsonl_table_and_counts(tmp_path: Path) -> None:
    lines = [
        {"study": 17, "findings": "Lungs clear.", "impression": "Normal."},
        {"study": "18", "findings": "Lungs clear.", "impression": "Normal."},
        {"study": "19", "findings": None, "impression": " "},
    ]
    table = read_report_table(write(tmp_path / "t.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n\n"))
    assert (len(table), table.num_empty, table.num_duplicates) == (3, 1, 1)
    assert table.find("x", "17") == {"findings": "Lungs clear.", "impression": "Normal.", "study_id": "17", "line": "1"}
    assert table.find("x", "19") == {"study_id": "19", "line": "3"}


def test_images_of_one_study_may_each_have_a_line(tmp_path: Path) -> None:
    table = read_report_table(
        write(tmp_path / "t.csv", "file,study,report\n1.png,S,One.\n2.png,S,Two.\n3.png,T,Three.\n4.png,T,Three.\n")
    )
    found = {name: table.find(name, study) for name, study in (("1.png", "S"), ("2.png", "S"), ("5.png", "T"))}
    texts = {name: line and line["full report"] for name, line in found.items()}
    assert texts == {"1.png": "One.", "2.png": "Two.", "5.png": "Three."}
    # a third image of S: the study alone does not tell which report is its own
    assert table.find("9.png", "S") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,report\nx,y\n",
            r"no column to join by: one of file, study_id, accession is needed; the columns are name, report$",
        ),
        (
            "file,comment\nx,y\n",
            r"no column of text: one of report, findings, impression is needed; the columns are file",
        ),
        ("file,path,report\nx,x,y\n", "the columns file and path both mean file; keep one"),
        ("file,file,report\nx,x,y\n", "the columns 1 and 2 have one name"),
        ("file,report\nx,Clear, no mass.\n", "line 2: 3 fields where the header has 2"),
        ("file,report\nx,One.\nx,Two.\n", "lines 2 and 3: one file with different reports"),
        ("study,report\nx,One.\ny,Two.\nx,Three.\n", "lines 2 and 4: one study_id with different reports"),
        ("file,split,report\nx,holdout,One.\n", "line 2: its split is none of train, validate, test"),
        ("", "no column to join by"),
        ("doe_john.png,Doe has a mass.\n", "the columns are not known: begin the table with a line of names"),
        ("doe_john.png,Clear.,Clear.\n", "the columns 2 and 3 have one name"),
        ("file,split,report\nx,Doe has a mass,One.\n", "line 2: its split is none"),
    ],
)
def test_tables_that_do_not_fit_name_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message) as caught:
        read_report_table(write(tmp_path / "t.csv", text))
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))
    assert "\n" not in str(caught.value)
    assert "doe" not in str(caught.value).lower(), "what a cell holds is not for the screen"


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="no such file"):
        read_report_table(tmp_path / "absent.csv")
    (tmp_path / "t.csv").write_bytes("file,report\nx,\u00c9panchement\n".encode("latin-1"))
    with pytest.raises(PlaceError, match="save it as UTF-8"):
        read_report_table(tmp_path / "t.csv")
    with pytest.raises(PlaceError, match="line 2: not a JSON object"):
        read_report_table(write(tmp_path / "t.jsonl", '{"file": "x", "report": "y"}\n["x"]\n'))


def test_repeated_lines_with_one_text_are_one_report(tmp_path: Path) -> None:
    table = read_report_table(write(tmp_path / "t.csv", "file,report\nx.png,Clear.\nx.png,Clear.\n"))
    assert table.find("x.png") == {"full report": "Clear.", "line": "2"}
    assert table.num_duplicates == 1


def test_excel_csv_with_mark_and_quoted_lines(tmp_path: Path) -> None:
    text = '\ufefffile;report\nx.png;"FINDINGS: Clear; no mass.\nIMPRESSION: Normal."\n'
    table = read_report_table(write(tmp_path / "t.csv", text))
    found = table.find("x.png")
    assert found is not None
    assert (found["findings"], found["impression"]) == ("Clear; no mass.", "Normal.")


def test_real_dicom_folder_is_listed_whole(real_data: Callable[[str], Path]) -> None:
    folder = real_data("dicom_cxr")
    studies, rejects = read(folder)
    assert len(studies) == 54
    assert rejects == {}
    assert {study.study_id for study in studies} == {""}


def test_every_reject_code_of_the_readers_is_documented() -> None:
    repository = Path(__file__).resolve().parents[3]
    readers = (repository / "placecli" / "data" / "releases").glob("*.py")
    codes = {
        code
        for reader in readers
        for code in re.findall(r'Reject\([^"]*(?:f?"[^"]*"[^"]*)?"([a-z]+(?:_[a-z]+)+)"', reader.read_text("utf-8"))
    }
    assert {"file_unknown", "image_missing", "xml_malformed", "group_missing"} <= codes
    documented = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", (repository / "docs" / "data.md").read_text("utf-8")))
    assert codes <= documented
