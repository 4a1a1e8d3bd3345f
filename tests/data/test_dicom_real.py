"""Real DICOM files through `preprocess` with the folder preset: each ends as its line of the collection's manifest says.

Nothing here names a file. What is expected follows from the manifest's columns, from words in its description of the
quirk, and from pydicom's own modality and VOI transforms, so another collection with such a manifest is judged alike.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import apply_rescale, apply_windowing

from placecli.config import PreprocessConfig, load_preset
from placecli.data.dicom import FLAGS, REASONS
from placecli.data.dicom_file import open_dicom
from placecli.data.dicom_layout import read_layout
from placecli.data.dicom_pixels import read_frame
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store
from placecli.records import Row

pytestmark = pytest.mark.filterwarnings("ignore:Expected .* VR:UserWarning")  # pydicom, of a file that is wrong

Line = dict[str, str]

EVERYTHING = PreprocessConfig(not_chest="flag", multi_frame="first")

FITTING_CODES = (
    (r"no '?pixel ?data", {"no_pixel_data"}),
    (r"data too short", {"pixels_wrong_length", "pixels_truncated"}),
    (r"cut inside the header", {"header_truncated"}),
    (r"\bcut at\b", {"pixels_truncated"}),
    (r"empty file|zero bytes", {"empty_file"}),
    (r"\bHTML\b|\ba PNG\b|random bytes", {"not_dicom"}),
    (
        r"not a chest|not human|modality (?!CR|DX|RG)[A-Z]{2}\b|BodyPartExamined (?!CHEST|THORAX|absent)\w",
        {"not_chest"},
    ),
    (r"\b(lateral|decubitus|oblique)\b", {"view_excluded"}),
    (r"stream (with|cut|corrupt)", {"pixels_corrupt", "pixels_truncated", "size_mismatch"}),
)
"""Words of quirk or note, and the codes that answer them."""

REPAIR_FLAGS = (
    (r"PhotometricInterpretation absent", "photometric_missing"),
    (r"BitsStored.* absent", "bits_stored_missing"),
    (r"meta header says .* body is", "transfer_syntax_wrong"),
    (r"no preamble", "preamble_missing"),
    (r"WindowWidth 0", "window_invalid"),
    (r"not valid DS", "decimal_repaired"),
    (r"PixelPaddingValue .* around", "padding_blackened"),
    (r"PixelAspectRatio", "pixels_not_square"),
    (r"^RGB|^colour|secondary capture", "colour_reduced"),
    (r"\bids absent|ids? and", "patient_id_missing"),
)
"""Words of the quirk of a file that is used, and the flag that must say so."""


@dataclass(frozen=True)
class Outcome:
    root: Path
    lines: dict[str, Line]
    rows: dict[str, Row]
    pixels: dict[str, NDArray[np.uint8]]
    rejects: dict[str, str]


@pytest.fixture(scope="module")
def outcome(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(real_data("dicom_cxr"), tmp_path_factory.mktemp("real"))


def run(root: Path, out: Path) -> Outcome:
    preprocess(load_preset("folder"), root, out / "store", workers=2)
    store = open_store(out / "store")
    entries = map(json.loads, (out / "store" / "rejects.jsonl").read_text("utf-8").splitlines())
    manifest, lines = root / "manifest.csv", {}
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as stream:
            lines = {line["file"]: line for line in csv.DictReader(stream)}
    return Outcome(
        root=root,
        lines=lines,
        rows={row.source: row for row in store.rows},
        pixels={row.source: image for row, image in zip(store.rows, store.images(store.rows), strict=True)},
        rejects={entry["source"]: entry["code"] for entry in entries},
    )


def expected_codes(line: Line) -> set[str]:
    """Codes of which one is right for this line; empty where the file is to be used."""
    words = f"{line['quirk']} {line['note']}"
    if line["decodable"] != "no" and int(line["frames"] or 1) > 1:
        return {"multi_frame"}
    fitting: set[str] = set()
    for pattern, codes in FITTING_CODES:
        if re.search(pattern, words, re.IGNORECASE):
            fitting |= codes
    if line["decodable"] == "no":
        return fitting or REASONS.keys() - {"not_chest"}
    if line["modality"] and line["modality"] not in ("CR", "DX", "DR", "RG"):
        fitting |= {"not_chest"}
    return fitting


def test_every_file_is_used_or_refused_as_its_line_says(outcome: Outcome) -> None:
    assert outcome.rows.keys() | outcome.rejects.keys() == outcome.lines.keys()
    assert not outcome.rows.keys() & outcome.rejects.keys()
    wrong = {}
    for file, line in outcome.lines.items():
        expected, code = expected_codes(line), outcome.rejects.get(file, "used")
        if code not in (expected or {"used"}):
            wrong[file] = f"{code}, expected {sorted(expected) or 'used'}"
    right = len(outcome.lines) - len(wrong)
    assert wrong == {}, f"{right} of {len(outcome.lines)} right"


def test_repairs_are_flagged_and_only_with_documented_words(outcome: Outcome) -> None:
    known = FLAGS.keys() | {
        f"{kind}_id_{what}" for kind in ("image", "study", "patient") for what in ("missing", "repeated")
    }
    seen = 0
    for file, row in outcome.rows.items():
        assert set(row.flags) <= known, file
        for pattern, flag in REPAIR_FLAGS:
            if re.search(pattern, outcome.lines[file]["quirk"]):
                assert flag in row.flags, f"{file}: no {flag}"
                seen += 1
    assert seen


def test_stored_values_have_the_checksum_of_the_manifest(outcome: Outcome) -> None:
    """SHA-256 of the stored values before any transform, for each grey lossless file, the refused ones too."""
    compared = 0
    for file, line in outcome.lines.items():
        if (
            line["sha256_stored_values_int32le"]
            and int(line["frames"] or 1) == 1
            and line["photometric"]
            in (
                "",
                "MONOCHROME1",
                "MONOCHROME2",
            )
        ):
            values = stored_values(outcome.root / file).astype("<i4")
            assert hashlib.sha256(values.tobytes()).hexdigest() == line["sha256_stored_values_int32le"], file
            compared += 1
    assert compared


def test_pictures_are_what_pydicom_makes_of_the_stored_values(outcome: Outcome) -> None:
    """Modality LUT, VOI LUT or window, polarity, square pixels: each picture against pydicom's transforms and OpenCV."""
    compared = 0
    for file in outcome.rows:
        if outcome.lines[file]["photometric"] in ("MONOCHROME1", "MONOCHROME2"):
            picture, wanted = content(outcome, file), reference(outcome.root / file)
            assert wanted.shape == picture.shape, file
            difference = float(np.abs(wanted - picture).mean())
            # Rounding alone costs 0.25 on average; JPEG 2000 at a lower resolution is no average of pixels.
            assert difference < 1.0, f"{file}: {difference:.2f} grey levels off on average"
            compared += 1
    assert compared


def test_one_picture_in_many_syntaxes_is_one_picture(outcome: Outcome) -> None:
    """Lossless encodings of the same stored values, with nothing else about them, differ nowhere by more than 1."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in outcome.rows:
        line = outcome.lines[file]
        if re.fullmatch(r"[\w ,()-]*(le|big endian.*|deflated|RLE.*|lossless.*)", line["quirk"], re.IGNORECASE):
            groups[line["sha256_stored_values_int32le"]].append(file)
    compared = 0
    for files in groups.values():
        for other in files[1:]:
            difference = np.abs(outcome.pixels[files[0]].astype(int) - outcome.pixels[other]).max()
            assert difference <= 1, f"{files[0]} and {other} differ by {difference}"
            compared += 1
    assert compared


def test_polarity_is_the_same_for_all_files_of_one_source(outcome: Outcome) -> None:
    """MONOCHROME1, MONOCHROME2 with INVERSE, 8-bit MONOCHROME2, colour, no tag at all: bones bright each time."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for file, row in outcome.rows.items():
        if Path(file).parts[0] == "derived":
            groups[outcome.lines[file]["source"], row.content].append(file)
    compared = 0
    for files in (files for files in groups.values() if len(files) > 1):
        small = [cv2.resize(content(outcome, file), (32, 32), interpolation=cv2.INTER_AREA).ravel() for file in files]
        typical = np.median(small, axis=0)
        # In each picture the chest is brighter in the middle than at the upper corners.
        assert typical.reshape(32, 32)[10:22, 14:18].mean() > typical.reshape(32, 32)[:4, [0, 1, -2, -1]].mean()
        for file, picture in zip(files, small, strict=True):
            assert np.corrcoef(picture, typical)[0, 1] > 0.6, f"{file} is not like the others of its source"
            compared += 1
    assert compared


def test_every_rsna_file_is_kept_under_its_own_ids_with_its_own_pixels(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    kept = run(real_data("rsna_pneumonia"), tmp_path)
    files = {path.stem for path in kept.root.glob("stage_2_train_images/*.dcm")}
    assert kept.rejects == {}
    assert {Path(source).stem for source in kept.rows} == files == {row.patient_id for row in kept.rows.values()}
    assert {row.view for row in kept.rows.values()} <= {"PA", "AP"}
    for source in kept.rows:
        assert np.abs(reference(kept.root / source) - content(kept, source)).mean() < 1.0, source


def content(outcome: Outcome, file: str) -> NDArray[np.float32]:
    """The picture in the store without the black around it."""
    left, top, right, bottom = outcome.rows[file].content
    return outcome.pixels[file][top:bottom, left:right].astype(np.float32)


def stored_values(path: Path) -> NDArray[np.int64]:
    file = open_dicom(path)
    frame = read_frame(file, read_layout(file.header, EVERYTHING), 0)
    return frame.values.astype(np.int64) + frame.offset


def reference(path: Path) -> NDArray[np.float32]:
    """Brightness 0 to 255 at the store's size: transforms by pydicom, its tables by NumPy, resizing by OpenCV.

    A window or table that leaves nearly no contrast gives way to the range of the pixels, as docs/dicom.md says.
    """
    dataset, stored = pydicom.dcmread(path, force=True), stored_values(path)
    is_padding = padding(dataset, stored)
    if "ModalityLUTSequence" in dataset:
        values = look_up(dataset.ModalityLUTSequence[0], stored).astype(np.float64)
    else:
        values = apply_rescale(stored, dataset).astype(np.float64)
    bright = in_range(values, float(values[~is_padding].min()), float(values[~is_padding].max()))
    shown, window = bright, first_window(dataset)
    if "VOILUTSequence" in dataset:
        item = dataset.VOILUTSequence[0]
        shown = in_range(look_up(item, values.astype(np.int64)), 0.0, 2.0 ** item.LUTDescriptor[2] - 1)
    elif window:
        dataset.WindowCenter, dataset.WindowWidth = window
        dataset.BitsStored = dataset.get("BitsStored", dataset.BitsAllocated)
        shown = in_range(np.asarray(apply_windowing(values, dataset)), *window_ends(dataset))
    if np.ptp(shown[~is_padding]) >= 1 / 16:
        bright = shown
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        bright = 1 - bright
    return resize(np.where(is_padding, 0, bright * 255), dataset)


def in_range(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values - low) / (high - low), 0, 1)


def look_up(item: pydicom.Dataset, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """PS3.3 C.11.1.1: the first entry for values up to the first mapped one, the last entry for those beyond."""
    count, first, _ = item.LUTDescriptor
    data = item.LUTData
    entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data)
    return entries[np.clip(values - first, 0, (count or 65536) - 1)].astype(np.float64)


def first_window(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """The first window as two numbers, from the letters of the file."""
    numbers = []
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword not in dataset:
            return None
        raw = dataset.get_item(keyword).value
        text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
        found = re.match(r"\s*[-+]?[\d.]+(,\d+)?", text.split("\\")[0])
        if not found:
            return None
        numbers.append(float(found.group().replace(",", ".")))
    return (numbers[0], numbers[1]) if numbers[1] > 1 else None


def window_ends(dataset: pydicom.Dataset) -> tuple[float, float]:
    """The range that pydicom gives to a window's output: that of all values which the stored bits can hold."""
    bits = int(dataset.BitsStored)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0.0, 2.0**bits - 1)
    if "ModalityLUTSequence" in dataset:
        return 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def padding(dataset: pydicom.Dataset, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Frame-wide rows and columns of padding, counted in from each edge."""
    found = np.zeros(stored.shape, bool)
    if "PixelPaddingValue" in dataset:
        is_value = stored == int(dataset.PixelPaddingValue)
        rows, columns = np.flatnonzero(~is_value.all(1)), np.flatnonzero(~is_value.all(0))
        found[:] = True
        found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    return found


def resize(bright: NDArray[np.float64], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    down, across = 1.0, 1.0
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "PixelAspectRatio"):
        if keyword in dataset and dataset[keyword].VM == 2 and all(dataset[keyword].value):
            down, across = map(float, dataset[keyword].value)
    height, width = bright.shape[0] * down, bright.shape[1] * across
    size = round(256 * width / max(height, width)), round(256 * height / max(height, width))
    while bright.shape[0] > size[1] * 2 and bright.shape[1] > size[0] * 2:
        bright = cv2.resize(bright, (bright.shape[1] // 2, bright.shape[0] // 2), interpolation=cv2.INTER_AREA)
    shrink = min(size[0], bright.shape[1]), min(size[1], bright.shape[0])
    bright = cv2.resize(bright, shrink, interpolation=cv2.INTER_AREA)
    return cv2.resize(bright, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
