"""Preprocessing of small releases: what is kept, what is refused and why, resumption, shards, pseudonyms."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from small_releases import REPORTS, openi_preset, store_bytes, write_csv, write_dicom, write_openi, write_png

from placecli.config import Preset, load_preset
from placecli.data import job as job_module
from placecli.data.decode import REASONS
from placecli.data.job import open_job
from placecli.data.manifest import Rows
from placecli.data.preprocess import PreprocessSummary, Stopped, plan, preprocess
from placecli.data.store import open_store
from placecli.records import PlaceError, Row

REPOSITORY = Path(__file__).parents[2]


def rejects(store: Path) -> dict[str, str]:
    """Reason code by source."""
    lines = (store / "rejects.jsonl").read_text("utf-8").splitlines()
    return {entry["source"]: entry["code"] for entry in map(json.loads, lines)}


def run(preset: Preset, root: Path, out: Path, **options: Any) -> PreprocessSummary:
    return preprocess(preset, root, out, **{"workers": 1, **options})


@pytest.fixture(scope="module")
def store(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "store"
    run(openi_preset(), release, out, workers=2)
    return out


def test_every_input_is_a_row_or_a_reject(release: Path, store: Path) -> None:
    accepted = {row.source for row in open_store(store).rows}
    refused = rejects(store)
    files = {path.relative_to(release).as_posix() for path in release.rglob("*.png")}
    assert accepted | set(refused) == files
    assert not accepted & set(refused)
    assert len(accepted) == 7


def test_rejects_carry_their_reason(store: Path) -> None:
    codes = {
        re.sub(r".*/(\d+)_.*-(\d)001\.dcm\.png", r"\1.\2", source): code for source, code in rejects(store).items()
    }
    excluded = {"3.2": "view_excluded", "6.2": "view_excluded", "9.2": "view_excluded"}
    assert codes.items() >= (excluded | {"5.1": "no_report"}).items()
    assert set(codes) - set(excluded) == {"4.1", "5.1", "7.1"}


def test_rows_hold_reports_pixels_and_split(store: Path) -> None:
    opened = open_store(store)
    first = next(row for row in opened.rows if row.study_id == "CXR1")
    assert first.sentences == ("There is a small left pleural effusion.",)
    assert (first.view, first.patient_id, first.findings) == ("FRONTAL", "CXR1", REPORTS[1])
    # 36 x 40 pixels at longest side 32: 29 wide, centred.
    assert first.content in ((1, 0, 30, 32), (2, 0, 31, 32))
    image = opened.images([first])[0]
    assert image.shape == (32, 32)
    assert image[:, first.content[0] : first.content[2]].std() > 5
    assert not image[:, : first.content[0]].any()


def test_counts_of_summary_and_store_agree_with_the_rows(release: Path, store: Path, tmp_path: Path) -> None:
    summary = run(openi_preset(), release, tmp_path / "s")
    counts = yaml.safe_load((store / "store.yaml").read_text("utf-8"))["counts"]
    assert json.loads(json.dumps(summary.to_record()))["counts"] == counts
    rows = open_store(store).rows
    assert counts["images"] == len(rows) == sum(split["images"] for split in counts["splits"].values())
    assert counts["rejected"] == len(rejects(store)) == sum(counts["rejects"].values())
    assert counts["reports"] == {"empty": 0, "distinct": 3, "duplicate": 4}
    assert counts["same_pixels"] == 0


def test_bytes_do_not_depend_on_workers_or_shards(release: Path, store: Path, tmp_path: Path) -> None:
    expected = store_bytes(store)
    assert {name for name in expected if name.startswith("images")} == {
        "images-00000.npy",
        "images-00001.npy",
        "images-00002.npy",
    }
    run(openi_preset(), release, tmp_path / "three", workers=3)
    assert store_bytes(tmp_path / "three") == expected
    for index in (1, 0):
        part = run(openi_preset(), release, tmp_path / "sharded", shard=(index, 2))
        assert not part.is_complete
        assert part.counts == {}
    assert part.parts_done == part.parts == 3
    with pytest.raises(PlaceError, match="unfinished"):
        open_store(tmp_path / "sharded")
    assert run(openi_preset(), release, tmp_path / "sharded").is_complete
    assert store_bytes(tmp_path / "sharded") == expected


def test_a_second_run_says_so_and_writes_nothing(release: Path, store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    summary = run(openi_preset(), release, store)
    assert summary.already_done
    assert summary.counts["images"] == 7
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before


def test_another_pretrain_section_is_the_same_store(release: Path, store: Path) -> None:
    assert run(openi_preset("pretrain.epochs=3"), release, store).already_done


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preprocess.size=48", "preprocess.size: 32 -> 48"),
        ("preprocess.min_words=4", "preprocess.min_words: 3 -> 4"),
    ],
)
def test_a_changed_preset_is_an_error_naming_the_key(release: Path, store: Path, override: str, message: str) -> None:
    with pytest.raises(PlaceError, match=f"holds another store; what changed: {message}"):
        run(openi_preset(override), release, store)


def test_a_changed_release_is_an_error(release: Path, store: Path, tmp_path: Path) -> None:
    root = tmp_path / "release"
    shutil.copytree(release, root)
    (tmp_path / "key").write_bytes(os.urandom(32))
    with pytest.raises(PlaceError, match="key of --pseudonymize"):
        run(openi_preset(), root, store, pseudonymize=tmp_path / "key")
    assert run(openi_preset(), root, store).already_done  # the same files elsewhere are the same release
    write_png(root / "images/images_normalized/1_IM-0001-1001.dcm.png", seed=99, height=41)
    with pytest.raises(PlaceError, match="names, sizes, ids or annotations of the images"):
        run(openi_preset(), root, store)
    shutil.rmtree(root)
    write_openi(root, num_studies=11)
    with pytest.raises(PlaceError, match="number of images under --root: 10 -> 11"):
        run(openi_preset(), root, store)


def test_an_unfinished_store_refuses_other_versions(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(openi_preset(), release, tmp_path / "s", shard=(0, 2))
    monkeypatch.setattr("placecli.data.listing.version", lambda package: "0.0")
    with pytest.raises(PlaceError, match=r"unfinished part of another store; .*version of numpy: [\d.]+ -> 0.0"):
        run(openi_preset(), release, tmp_path / "s")


def test_progress_counts_to_the_end_and_remembers_finished_parts(release: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    run(openi_preset(), release, tmp_path / "s", shard=(0, 2), progress=lambda *call: calls.append(call))
    assert calls == [(done, 6) for done in range(7)]
    calls.clear()
    run(openi_preset(), release, tmp_path / "s", progress=lambda *call: calls.append(call))
    assert calls == [(done, 10) for done in range(6, 11)]


def test_a_store_in_use_is_refused(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    whole, first, second = (open_job(openi_preset(), release, out, shard, None) for shard in (None, (0, 2), (1, 2)))
    with first.locked(), second.locked():
        with pytest.raises(PlaceError, match="another `place preprocess` is writing"):
            run(openi_preset(), release, out)
        with pytest.raises(PlaceError, match="another `place preprocess` is writing"), first.locked():
            pass
    with whole.locked(), pytest.raises(PlaceError, match="another `place preprocess` is writing"):
        run(openi_preset(), release, out, shard=(0, 2))


def test_a_folder_with_other_things_is_refused(release: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(PlaceError, match="not empty and not a store"):
        run(openi_preset(), release, tmp_path)


def test_too_little_disk_is_said_before_the_work(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "free_bytes", lambda path: 10_000)
    with pytest.raises(PlaceError, match=r"needs about 0.00 GB and the disk has 0.00 GB free"):
        run(openi_preset(), release, tmp_path / "s")
    assert not list((tmp_path / "s").glob("*.npy"))


def test_a_full_disk_is_one_line_and_the_run_continues(
    release: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("placecli.data.atomic.FrameWriter.commit", fail_full)
        with pytest.raises(PlaceError, match="the disk is full; free some space, the same command continues"):
            run(openi_preset(), release, tmp_path / "s")
    run(openi_preset(), release, tmp_path / "s")
    assert store_bytes(tmp_path / "s") == store_bytes(store)


def fail_full(self: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Ctrl-C as a terminal has it: a suite started in the background inherits that it is ignored, which a run keeps."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly_and_the_run_continues(release: Path, store: Path, tmp_path: Path, number: int) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 6:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=f"stopped by {signal.Signals(number).name}; .* the same command continues"):
        run(openi_preset(), release, tmp_path / "s", progress=interrupt)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    run(openi_preset(), release, tmp_path / "s")
    assert store_bytes(tmp_path / "s") == store_bytes(store)


@pytest.mark.usefixtures("heeded_interrupts")
def test_an_ignored_interrupt_stays_ignored(release: Path, store: Path, tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup` or a shell's background job starts it
    run(openi_preset(), release, tmp_path / "s", progress=lambda done, total: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert store_bytes(tmp_path / "s") == store_bytes(store)


def test_plan_tells_what_would_happen_and_writes_nothing(release: Path, tmp_path: Path) -> None:
    found = plan(openi_preset(), release, tmp_path / "s")
    assert (found.studies, found.images, found.parts, found.parts_done) == (10, 10, 3, 0)
    assert sum(found.splits.values()) == 10
    assert found.rejects == {"view_excluded": 3}
    assert found.store_bytes == 10 * (32 * 32 + 4096)
    assert found.looked_for[str(release / "indiana_reports.csv")]
    assert not found.looked_for[str(release / "annotation.json")]
    assert json.loads(json.dumps(found.to_record()))["images"] == 10
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_out_of_range_is_a_usage_error(release: Path, tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(PlaceError, match="write i/n with i from 0 to n - 1"):
        run(openi_preset(), release, tmp_path / "s", shard=shard)


def test_a_patient_in_two_splits_is_an_error_before_any_work(tmp_path: Path) -> None:
    """R2Gen's annotation gives splits; a study of the same patient comes up in two of them."""
    entry = {"report": "The lungs are clear.", "image_path": ["CXR1_IM-0001/0.png", "CXR1_IM-0001/1.png"]}
    (tmp_path / "images" / "CXR1_IM-0001").mkdir(parents=True)
    for number in (0, 1):
        write_png(tmp_path / "images" / "CXR1_IM-0001" / f"{number}.png", number)
    entries = {split: [entry | {"id": "CXR1_IM-0001", "split": split}] for split in ("train", "val")}
    (tmp_path / "annotation.json").write_text(json.dumps(entries | {"test": []}), "utf-8")
    with pytest.raises(PlaceError, match=r"1 patient\(s\) are in two splits \(") as refusal:
        run(openi_preset("preprocess.views=[FRONTAL]"), tmp_path, tmp_path / "s")
    assert "CXR1" not in str(refusal.value), "an id may name a patient"
    assert str(refusal.value.__cause__) == "CXR1"
    assert not (tmp_path / "s").exists()
    (tmp_path / "key").write_bytes(os.urandom(32))
    with pytest.raises(PlaceError, match=r"two splits: [0-9a-f]{16};"):
        run(openi_preset(), tmp_path, tmp_path / "s", pseudonymize=tmp_path / "key")


def folder_preset(*overrides: str) -> Preset:
    return load_preset("folder", ["preprocess.size=32", "preprocess.images_per_shard=4", *overrides])


@pytest.fixture(scope="module")
def dicom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Radiographs: two of one patient, a copy of one, another under a taken id, one without ids."""
    root = tmp_path_factory.mktemp("dicom")
    for number in range(3):
        write_dicom(root / "a" / f"{number}.dcm", number)
    write_dicom(root / "b" / "3.dcm", 3, PatientID="patient-0")
    shutil.copy(root / "a" / "1.dcm", root / "b" / "copy-of-1.dcm")
    write_dicom(root / "b" / "4.dcm", 4, PatientID="", StudyInstanceUID="", SOPInstanceUID="")
    first = pydicom.dcmread(root / "a" / "0.dcm").SOPInstanceUID
    write_dicom(root / "b" / "5.dcm", 5, SOPInstanceUID=first)
    rows = [["A0", REPORTS[0]], ["A1", "Clear."], ["no such accession", REPORTS[2]]]
    write_csv(root / "reports.csv", ["accession", "report"], rows)
    return root


def rows_by_name(store: Path) -> dict[str, Row]:
    return {Path(row.source).stem: row for row in open_store(store).rows}


def test_ids_come_from_the_header_or_the_content(dicom_folder: Path, tmp_path: Path) -> None:
    run(folder_preset(), dicom_folder, tmp_path / "s")
    rows = rows_by_name(tmp_path / "s")
    assert set(rows) == {"0", "1", "2", "3", "4", "5"}
    assert rejects(tmp_path / "s") == {"b/copy-of-1.dcm": "duplicate_image"}
    assert re.fullmatch(re.escape(rows["0"].image_id) + "-[0-9a-f]{8}", rows["5"].image_id)
    assert "image_id_repeated" in rows["5"].flags
    assert rows["0"].patient_id == rows["3"].patient_id == "patient-0"
    assert rows["0"].split == rows["3"].split
    assert rows["0"].study_id.startswith("2.25.")
    assert rows["0"].view == "PA"
    missing = {"patient_id_missing", "study_id_missing"}
    assert missing <= set(rows["4"].flags)
    assert rows["4"].patient_id.startswith("patient-")
    assert rows["4"].study_id.startswith("study-")
    assert not missing & set(rows["0"].flags)


def test_the_folder_reports_join_by_accession(dicom_folder: Path, tmp_path: Path) -> None:
    preset = folder_preset(f"preprocess.reports={dicom_folder / 'reports.csv'}")
    summary = run(preset, dicom_folder, tmp_path / "s")
    rows = rows_by_name(tmp_path / "s")
    assert rows["0"].sentences == ("The heart is normal in size.", "The lungs are clear.")
    assert "report_too_short" in rows["1"].flags
    assert "report_too_short" not in rows["0"].flags + rows["2"].flags
    assert rows["2"].sentences == ()
    assert summary.counts["unused_reports"] == 1
    assert summary.counts["reports"] == {"empty": 4, "distinct": 2, "duplicate": 0}


def test_required_reports_refuse_images_without(dicom_folder: Path, tmp_path: Path) -> None:
    table = f"preprocess.reports={dicom_folder / 'reports.csv'}"
    run(folder_preset(table, "preprocess.require_report=true"), dicom_folder, tmp_path / "s")
    assert set(rows_by_name(tmp_path / "s")) == {"0"}
    codes = rejects(tmp_path / "s")
    assert codes["a/1.dcm"] == "report_too_short"
    assert codes["a/2.dcm"] == codes["b/4.dcm"] == "no_report"


def test_a_changed_table_of_reports_is_an_error(dicom_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "reports.csv"
    shutil.copy(dicom_folder / "reports.csv", table)
    preset = folder_preset(f"preprocess.reports={table}")
    run(preset, dicom_folder, tmp_path / "s")
    assert run(preset, dicom_folder, tmp_path / "s").already_done
    table.write_text(table.read_text("utf-8") + "A2,The lungs are clear.\n", "utf-8")
    with pytest.raises(PlaceError, match=r"what changed: the table preprocess\.reports"):
        run(preset, dicom_folder, tmp_path / "s")


def test_a_missing_table_of_reports_is_named(dicom_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"preprocess\.reports: .*nowhere\.csv is not a file"):
        run(folder_preset("preprocess.reports=nowhere.csv"), dicom_folder, tmp_path / "s")


CANARIES = ("Canary^Patient", "CANARY-PATIENT", "2.25.424242", "CANARY-ACCESSION", "canary-folder", "canary-file")


def test_pseudonyms_leave_no_original_id_in_any_file(tmp_path: Path) -> None:
    root = tmp_path / "canary-folder"
    ids = {"PatientName": "Canary^Patient", "PatientID": "CANARY-PATIENT", "AccessionNumber": "CANARY-ACCESSION"}
    uids = {"StudyInstanceUID": "2.25.4242421", "SOPInstanceUID": "2.25.4242422"}
    write_dicom(root / "canary-file-0.dcm", 0, **ids, **uids)
    write_dicom(root / "canary-file-1.dcm", 1, **ids, Modality="MG")
    (root / "canary-file-2.dcm").write_bytes(b"")
    (root / "canary-file-3.png").write_bytes(b"\x89PNG\r\n\x1a\n canary-file")
    write_dicom(root / "canary-file-4.dcm", 4, **ids)
    write_csv(root / "canary-file.csv", ["accession", "report"], [["CANARY-ACCESSION", "The lungs are clear."]])
    (tmp_path / "key").write_bytes(b"sixteen bytes...")
    preset = folder_preset(f"preprocess.reports={root / 'canary-file.csv'}", "preprocess.images_per_shard=1")
    out = tmp_path / "s"
    run(preset, root, out, pseudonymize=tmp_path / "key", shard=(0, 1))
    unfinished = store_bytes(out)
    assert any(name.startswith("parts/part-") for name in unfinished)
    summary = run(preset, root, out, pseudonymize=tmp_path / "key")
    assert summary.counts["images"] == 2
    assert summary.counts["rejected"] >= 3
    texts = {**unfinished, **store_bytes(out)}
    # The manifest is compressed: look at its values as well.
    texts["rows"] = json.dumps([str(row) for row in Rows(out / "manifest.parquet")]).encode()
    for name, content in texts.items():
        for canary in (*CANARIES, str(root), str(tmp_path)):
            assert canary.encode() not in content, f"{canary} in {name}"
    rows = list(open_store(out).rows)
    assert all(
        re.fullmatch("[0-9a-f]{16}", value) for row in rows for value in (row.image_id, row.patient_id, row.source)
    )
    assert rows[0].patient_id == rows[1].patient_id


def test_splits_are_those_of_the_original_ids(dicom_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    fractions = ("preprocess.validate_fraction=0.4", "preprocess.test_fraction=0.3")
    run(folder_preset(*fractions), dicom_folder, tmp_path / "plain")
    run(folder_preset(*fractions), dicom_folder, tmp_path / "hidden", pseudonymize=tmp_path / "key")
    plain, hidden = (list(open_store(tmp_path / name).rows) for name in ("plain", "hidden"))
    assert [row.split for row in plain] == [row.split for row in hidden]
    assert len({row.split for row in plain}) > 1
    np.testing.assert_array_equal(
        open_store(tmp_path / "plain").images(plain), open_store(tmp_path / "hidden").images(hidden)
    )


def test_a_script_without_a_main_guard_can_preprocess(release: Path, tmp_path: Path) -> None:
    """Workers are no copies of the caller's main module; a script read from stdin has none."""
    script = (
        "from pathlib import Path; from placecli.config import load_preset\n"
        "from placecli.data.preprocess import preprocess\n"
        "preset = load_preset('openi', ['preprocess.size=32'])\n"
        f"print(preprocess(preset, Path({str(release)!r}), Path({str(tmp_path / 's')!r}), workers=2).counts['images'])"
    )
    answer = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert answer.stdout == "7\n"


def test_documented_reasons_are_the_ones_in_the_code() -> None:
    text = (REPOSITORY / "docs" / "store.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert {code: table.get(code) for code in REASONS} == dict(REASONS)


@pytest.mark.parametrize("release_name", ["openi"])
def test_an_empty_root_is_an_error(release_name: str, tmp_path: Path) -> None:
    with pytest.raises(PlaceError):
        run(load_preset(release_name), tmp_path, tmp_path / "s")
