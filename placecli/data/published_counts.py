"""What is published about the size of each release, to be compared with what is found: a check, never an error.

`basis` says where a number comes from: "published" by the release or by public code that reads it, "measured" on its
published tables, "recalled" without a source at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from placecli.config import PreprocessConfig
from placecli.data.decode import PlannedImage
from placecli.records import SPLITS, PlaceError, Reject, RunMask

Basis = Literal["published", "measured", "recalled"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found: images whose files are here, of every view, and what it refused."""

    images: Sequence[PlannedImage]
    rejects: Sequence[Reject]


@dataclass(frozen=True, slots=True)
class PublishedCount:
    """One published number and how it is counted here; `protocols` are the values of preprocess.splits it holds for."""

    name: str
    number: int
    basis: Basis
    count: Callable[[Found], int]
    protocols: tuple[str, ...] = ("clean", "compat", "compat-detection")


@dataclass(frozen=True, slots=True)
class ComparedCount:
    """A published number beside what is here."""

    name: str
    published: int
    here: int
    basis: Basis

    @property
    def note(self) -> str:
        """What the difference may mean."""
        if self.here == self.published:
            return "equal"
        if self.here < self.published:
            return "fewer: a part of the release, or some files are missing"
        return "more: another version of the release, or files that are not of it"

    def to_record(self) -> dict[str, Any]:
        """`{"published", "here", "basis", "note"}`."""
        return {"published": self.published, "here": self.here, "basis": self.basis, "note": self.note}


def compare_counts(config: PreprocessConfig, root: Path, found: Found) -> tuple[ComparedCount, ...]:
    """The published counts of the release, each with what was found; () where nothing is published."""
    counts = COUNTS.get(config.release, ())
    if config.release == "covidx":
        counts = COVIDX_COUNTS.get(_covidx_version(config, root), ())
    return tuple(
        ComparedCount(count.name, count.number, count.count(found), count.basis)
        for count in counts
        if config.splits in count.protocols
    )


def to_record(compared: Sequence[ComparedCount]) -> dict[str, Any]:
    """Name of the count -> its record, in the order of the table."""
    return {count.name: count.to_record() for count in compared}


def _covidx_version(config: PreprocessConfig, root: Path) -> str:
    from placecli.data.releases.covidx import find_version

    try:
        return find_version(root, config).name
    except PlaceError:
        return ""


def _images(start: str = "", split: str = "", view: str = "", label: str = "") -> Callable[[Found], int]:
    """Counts files whose source begins with `start`, of that split and view, and with that label present."""

    def count(found: Found) -> int:
        return len(
            {
                image.source
                for image in found.images
                if image.source.startswith(start)
                and split in ("", image.split)
                and view in ("", image.view)
                and (not label or image.labels.get(label) == 1.0)
            }
        )

    return count


def _frontal(found: Found) -> int:
    return sum(image.view != "LATERAL" and image.source.startswith("train/") for image in found.images)


def _patients(start: str = "") -> Callable[[Found], int]:
    def count(found: Found) -> int:
        return len({image.patient_id for image in found.images if image.source.startswith(start)})

    return count


def _studies(split: str = "") -> Callable[[Found], int]:
    def count(found: Found) -> int:
        return len({image.study_id for image in found.images if split in ("", image.split)})

    return count


def _rows(found: Found) -> int:
    return len(found.images)


def _boxes(found: Found) -> int:
    return sum(len(image.boxes) for image in found.images)


def _with_mask(found: Found) -> int:
    return sum(isinstance(image.mask, RunMask) and bool(image.mask.runs) for image in found.images)


def _reports(found: Found) -> int:
    """Reports of a collection in which some have no image."""
    return _studies()(found) + sum(reject.code == "report_without_image" for reject in found.rejects)


def _listed(start: str) -> Callable[[Found], int]:
    """Images, and those left out because their patient is in another part of the release."""

    def count(found: Found) -> int:
        left_out = (reject.source for reject in found.rejects if reject.code == "patient_elsewhere")
        return _images(start)(found) + sum(source.startswith(start) for source in left_out)

    return count


_CLEAN: Final = ("clean",)
_COMPAT: Final = ("compat", "compat-detection")


def _parts(protocol: str, numbers: tuple[int, ...], positive: tuple[int, ...]) -> Iterator[PublishedCount]:
    """Images, and positive images, in train, validate and test of one of RSNA's published splits."""
    for part, number, with_finding in zip(SPLITS, numbers, positive, strict=True):
        yield PublishedCount(f"{part} images", number, "measured", _images(split=part), (protocol,))
        found = _images(split=part, label="Pneumonia")
        yield PublishedCount(f"positive {part} images", with_finding, "measured", found, (protocol,))


COUNTS: Final[Mapping[str, tuple[PublishedCount, ...]]] = {
    "mimic-cxr": (
        PublishedCount("images", 377_110, "published", _images()),
        PublishedCount("studies", 227_835, "published", _studies()),
    ),
    "openi": (PublishedCount("reports", 3_955, "published", _reports),),
    "iu-xray": tuple(
        PublishedCount(f"{part} studies", number, "published", _studies(part))
        for part, number in (("train", 2_069), ("validate", 296), ("test", 590))
    ),
    "chexpert": (
        PublishedCount("images of train.csv", 223_414, "measured", _images("train/"), _CLEAN),
        PublishedCount("frontal images of train.csv", 191_027, "measured", _frontal, _CLEAN),
        PublishedCount("AP images of train.csv", 161_590, "measured", _images("train/", view="AP"), _CLEAN),
        PublishedCount("PA images of train.csv", 29_420, "measured", _images("train/", view="PA"), _CLEAN),
        PublishedCount("patients of train.csv", 64_540, "measured", _patients("train/"), _CLEAN),
        PublishedCount("images of valid.csv", 234, "recalled", _images("valid/")),
        PublishedCount("train images", 217_433, "measured", _images(split="train"), _COMPAT),
        PublishedCount("validate images", 5_000, "measured", _images(split="validate"), _COMPAT),
    ),
    "nih": (
        PublishedCount("images", 112_120, "published", _images()),
        PublishedCount("patients", 30_805, "published", _patients()),
        PublishedCount("PA images", 67_310, "published", _images(view="PA")),
        PublishedCount("AP images", 44_810, "published", _images(view="AP")),
        PublishedCount("boxes", 984, "published", _boxes),
    ),
    "vindr": (PublishedCount("images of train", 15_000, "published", _images("train/")),),
    "rsna": (
        PublishedCount("images", 26_684, "published", _images()),
        PublishedCount("positive images", 6_012, "published", _images(label="Pneumonia")),
        PublishedCount("boxes", 9_555, "published", _boxes),
        PublishedCount("Normal", 8_851, "published", _images(label="Normal")),
        PublishedCount(
            "No Lung Opacity / Not Normal", 11_821, "published", _images(label="No Lung Opacity / Not Normal")
        ),
        *_parts("compat", (18_678, 4_003, 4_003), (4_162, 928, 922)),
        *_parts("compat-detection", (16_010, 5_337, 5_337), (3_579, 1_182, 1_251)),
    ),
    "siim": (
        PublishedCount("images", 12_047, "published", _images(), _CLEAN),
        PublishedCount("images with a mask", 2_669, "published", _with_mask, _CLEAN),
    ),
    "object-cxr": (
        PublishedCount("images of train", 8_000, "published", _images("train/")),
        PublishedCount("images of dev", 1_000, "published", _images("dev/")),
    ),
    "ms-cxr": (
        PublishedCount("pairs of image and sentence", 1_162, "published", _rows),
        PublishedCount("patients", 851, "published", _patients()),
    ),
    "covid-chestxray": (
        # Of the last version, of November 2020; earlier ones have fewer.
        PublishedCount("radiographs", 866, "recalled", _images()),
        PublishedCount("PA images", 344, "recalled", _images(view="PA")),
        PublishedCount("lateral images", 84, "recalled", _images(view="LATERAL")),
    ),
}

COVIDX_COUNTS: Final[Mapping[str, tuple[PublishedCount, ...]]] = {
    "9A": (
        PublishedCount("images of the training list", 30_130, "published", _listed("train/")),
        PublishedCount("images of the test list", 400, "published", _images("test/")),
        *(
            PublishedCount(f"{name} in the test list", number, "published", _images("test/", label=name))
            for name, number in (("normal", 100), ("pneumonia", 100), ("COVID-19", 200))
        ),
        *(
            PublishedCount(f"{name} in the training list", number, "measured", _images("train/", label=name), _COMPAT)
            for name, number in (("normal", 8_085), ("pneumonia", 5_555), ("COVID-19", 16_490))
        ),
    ),
    "9B": (PublishedCount("images of the training list", 30_482, "published", _listed("train/")),),
    "CXR-4": (
        PublishedCount("images of train.txt", 67_862, "published", _listed("train/")),
        PublishedCount("images of val.txt", 8_472, "published", _listed("val/")),
        PublishedCount("images of test.txt", 8_481, "published", _images("test/")),
    ),
}
"""By version, as the name of the training list tells it."""
