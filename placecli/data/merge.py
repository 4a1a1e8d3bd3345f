"""Parts -> a finished store: manifest, rejects, counts, checksums, and last store.yaml, which says that it is whole."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from placecli.config import Preset
from placecli.data import reports
from placecli.data.atomic import (
    checksum,
    commit,
    flush_file,
    flush_folder,
    remove_temporaries,
    temporary_path,
    write_file,
)
from placecli.data.decode import REASONS
from placecli.data.identity import OneSplitPerPatient, Pseudonyms
from placecli.data.leaks import LEAKS, write_leaks
from placecli.data.listing import Fingerprint
from placecli.data.manifest import to_row, write_manifest
from placecli.data.parts import read_part, reject_entry
from placecli.data.store import DESCRIPTION, FORMAT, MANIFEST, PARTS, REJECTS, store_digest
from placecli.records import SPLITS, Reject, Row


class Tally:
    """Counts what goes into a store while its rows pass by."""

    def __init__(self) -> None:
        self.rejects: list[dict[str, str]] = []
        self._images: Counter[str] = Counter()
        self._views: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._studies: set[tuple[str, str]] = set()
        self._text_of_study: dict[str, str] = {}
        self._splits = OneSplitPerPatient()
        self._patients: set[tuple[str, str]] = set()
        self._split_of_pixels: dict[str, str] = {}
        self._num_same_pixels_across = 0
        self._pixels_of_image: dict[str, str] = {}
        self.used_reports: set[str] = set()

    def accept(self, row: Row, pixels: str, report: str) -> Row | None:
        """Count the row and return it. None (and a reject) when an earlier image has its id and its pixels.

        Another picture under an id that is taken is kept: headers are copied more often than pictures. Its id
        gets the start of its pixels' hash and it is flagged `image_id_repeated`.
        """
        if self._pixels_of_image.get(row.image_id, pixels) != pixels:
            row = replace(row, image_id=f"{row.image_id}-{pixels[:8]}", flags=(*row.flags, "image_id_repeated"))
        if row.image_id in self._pixels_of_image:
            self.refuse({"source": row.source, "code": "duplicate_image", "message": REASONS["duplicate_image"]})
            return None
        self._pixels_of_image[row.image_id] = pixels
        self._splits.see(row.patient_id, row.split)
        self._patients.add((row.split, row.patient_id))
        self._images[row.split] += 1
        self._views[row.view or "unknown"] += 1
        self._flags.update(row.flags)
        self._studies.add((row.split, row.study_id))
        text = reports.text_key(row.sentences) if row.sentences else ""
        self._text_of_study[row.study_id] = self._text_of_study.get(row.study_id) or text
        if self._split_of_pixels.setdefault(pixels, row.split) != row.split:
            self._num_same_pixels_across += 1
        if report:
            self.used_reports.add(report)
        return row

    def refuse(self, reject: dict[str, str]) -> None:
        self.rejects.append(reject)

    def check_splits(self) -> None:
        """Raises PlaceError for a patient in two splits; the ids are as the store has them."""
        self._splits.check(Pseudonyms(None))

    @property
    def num_patients_across_splits(self) -> int:
        return self._splits.num_in_two

    def counts(self) -> dict[str, Any]:
        """Everything that store.yaml and the summary tell, in a fixed order."""
        studies, patients = (Counter(split for split, _ in pairs) for pairs in (self._studies, self._patients))
        texts = Counter(text for text in self._text_of_study.values() if text)
        splits = {
            split: {"images": self._images[split], "studies": studies[split], "patients": patients[split]}
            for split in SPLITS
        }
        return {
            "images": self._images.total(),
            "studies": len({study for _, study in self._studies}),
            "patients": len({patient for _, patient in self._patients}),
            "rejected": len(self.rejects),
            "splits": splits,
            "views": dict(sorted(self._views.items())),
            "rejects": dict(sorted(Counter(reject["code"] for reject in self.rejects).items())),
            "flags": dict(sorted(self._flags.items())),
            "reports": {
                "empty": sum(not text for text in self._text_of_study.values()),
                "distinct": len(texts),
                "duplicate": texts.total() - len(texts),
            },
            "same_pixels": self._images.total() - len(self._split_of_pixels),
            "same_pixels_across_splits": self._num_same_pixels_across,
        }


def merge_parts(
    out: Path,
    num_parts: int,
    early_rejects: Iterable[Reject],
    preset: Preset,
    fingerprint: Fingerprint,
    pseudonyms: Pseudonyms,
    num_reports: int | None,
) -> dict[str, Any]:
    """Write manifest, rejects and store.yaml from complete parts and remove them; returns the content of store.yaml.

    Every byte follows from the parts, so a merge that was killed is simply made again. `num_reports` is the
    number of lines in a table of reports, to count the ones that no image used. Raises PlaceError for a patient
    in two splits.
    """
    tally = Tally()
    files: dict[str, dict[str, Any]] = {}
    temporary = temporary_path(out / MANIFEST)
    write_manifest(temporary, _rows(out, num_parts, tally, files))
    across = {}
    if preset.preprocess.splits == "clean":
        tally.check_splits()
    else:  # published splits have patients in two parts; they are told, not refused
        across = {"patients_across_splits": tally.num_patients_across_splits}
    flush_file(temporary)
    commit(temporary, out / MANIFEST)
    for reject in early_rejects:
        tally.refuse(reject_entry(reject, pseudonyms)["reject"])
    tally.rejects.sort(key=lambda reject: (reject["source"], reject["code"], reject["message"]))
    lines = [json.dumps(reject, ensure_ascii=False) + "\n" for reject in tally.rejects]
    write_file(out / REJECTS, "".join(lines).encode("utf-8", "replace"))
    leaks = write_leaks(out)
    for name in (MANIFEST, REJECTS, LEAKS):
        files[name] = {"bytes": (out / name).stat().st_size, "sha256": checksum(out / name)}
    description = {
        "format": FORMAT,
        "digest": store_digest(files),
        "pseudonymized": pseudonyms.is_active,
        "counts": tally.counts() | across | _unused(num_reports, tally),
        "leaks": leaks,
        "fingerprint": asdict(fingerprint),
        "preset": _public_preset(preset, pseudonyms).model_dump(mode="json"),
        "files": dict(sorted(files.items())),
    }
    _remove_strangers(out, files)
    write_file(out / DESCRIPTION, yaml.safe_dump(description, sort_keys=False, allow_unicode=True).encode())
    remove_parts(out)
    return description


def remove_parts(out: Path) -> None:
    """Delete the parts of a store whose store.yaml is there."""
    shutil.rmtree(out / PARTS, ignore_errors=True)
    remove_temporaries(out)
    flush_folder(out)


def _rows(out: Path, num_parts: int, tally: Tally, files: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for number in range(num_parts):
        written, entries = read_part(out, number)
        files.update(written)
        for entry in entries:
            if "reject" in entry:
                tally.refuse(entry["reject"])
                continue
            row = tally.accept(to_row(entry["row"]), entry["pixels"], entry["report"])
            if row is not None:
                yield row


def _unused(num_reports: int | None, tally: Tally) -> dict[str, int]:
    return {} if num_reports is None else {"unused_reports": max(0, num_reports - len(tally.used_reports))}


def _public_preset(preset: Preset, pseudonyms: Pseudonyms) -> Preset:
    """The preset as store.yaml shows it: with pseudonyms without the paths, which can name people or places."""
    if not pseudonyms.is_active:
        return preset
    section = preset.preprocess.model_copy(update={"reports": None, "labels": None})
    return preset.model_copy(update={"preprocess": section})


def _remove_strangers(out: Path, files: Mapping[str, Any]) -> None:
    """Delete shards that an abandoned store left in the same folder."""
    for pattern in ("images-*.npy", "masks-*.npy"):
        for path in out.glob(pattern):
            if path.name not in files:
                path.unlink()
