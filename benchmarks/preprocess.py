"""DICOM files -> uint8 squares: ours beside a plain reader and the field's reader, one core, on the same files.

    python benchmarks/preprocess.py           raw, JPEG 2000, JPEG lossless, JPEG-LS and RLE, at 512 and 256 px
    python benchmarks/preprocess.py --quick   raw and JPEG 2000, few files, seconds

Files: synthetic chests of 3056 x 2544 pixels, 12 bits in 16, with noise so that they compress as radiographs do;
every other one is MONOCHROME1. They are written to a temporary folder and read from the page cache; together they
are larger than the processor's caches. Ours is the very function that the workers of `place preprocess` call: header,
checks, pixels, ids and checksum. The other two read pixels alone and write no file:

- plain: pydicom's pixel array, rescale and window in float64, minimum to maximum, area resize in float, uint8;
- field: as MGCA reads DICOM: pixel array, scaled by its maximum to 8 bits, inverted if MONOCHROME1, resized and padded.
  Published code puts a PNG or JPEG between these steps; it is left out here, in favour of the field's reader.

Each reader has one process of its own, as in use: large arrays that another one frees teach the C library to keep
memory, which saves a reader of whole frames a third of its time. All are pinned to the same core and take turns over
all files in each repeat; CPU time is taken, not the clock's, so that others on the machine do not count. `error`
compares ours with an exact reference: window in float64 on the full frame, exact area average in float64, rounding.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from placecli.config import PreprocessConfig
from placecli.data.decode import DecodedImage, PlannedImage, decode
from placecli.data.phantom import make_study
from placecli.data.phantom_dicom import Encoding, write_dicom

ROWS, COLUMNS = 3056, 2544
COMPRESSED_FILES = 2
"""Of compressed files so many are timed: pydicom takes a second for one in JPEG 2000."""
NOISE = 0.0035
"""Standard deviation in fractions of the brightness range: JPEG 2000 then takes 3 bits a pixel, as of real frames."""
SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "RLE": RLELossless,
}


@dataclass(frozen=True)
class Timing:
    """CPU milliseconds an image, one value a repeat."""

    milliseconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    def __str__(self) -> str:
        spread = f"{1000 / max(self.milliseconds):.1f}..{1000 / min(self.milliseconds):.1f}"
        return f"{1000 / self.median:7.1f} ({spread})"


def write_files(folder: Path, num: int, syntaxes: dict[str, UID]) -> dict[str, list[Path]]:
    """`num` chests, each in every syntax."""
    files: dict[str, list[Path]] = {name: [] for name in syntaxes}
    for i in range(num):
        study = make_study(seed=0, patient=i)
        chest = cv2.resize(study.image, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
        chest += np.random.default_rng(i).standard_normal(chest.shape, np.float32) * np.float32(NOISE)
        encoding = Encoding(ExplicitVRLittleEndian, i % 2 == 1, 0, 1, "window", dark=300, bright=3700)
        for name, syntax in syntaxes.items():
            file = folder / f"{name.replace(' ', '-')}-{i}.dcm"
            file.write_bytes(write_dicom(replace(study, image=chest), str(i), replace(encoding, syntax=syntax)))
            files[name].append(file)
    return files


def ours(path: Path, size: int) -> DecodedImage:
    """What a worker does with one planned image."""
    config = PreprocessConfig(size=size, require_report=False)
    num_bytes = path.stat().st_size
    planned = PlannedImage(path.name, str(path), "", "", "", "", "", (), None, {}, "", {}, num_bytes)
    decoded = decode(config, False, planned)
    assert isinstance(decoded, DecodedImage), decoded
    return decoded


def plain(path: Path, size: int) -> NDArray[Any]:
    """By the book, in float64 on the full frame."""
    dataset = dcmread(path)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    values = apply_voi_lut(values, dataset).astype(np.float64)
    values = (values - values.min()) / (values.max() - values.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 1.0 - values
    return pad_square(np.rint(cv2.resize(values, fit(values, size), interpolation=cv2.INTER_AREA) * 255), size)


def field(path: Path, size: int) -> NDArray[Any]:
    """Scaled by the maximum to 8 bits at once; window and rescale are not looked at."""
    dataset = dcmread(path)
    values = dataset.pixel_array
    picture = cv2.convertScaleAbs(values, alpha=255.0 / values.max())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        picture = cv2.bitwise_not(picture)
    return pad_square(cv2.resize(picture, fit(picture, size), interpolation=cv2.INTER_AREA), size)


def fit(values: NDArray[Any], size: int) -> tuple[int, int]:
    """(width, height), the longer one `size`."""
    height, width = values.shape
    return round(width * size / max(width, height)), round(height * size / max(width, height))


def pad_square(picture: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """uint8 [size, size], black around."""
    top, left = (size - picture.shape[0]) // 2, (size - picture.shape[1]) // 2
    bottom, right = size - picture.shape[0] - top, size - picture.shape[1] - left
    return cv2.copyMakeBorder(picture.astype(np.uint8), top, bottom, left, right, cv2.BORDER_CONSTANT)


def area_weights(length: int, wanted: int) -> NDArray[np.float64]:
    """float64 [wanted, length]: the share of each sample in each cell, rows sum to 1."""
    edges = np.arange(wanted + 1) * (length / wanted)
    samples = np.arange(length)
    overlap = np.minimum(edges[1:, None], samples + 1) - np.maximum(edges[:-1, None], samples)
    return np.clip(overlap, 0.0, None) * (wanted / length)


@cache
def reference(path: Path, content: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """What that rectangle of the square is exactly, float64 in 0 to 255, rounded. `path` is the raw file."""
    dataset = dcmread(path)
    window, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    stored = dataset.pixel_array.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    brightness = np.clip((stored - (window - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)  # PS3.3 C.11.2.1.2.1
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        brightness = 1.0 - brightness
    left, top, right, bottom = content
    down, across = area_weights(stored.shape[0], bottom - top), area_weights(stored.shape[1], right - left)
    return np.rint(down @ brightness @ across.T * 255)


def measure_error(raw: list[Path], files: list[Path], size: int) -> tuple[int, float]:
    """(largest, mean) absolute difference of ours from the reference in steps of 255, over all files."""
    differences = []
    for exact, file in zip(raw, files, strict=True):
        decoded = ours(file, size)
        left, top, right, bottom = decoded.content
        differences.append(np.abs(decoded.pixels[top:bottom, left:right] - reference(exact, decoded.content)))
    return int(max(d.max() for d in differences)), float(np.mean([d.mean() for d in differences]))


READERS: dict[str, Callable[[Path, int], object]] = {"ours": ours, "plain": plain, "field": field}


def prepare_child() -> None:
    """One thread, as the workers of `place preprocess` have; the core is inherited."""
    cv2.setNumThreads(1)


def can_read(name: str, file: Path) -> bool:
    """Whether the decoders at hand let this reader read the file: pydicom needs plug-ins that we do not."""
    try:
        READERS[name](file, 64)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def time_pass(name: str, files: list[Path], size: int) -> float:
    """CPU milliseconds of the process for each file."""
    started = time.process_time()
    for file in files:
        READERS[name](file, size)
    return (time.process_time() - started) * 1000 / len(files)


def compare(children: dict[str, ProcessPoolExecutor], files: list[Path], size: int, repeats: int) -> dict[str, Timing]:
    """CPU time of each reader that can read these files; the readers take turns, the first pass of each warms it."""
    names = [name for name, child in children.items() if child.submit(can_read, name, files[0]).result()]
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        for name in names if repeat % 2 else names[::-1]:
            files_now = files if repeat else files[:1]
            times[name].append(children[name].submit(time_pass, name, files_now, size).result())
    return {name: Timing(values[1:]) for name, values in times.items()}


def ratio(ours: Timing, theirs: Timing | None) -> str:
    """How many times as fast ours is: median and range over the repeats."""
    if theirs is None:
        return "no decoder"
    ratios = [b / a for a, b in zip(ours.milliseconds, theirs.milliseconds, strict=True)]
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}..{max(ratios):.1f})"


def run(
    children: dict[str, ProcessPoolExecutor],
    folder: Path,
    num: int,
    repeats: int,
    sizes: list[int],
    syntaxes: dict[str, UID],
) -> None:
    """Write the files, compare, print the table and whether the targets are met."""
    files = write_files(folder, num, syntaxes)
    print(f"{num} files a format, {ROWS} x {COLUMNS}, 12 bits; {repeats} repeats; median (min..max), CPU time, 1 core")
    print(f"OpenCV {cv2.__version__}, NumPy {np.__version__}")
    heads = ("ours images/s", "plain images/s", "field images/s", "x plain", "x field", "error max, mean")
    print(f"{'format':14}{'MB':>5}{'px':>5} " + " ".join(f"{head:>22}" for head in heads))
    targets: dict[str, bool] = {}
    for name in syntaxes:
        megabytes = statistics.mean(file.stat().st_size for file in files[name]) / 1e6
        for size in sizes:
            largest, mean = measure_error(files["raw"], files[name], size)
            timed = files[name] if name == "raw" else files[name][:COMPRESSED_FILES]
            found = compare(children, timed, size, repeats)
            cells = [str(found.get(reader, "no decoder")) for reader in ("ours", "plain", "field")]
            cells += [ratio(found["ours"], found.get(peer)) for peer in ("plain", "field")]
            cells.append(f"{largest}, {mean:.3f}")
            print(f"{name:14}{megabytes:5.1f}{size:5d} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)
            if name == "raw":
                quotient = found["field"].median / found["ours"].median
                targets[f"raw, {size} px: {quotient:.1f} times the field's reader, wanted 4"] = quotient >= 4
                targets[f"raw, {size} px: largest error {largest}/255, wanted 1"] = largest <= 1
            elif name == "JPEG 2000" and size == 512:
                took = found["ours"].median
                targets[f"JPEG 2000, 512 px: {took:.1f} ms a frame, wanted 60"] = took <= 60
    for sentence, is_met in targets.items():
        print(f"{'met' if is_met else 'NOT met'}: {sentence}")


def main() -> None:
    """Print the table; exit 0 whatever the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="raw and JPEG 2000 at 512 px, 2 files, 2 repeats")
    parser.add_argument("--files", type=int, default=8, help="files a format")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=list(SYNTAXES), help="one format, beside raw, which the errors need")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    syntaxes = dict(list(SYNTAXES.items())[:2]) if arguments.quick else SYNTAXES
    if arguments.only:
        syntaxes = {name: syntax for name, syntax in SYNTAXES.items() if name in ("raw", arguments.only)}
    num, repeats = (2, 2) if arguments.quick else (arguments.files, arguments.repeats)
    sizes = [512] if arguments.quick else [512, 256]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fresh = partial(ProcessPoolExecutor, 1, mp_context=get_context("spawn"), initializer=prepare_child)
        children = {name: stack.enter_context(fresh()) for name in READERS}
        run(children, folder, num, repeats, sizes, syntaxes)


if __name__ == "__main__":
    main()
