"""What of a DICOM header reaches a store: the documented values, and nothing else of the patient, in any file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import small_dicom
from small_dicom import draw_picture

from placecli.config import load_preset
from placecli.data.dicom_header import WHITELIST
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # pydicom's, when it writes them

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "dicom.md"

SECRETS = {
    "PatientName": "Zebediah^Quagmire",
    "PatientBirthDate": "19370213",
    "PatientAddress": "Nonesuch Lane 4711",
    "PatientComments": "remarkable-comment",
    "PatientTelephoneNumbers": "555-0199-22",
    "OtherPatientIDs": "other-id-9931",
    "ReferringPhysicianName": "Fonebone^Ursula",
    "OperatorsName": "Kaltenbach^Otto",
    "InstitutionName": "Saint Elsewhere",
    "StationName": "station-17x",
    "DeviceSerialNumber": "serial-5512",
    "StudyDate": "20231129",
    "StudyTime": "112233.445",
    "StudyDescription": "Chest of Zebediah",
    "ProtocolName": "protocol-chest-77",
    "StudyID": "study-id-8080",
    "SeriesInstanceUID": "2.25.990099009900",
    "AccessionNumber": "accession-6464",
    "Manufacturer": "Manufactory-31",
    "ImageComments": "note-about-image",
}
"""Values that must not be found anywhere, in whole or in one of their words."""

SYNTAX = "1.2.840.5112.9931"

WORDS = {SYNTAX} | {
    word
    for value in SECRETS.values()
    for word in re.split(r"[\^ ]", value)
    if len(word) > 3 and word.lower() != "chest"
}


def write(path: Path, number: int, **values: object) -> None:
    """A radiograph with all the secrets, and the same again as a private element and inside a sequence."""
    picture = np.roll(draw_picture(), number, axis=0)
    ids = {"PatientID": f"patient-{number}", "SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": f"2.25.10{number}"}
    small_dicom.write(path, picture, **{**SECRETS, **ids, **values})
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0099, "SOMEBODY", create=True)
    block.add_new(1, "LO", SECRETS["PatientName"])
    item = pydicom.Dataset()
    item.PatientID = SECRETS["OtherPatientIDs"]
    dataset.OtherPatientIDsSequence = [item]
    dataset.save_as(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, and one of each kind of refusal whose cause lies in the header or in the pixels."""
    root = tmp_path_factory.mktemp("files")
    write(root / "a.dcm", 1)
    write(root / "b.dcm", 2, BodyPartExamined="", PatientOrientation=["L", "H"], WindowCenter="1", WindowWidth="0")
    write(root / "not_chest.dcm", 3, BodyPartExamined="Zebediah knee")
    write(root / "view.dcm", 4, ViewPosition="LATERAL")
    write(root / "colour.dcm", 5, PhotometricInterpretation="ZEBEDIAH", SamplesPerPixel=3)
    write(root / "size.dcm", 6, Rows=5000)
    write(root / "syntax.dcm", 7, Rows=38)
    content = (root / "syntax.dcm").read_bytes()
    (root / "syntax.dcm").write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", SYNTAX.encode() + b"\0\0\0"))
    whole = (root / "a.dcm").read_bytes()
    (root / "cut.dcm").write_bytes(whole[:-100])
    (root / "cut_in_header.dcm").write_bytes(whole[: whole.index(b"Quagmire") + 300])
    return root


def everything(store: Path) -> dict[str, str]:
    """The content of every file of a store as text; the table of the manifest decompressed as well."""
    texts = {path.name: path.read_bytes().decode("latin-1") for path in store.rglob("*") if path.is_file()}
    texts["rows"] = json.dumps(pq.read_table(store / "manifest.parquet").to_pylist(), default=str)
    return texts


@pytest.mark.parametrize("is_pseudonymous", [False, True])
def test_no_secret_is_in_any_byte_of_a_store(files: Path, tmp_path: Path, is_pseudonymous: bool) -> None:
    key = tmp_path / "key"
    key.write_text("a secret of more than sixteen bytes", "ascii")
    store = tmp_path / "store"
    preset = load_preset("folder", ["preprocess.size=32"])
    preprocess(preset, files, store, workers=1, pseudonymize=key if is_pseudonymous else None)
    rows = list(open_store(store).rows)
    lines = (store / "rejects.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 2
    assert len(rows) + len(lines) == len(list(files.iterdir()))
    texts = everything(store)
    found = {(word, name) for word in WORDS for name, text in texts.items() if word.lower() in text.lower()}
    assert found == set()
    # The search does find what is there.
    assert ("patient-1" in texts["rows"]) is not is_pseudonymous
    assert any("not_chest" in line for line in lines)
    assert ("a.dcm" in texts["rows"]) is not is_pseudonymous


def test_file_names_never_come_from_values(tmp_path: Path) -> None:
    names = []
    for number, value in enumerate(["../../evil", "/etc/evil", "a\\b", "con\0trol", "x" * 64]):
        root, out = tmp_path / f"in{number}", tmp_path / f"deep{number}" / "store"
        root.mkdir()
        write(root / "a.dcm", number, PatientID=value, SOPInstanceUID=value, StudyInstanceUID=value)
        preprocess(load_preset("folder", ["preprocess.size=32"]), root, out, workers=1)
        names.append(sorted(str(path.relative_to(out)) for path in out.parent.rglob("*") if path != out))
        assert len(open_store(out).rows) == 1
    assert all(each == names[0] for each in names)
    assert not list(tmp_path.rglob("*evil*"))


def test_the_values_that_leave_the_reader_are_documented() -> None:
    text = DOCUMENTATION.read_text("utf-8")
    section = text.split("## Header values")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert documented == WHITELIST.keys() | {"view", "transfer_syntax"}
    for name, keyword in WHITELIST.items():
        words = re.search(rf"^\| `{name}` \| ([\w ]+) \|", section, re.MULTILINE)
        assert words, name
        assert words[1].replace(" ", "") == keyword


def test_a_preset_without_pseudonyms_keeps_only_ids(files: Path, tmp_path: Path) -> None:
    """Of the whitelisted values, only the ids and the view are in the manifest."""
    preprocess(load_preset("folder", ["preprocess.size=32"]), files, tmp_path / "store", workers=1)
    (row,) = [row for row in open_store(tmp_path / "store").rows if row.source == "a.dcm"]
    assert (row.patient_id, row.study_id, row.image_id, row.view) == ("patient-1", "2.25.101", "2.25.1", "PA")
