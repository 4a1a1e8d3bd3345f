"""Parts of an unfinished store: consecutive runs of planned images, each committed whole before the next begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from placecli.config import PreprocessConfig
from placecli.data import dicom
from placecli.data.atomic import FrameWriter, checksum, write_file
from placecli.data.decode import REASONS, DecodedImage, PlannedImage, check_view, make_report
from placecli.data.identity import Pseudonyms, split_of
from placecli.data.manifest import to_record
from placecli.data.pool import WorkerDeath
from placecli.data.store import PARTS, images_name, masks_name
from placecli.records import InputRefused, Reject, Row

FindReport = Callable[[str, str, str], Mapping[str, str] | None]
"""(source, study id, accession) -> sections and other cells of a line of the table of reports, or None."""

Outcome = DecodedImage | Reject | WorkerDeath


@dataclass(frozen=True, slots=True)
class PartWriter:
    """What turning outcomes into a part needs to know, beside the outcomes."""

    out: Path
    config: PreprocessConfig
    pseudonyms: Pseudonyms
    find_report: FindReport | None

    def write(self, number: int, outcomes: Iterable[tuple[PlannedImage, Outcome]]) -> None:
        """Write part `number`: pixels, masks, and last the record that says that it is there."""
        size = self.config.size
        names = (images_name(number), masks_name(number))
        images, masks = (FrameWriter(self.out / name, size) for name in names)
        lines = []
        with closing(images), closing(masks):
            for planned, outcome in outcomes:
                lines.append(self._entry(planned, outcome, number, images, masks))
            images.commit()
            masks.commit()
        written = [self.out / name for name, frames in zip(names, (images, masks), strict=True) if frames.num_frames]
        files = {path.name: {"bytes": path.stat().st_size, "sha256": checksum(path)} for path in written}
        lines.insert(0, {"files": files})
        text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
        # A table of reports can hold half a surrogate pair, which no text file can: it becomes a question mark.
        write_file(part_path(self.out, number), text.encode("utf-8", "replace"))

    def _entry(
        self, planned: PlannedImage, outcome: Outcome, number: int, images: FrameWriter, masks: FrameWriter
    ) -> dict[str, Any]:
        if isinstance(outcome, WorkerDeath):
            code = f"worker_{outcome.kind}"
            message = f"{REASONS[code]} ({outcome.detail})"
            return reject_entry(Reject(planned.source, code, message), self.pseudonyms)
        if isinstance(outcome, Reject):
            return reject_entry(outcome, self.pseudonyms)
        try:
            joined = self._join(planned, outcome)
        except InputRefused as refusal:
            return reject_entry(Reject(planned.source, refusal.code, refusal.message), self.pseudonyms)
        row = self._row(planned, joined)
        placed = {"shard": number, "row": images.append(outcome.pixels), "mask_row": -1}
        if outcome.mask is not None:
            placed["mask_row"] = masks.append(outcome.mask)
        return {"row": to_record(row) | placed, "pixels": outcome.pixels_hash, "report": joined.report_line}

    def _join(self, planned: PlannedImage, decoded: DecodedImage) -> DecodedImage:
        """The image with what the table of reports says about it; the table goes before the header.

        Raises InputRefused for a view or a report that the preset does not keep.
        """
        if self.find_report is None:
            return decoded
        line = self.find_report(planned.source, decoded.study_id, decoded.accession) or {}
        view = planned.view or line.get("view", "") or decoded.view
        check_view(view, self.config)
        report, flags = make_report(line, self.config)
        filled = {f"{name}_missing" for name in ("patient_id", "study_id") if name in line}
        return replace(
            decoded,
            study_id=line.get("study_id", decoded.study_id),
            patient_id=line.get("patient_id", decoded.patient_id),
            split=planned.split or line.get("split", ""),
            view=view,
            report=report,
            report_line=line.get("line", ""),
            flags=tuple(flag for flag in (*decoded.flags, *flags) if flag not in filled),
        )

    def _row(self, planned: PlannedImage, decoded: DecodedImage) -> Row:
        config, of, report = self.config, self.pseudonyms.of, decoded.report
        split = decoded.split or split_of(
            decoded.patient_id, config.split_seed, config.validate_fraction, config.test_fraction
        )
        return Row(
            image_id=of("image", decoded.image_id),
            study_id=of("study", decoded.study_id),
            patient_id=of("patient", decoded.patient_id),
            split=split,
            view=decoded.view,
            shard=-1,
            row=-1,
            content=decoded.content,
            sentences=report.sentences,
            findings=report.findings,
            impression=report.impression,
            labels=planned.labels,
            boxes=decoded.boxes,
            mask_row=-1,
            source=of("source", planned.source),
            flags=decoded.flags,
        )


def part_path(out: Path, number: int) -> Path:
    """The record of a part; the part is complete exactly when this file is there."""
    return out / PARTS / f"part-{number:05d}.jsonl"


def read_part(out: Path, number: int) -> tuple[dict[str, dict[str, Any]], Iterator[dict[str, Any]]]:
    """Files of a part by name with size and checksum, and its entries: a `row` or a `reject` for each planned image."""
    stream = part_path(out, number).open("r", encoding="utf-8")
    header = json.loads(stream.readline())

    def entries() -> Iterator[dict[str, Any]]:
        with stream:
            for line in stream:
                yield json.loads(line)

    return header["files"], entries()


def reject_entry(reject: Reject, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """The reject as an entry. With pseudonyms the message is the code's fixed meaning: a reader's may quote ids."""
    message = reject.message
    if pseudonyms.is_active:
        meanings = {**dicom.REASONS, **REASONS}
        message = meanings.get(reject.code, reject.code.replace("_", " "))
    return {"reject": {"source": pseudonyms.of("source", reject.source), "code": reject.code, "message": message}}
