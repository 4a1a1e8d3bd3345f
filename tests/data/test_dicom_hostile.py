"""Files that are broken, cut, absurd or malicious: each is refused with a known code and costs no other file."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import small_dicom
from PIL import Image
from pydicom.encaps import encapsulate
from small_dicom import EXPLICIT, draw_picture, make_dicom

from placecli.config import PreprocessConfig, load_preset
from placecli.data import decode
from placecli.data.codestream import inspect
from placecli.data.dicom import REASONS, convert
from placecli.data.dicom_file import parse_dicom
from placecli.data.images import read_image
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store
from placecli.records import InputRefused

RULES = PreprocessConfig()
PICTURE = draw_picture()
KNOWN_CODES = REASONS.keys() | decode.REASONS.keys()


def code_of(content: bytes) -> str:
    """The code with which the content of a DICOM file is refused, "" if it is not."""
    try:
        convert(parse_dicom(content), 32, RULES)
    except InputRefused as refusal:
        return refusal.code
    return ""


def sample(syntax: str, number: int = 7) -> bytes:
    bits = 8 if syntax == small_dicom.JPEG_BASELINE else 12
    stored = draw_picture(bits=bits).astype(np.uint8 if bits == 8 else np.uint16)
    values = {
        "WindowCenter": "1000",
        "WindowWidth": "2000",
        "PixelPaddingValue": 0,
        "RescaleSlope": "1.5",
        "RescaleIntercept": "-10",
        "VOILUTSequence": small_dicom.lookup_item(0, np.arange(300, dtype=np.uint16), 12),
        "PixelAspectRatio": ["1", "1"],
        "NumberOfFrames": "1",
        "PatientName": "Doe^Jane",
        "SOPInstanceUID": f"2.25.{number}",
    }
    return make_dicom(stored, syntax, bits, values)


# What is no DICOM


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\0", "not_dicom"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 9, "not_dicom"),
        (b"\n\n<html>" + b" " * 500, "not_dicom"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 300, "not_dicom"),
        (b"\x1f\x8b\x08" + b"\0" * 300, "not_dicom"),
        (b"\0" * 1000, "not_dicom"),
        (random.Random(0).randbytes(1000), "not_dicom"),
        (b"\0" * 128 + b"DICM", "no_pixel_data"),
    ],
)
def test_what_is_no_dicom_is_refused(content: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(InputRefused) as caught:
        read_image(path, 32, RULES)
    assert caught.value.code == code


def test_a_file_that_is_gone_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "none.dcm", "file_missing"), (tmp_path, "file_unreadable")):
        with pytest.raises(InputRefused) as caught:
            read_image(path, 32, RULES)
        assert caught.value.code == code


# Cut files


@pytest.mark.parametrize("syntax", [*small_dicom.LOSSLESS, *small_dicom.LOSSY])
def test_a_file_cut_anywhere_is_refused(syntax: str) -> None:
    content = sample(syntax)
    pixels = parse_dicom(content).pixels
    assert code_of(content) == ""
    # The last bytes may be the item that ends the sequence of fragments, or a pad.
    for end in range(0, len(content) - 12, 11):
        code = code_of(content[:end])
        if end < 132:
            assert code == ("not_dicom" if end else "empty_file"), end
        elif syntax == small_dicom.DEFLATED:
            assert code in (
                "no_pixel_data",
                "header_truncated",
                "header_invalid",
                "pixels_truncated",
                "pixels_corrupt",
            ), end
        elif end < pixels.offset:
            assert code in ("no_pixel_data", "header_truncated", "header_invalid"), end
        else:
            assert code == "pixels_truncated", end


@pytest.mark.parametrize(
    "syntax", [each for each in small_dicom.LOSSLESS + small_dicom.LOSSY if each not in small_dicom.RAW]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_compressed_picture_cut_inside_a_whole_file_is_refused(syntax: str, share: float) -> None:
    """The encapsulation is in order, so only the decoder can tell; none may fill up with grey."""
    bits = 8 if syntax == small_dicom.JPEG_BASELINE else 12
    stored = draw_picture(128, 96, bits) + np.random.default_rng(0).integers(0, 4, (128, 96)).astype(np.uint16)
    stored = stored.astype(np.uint8) if bits == 8 else stored
    stream = small_dicom.compress(stored, syntax, bits)
    data = encapsulate([stream[: int(len(stream) * share)]])
    assert code_of(make_dicom(stored, syntax, bits, pixel_data=data)) == "pixels_corrupt"


@pytest.mark.parametrize("syntax", [small_dicom.JPEG_BASELINE, small_dicom.JPEG_EXTENDED, small_dicom.JPEG_LOSSLESS])
def test_a_hole_in_a_jpeg_is_refused(syntax: str) -> None:
    bits = 8 if syntax == small_dicom.JPEG_BASELINE else 12
    noise = np.random.default_rng(0).integers(0, 1 << bits, (64, 64)).astype(np.uint8 if bits == 8 else np.uint16)
    stream = small_dicom.compress(noise, syntax, bits)
    middle = len(stream) // 2
    holed = stream[:middle] + bytes(400) + stream[middle + 400 :]
    assert code_of(make_dicom(noise, syntax, bits, pixel_data=encapsulate([holed]))) == "pixels_corrupt"


@pytest.mark.parametrize(
    "syntax", [each for each in small_dicom.LOSSLESS + small_dicom.LOSSY if each not in small_dicom.RAW]
)
@pytest.mark.parametrize("stream", [b"\0\0", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51" + bytes(60), bytes(64)])
def test_a_stream_that_is_none_is_refused(syntax: str, stream: bytes) -> None:
    codes = ("pixels_corrupt", "pixels_truncated", "size_mismatch", "pixels_constant", "bit_depth_unsupported")
    assert code_of(make_dicom(PICTURE, syntax, pixel_data=encapsulate([stream]))) in codes


def test_a_compressed_picture_of_another_size_is_refused() -> None:
    for syntax in (small_dicom.JPEG_LS, small_dicom.JPEG_2000, small_dicom.JPEG_LOSSLESS):
        assert code_of(make_dicom(PICTURE, syntax, values={"Rows": 44})) == "size_mismatch"
    assert code_of(make_dicom(PICTURE, small_dicom.RLE, values={"Rows": 44})) == "pixels_corrupt"


def test_a_sequence_of_no_fragments_is_refused() -> None:
    assert (
        code_of(make_dicom(PICTURE, small_dicom.JPEG_LS, pixel_data=b"\xfe\xff\x00\xe0" + bytes(4)))
        == "pixels_truncated"
    )


def test_a_film_is_no_picture() -> None:
    content = make_dicom(PICTURE, "1.2.840.10008.1.2.4.100", pixel_data=encapsulate([b"\0\0\1\xb3" + bytes(99)]))
    assert code_of(content) == "transfer_syntax_unsupported"


# Sizes that are lies


def claim_size(stream: bytes, width: int, height: int) -> bytes:
    """The stream with another size in its first header."""
    info = inspect(stream)
    assert info is not None
    if stream[:2] == b"\xff\xd8":
        old = struct.pack(">HH", info.height, info.width)
        at = stream.index(old, stream.index(b"\xff" + (b"\xf7" if info.kind == "jpeg-ls" else b"\xc3")))
        return stream[:at] + struct.pack(">HH", height, width) + stream[at + 4 :]
    return stream[:8] + struct.pack(">II", width, height) + stream[16:]


def refuse_to_decode(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a decoder was asked for an absurd picture")


@pytest.mark.parametrize(
    ("side", "code"),
    [(65535, "image_too_large"), (22000, "compression_implausible")],
)
@pytest.mark.parametrize(
    "syntax",
    [
        small_dicom.RLE,
        small_dicom.JPEG_LOSSLESS,
        small_dicom.JPEG_LS,
        small_dicom.JPEG_2000_LOSSLESS,
        small_dicom.HTJ2K_LOSSLESS,
        EXPLICIT,
        small_dicom.DEFLATED,
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(
    syntax: str, side: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, data = {"Rows": side, "Columns": side}, None
    if syntax not in (*small_dicom.RAW, small_dicom.RLE):
        data = encapsulate([claim_size(small_dicom.compress(PICTURE, syntax, 12), side, side)])
    content = make_dicom(PICTURE, syntax, values=values, pixel_data=data)
    for name in ("jpeg8_decode", "ljpeg_decode", "jpegls_decode", "htj2k_decode", "dicomrle_decode"):
        monkeypatch.setattr(imagecodecs, name, refuse_to_decode)
    monkeypatch.setattr(Image, "open", refuse_to_decode)
    tracemalloc.start()
    try:
        found = code_of(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == ("pixels_wrong_length" if syntax in small_dicom.RAW and side < 65535 else code)
    assert peak < 4 << 20


def test_a_deflated_bomb_is_inflated_no_further_than_its_header() -> None:
    plain = make_dicom(PICTURE, values={"Rows": 32767, "Columns": 32767})
    element = b"\xe0\x7f\x10\x00OW\0\0"
    start = plain.index(element)
    # The data set begins behind the meta group, whose length stands at byte 140.
    begin = 144 + int.from_bytes(plain[140:144], "little")
    header = make_dicom(PICTURE, small_dicom.DEFLATED)
    header = header[: 144 + int.from_bytes(header[140:144], "little")]
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = compressor.compress(plain[begin:start] + element + struct.pack("<I", 2 * 32767**2) + bytes(100 << 20))
    content = header + body + compressor.flush()
    tracemalloc.start()
    try:
        assert code_of(content) == "image_too_large"
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_deep_nest_of_sequences_is_refused() -> None:
    content = make_dicom(PICTURE)
    start = content.index(b"\xe0\x7f\x10\x00")
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert code_of(content[:start] + level * 5000 + content[start:]) in ("header_invalid", "header_truncated")


def test_a_file_that_ends_inside_a_sequence_is_cut() -> None:
    content = make_dicom(PICTURE)
    sequence = b"\x40\x00\x60\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    start = content.index(b"\xe0\x7f\x10\x00")
    assert code_of(content[:start] + sequence) == "header_truncated"


def test_an_unknown_value_representation_costs_its_value_alone() -> None:
    values = {"VOILUTSequence": small_dicom.lookup_item(0, np.arange(4096, dtype=np.uint16), 12)}
    content = make_dicom(PICTURE, values=values)
    at = content.index(b"\x28\x00\x06\x30OW") + 5
    # Pydicom cannot tell how long such an element is, so that the rest of the item is lost with it.
    assert code_of(content[:at] + b"\x80" + content[at + 1 :]) in ("", "header_truncated", "header_invalid")


# Mutants


MUTANTS = 360


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to eight small accidents: bits, bytes and lengths changed, pieces lost, doubled, zeroed, or the end cut."""
    mutant = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        end = len(mutant)
        if end < 300:
            break
        at = rng.randrange(132, min(end, 900)) if rng.random() < 0.5 else rng.randrange(132, end)
        match rng.randrange(8):
            case 0:
                mutant[at] ^= 1 << rng.randrange(8)
            case 1:
                mutant[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del mutant[at : at + rng.choice([1, 2, 4, 8, 50])]
            case 3:
                mutant[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
            case 4:
                mutant[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
            case 5:
                other = rng.randrange(end)
                mutant[at : at + 16] = mutant[other : other + 16]
            case 6:
                mutant[at : at + 64] = bytes(64)
            case 7:
                del mutant[at + (end - at) // 2 :]
    return bytes(mutant)


def test_mutants_cost_nothing_but_themselves(tmp_path: Path) -> None:
    """Through `preprocess` and its expendable workers: each mutant is a row or a reject, each good file a row."""
    rng, root = random.Random(20), tmp_path / "files"
    root.mkdir()
    syntaxes = (*small_dicom.LOSSLESS, *small_dicom.LOSSY)
    good = {f"{number:04d}.dcm" for number in range(0, MUTANTS, 12)}
    for number in range(MUTANTS):
        path = root / f"{number:04d}.dcm"
        content = sample(syntaxes[number // 12 % len(syntaxes)], number)
        path.write_bytes(content if path.name in good else mutate(content, rng))
    overrides = ["preprocess.size=32", "preprocess.images_per_shard=100", "preprocess.memory_limit_mib=1024"]
    summary = preprocess(load_preset("folder", overrides), root, tmp_path / "store", workers=2)
    rows = [row.source for row in open_store(tmp_path / "store").rows]
    entries = [json.loads(line) for line in (tmp_path / "store" / "rejects.jsonl").read_text("utf-8").splitlines()]
    refused = [entry["source"] for entry in entries]
    codes = Counter(entry["code"] for entry in entries)
    assert sorted(rows + refused) == sorted(path.name for path in root.iterdir())
    assert good <= set(rows)
    assert codes.keys() <= KNOWN_CODES
    assert summary.counts["rejected"] == len(refused) > MUTANTS // 4
    assert len(rows) - len(good) > MUTANTS // 20, "mutants that are still readable should be among them"
    # An exception that nobody foresaw is a defect of the reader; a crash inside a decoder is what workers are for.
    assert codes["worker_raised"] == codes["worker_timed_out"] == 0, codes
