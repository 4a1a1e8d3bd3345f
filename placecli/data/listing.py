"""All images of a release in one fixed order, and the fingerprint by which a later run knows that nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from placecli import __version__
from placecli.config import PreprocessConfig, changed_keys
from placecli.data.atomic import checksum
from placecli.data.decode import REASONS, PlannedImage, check_view
from placecli.data.identity import OneSplitPerPatient, Pseudonyms, split_of
from placecli.data.published_counts import ComparedCount, Found, compare_counts
from placecli.data.releases import read_studies
from placecli.records import FileMask, InputRefused, Mask, PlaceError, Reject, Study

_PACKAGES: Final = ("numpy", "pyarrow", "pydicom", "opencv-python", "pillow", "imagecodecs", "pylibjpeg-openjpeg")
"""Packages that decide bytes of the store."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a release holds: the images to decode, in order of source, and what is refused without a look inside."""

    images: tuple[PlannedImage, ...]
    rejects: tuple[Reject, ...]
    num_studies: int
    published: tuple[ComparedCount, ...] = ()
    """What is published about the size of the release, beside what is here."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides the bytes of a store. Equal fingerprints mean that a run may continue what another began.

    `config` is the preprocess section without paths, `tables` the checksums of the files that those paths name,
    `listing` a hash over every image with its size, ids and annotations.
    """

    config: Mapping[str, Any]
    tables: Mapping[str, str]
    key_check: str
    num_images: int
    listing: str
    versions: Mapping[str, str]


def list_images(config: PreprocessConfig, root: Path, pseudonyms: Pseudonyms) -> Listing:
    """Read the release under `root` (no pixels) and plan every image.

    Raises PlaceError for a release that is not there, one without any image, or one that puts a patient into two
    splits; published splits do that, so preprocess.splits=compat lets it pass.
    """
    studies: list[Study] = []
    rejects: list[Reject] = []
    splits = OneSplitPerPatient()
    for entry in read_studies(config, root):
        if isinstance(entry, Reject):
            rejects.append(entry)
            continue
        studies.append(entry)
        if entry.patient_id and entry.split:
            splits.see(entry.patient_id, entry.split)
    if config.splits == "clean":
        splits.check(pseudonyms)
    planned = [image for study in studies for image in _plan_study(study, root, _split(study, splits, config))]
    planned.sort(key=lambda image: (image.source, image.image_id))
    kept = list(_refuse_early(planned, config, rejects))
    if not kept and not rejects:
        what = "DICOM, PNG or JPEG file" if config.release == "folder" else f"image of a {config.release} release"
        raise PlaceError(f"{root}: no {what} in it; check the path and --preset")
    present = [image for image in planned if image.num_bytes >= 0]
    published = compare_counts(config, root, Found(present, rejects))
    return Listing(tuple(kept), tuple(rejects), len(studies), published)


def fingerprint(config: PreprocessConfig, listing: Listing, pseudonyms: Pseudonyms) -> Fingerprint:
    """The fingerprint of a run with that section and listing, on the packages installed now."""
    digest = hashlib.sha256()
    for image in listing.images:
        digest.update(json.dumps(_facts(image), sort_keys=True).encode())
    for reject in listing.rejects:
        digest.update(json.dumps([reject.source, reject.code]).encode())
    tables = {name: getattr(config, name) for name in ("reports", "labels")}
    return Fingerprint(
        config=without_paths(config).model_dump(mode="json"),
        tables={name: checksum(path) for name, path in tables.items() if path is not None and path.is_file()},
        key_check=pseudonyms.key_check(),
        num_images=len(listing.images),
        listing=pseudonyms.of("source", digest.hexdigest()),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of this program and of the packages that decide bytes of the store."""
    found = {"placecli": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an optional decoder
            continue
    return found


def without_paths(config: PreprocessConfig) -> PreprocessConfig:
    """The section without the two paths in it: where a table lies decides nothing, what it holds does."""
    return config.model_copy(update={"reports": None, "labels": None})


def check_unchanged(old: Mapping[str, Any], new: Fingerprint, place: Path, *, is_finished: bool) -> None:
    """Raises PlaceError where the run described by `old` (a fingerprint as plain values) was another one.

    The versions count for an unfinished store only: half a store by another decoder would not be the store that
    one run makes.
    """
    changes = changed_keys(PreprocessConfig.model_validate(old["config"]), PreprocessConfig.model_validate(new.config))
    changes = [f"preprocess.{change}" for change in changes]
    changes += [f"the table preprocess.{name}" for name in _differing(old["tables"], new.tables)]
    if old["key_check"] != new.key_check:
        changes.append("the key of --pseudonymize")
    if old["num_images"] != new.num_images:
        changes.append(f"the number of images under --root: {old['num_images']} -> {new.num_images}")
    elif not changes and old["listing"] != new.listing:
        changes.append("names, sizes, ids or annotations of the images under --root")
    if not is_finished:
        before = old["versions"]
        for name in _differing(before, new.versions):
            changes.append(f"the version of {name}: {before.get(name)} -> {new.versions.get(name)}")
    if changes:
        state = "holds" if is_finished else "holds an unfinished part of"
        raise PlaceError(
            f"{place} {state} another store; what changed: {'; '.join(changes)}."
            f" Undo that, give another --out, or remove {place} to begin again"
        )


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _split(study: Study, splits: OneSplitPerPatient, config: PreprocessConfig) -> str:
    if study.split or not study.patient_id:
        return study.split
    given = splits.split(study.patient_id)
    return given or split_of(study.patient_id, config.split_seed, config.validate_fraction, config.test_fraction)


def _plan_study(study: Study, root: Path, split: str) -> Iterator[PlannedImage]:
    for image in study.images:
        yield PlannedImage(
            source=source_name(image.path, root),
            path=str(image.path),
            image_id=image.image_id,
            study_id=study.study_id,
            patient_id=study.patient_id,
            split=split,
            view=image.view,
            boxes=image.boxes,
            mask=image.mask,
            sections=study.sections,
            report_path="" if study.report_path is None else str(study.report_path),
            labels=study.labels,
            num_bytes=_size(image.path),
            frame=image.frame,
        )


def source_name(path: Path, root: Path) -> str:
    """`path` relative to `root` with `/`; it starts with `..` for a file elsewhere. Bytes that are no UTF-8 are
    written as `\\xff`, since a store is UTF-8 throughout.
    """
    whole, start = str(path), f"{root}{os.sep}"
    name = whole.removeprefix(start) if whole.startswith(start) else os.path.relpath(path, root)
    return name.replace(os.sep, "/").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _refuse_early(
    planned: Sequence[PlannedImage], config: PreprocessConfig, rejects: list[Reject]
) -> Iterator[PlannedImage]:
    """The images worth a worker; the others go to `rejects`."""
    seen: set[tuple[str, str]] = set()
    for image in planned:
        code = ""
        if (image.source, image.image_id) in seen:
            code = "duplicate_image"
        elif image.num_bytes < 0:
            code = "file_missing"
        if code:
            rejects.append(Reject(image.source, code, REASONS[code]))
            continue
        seen.add((image.source, image.image_id))
        try:
            if image.view:
                check_view(image.view, config)
        except InputRefused as refusal:
            rejects.append(Reject(image.source, refusal.code, refusal.message))
            continue
        yield image


def _facts(image: PlannedImage) -> list[Any]:
    """What identifies a planned image wherever its release lies: everything but the absolute paths."""
    return [
        image.source,
        image.num_bytes,
        image.image_id,
        image.study_id,
        image.patient_id,
        image.split,
        image.view,
        [[box.label, box.x, box.y, box.width, box.height] for box in image.boxes],
        _mask_facts(image.mask, Path(image.path).parent),
        image.frame,
        dict(image.sections),
        Path(image.report_path).name,
        dict(image.labels),
    ]


def _mask_facts(mask: Mask | None, folder: Path) -> list[Any]:
    """What identifies a mask: numbers as they are, files by size and by place as seen from the image's folder."""
    if mask is None:
        return []
    if isinstance(mask, Path | FileMask):
        paths = (mask,) if isinstance(mask, Path) else mask.paths
        return ["file", *([os.path.relpath(path, folder), _size(path)] for path in paths)]
    return [type(mask).__name__, asdict(mask)]
