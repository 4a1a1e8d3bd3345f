"""`place generate-report`: image files in, a report each out, with where each sentence looked and what supports it."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from placecli.config import Preset, ReportGenerationConfig, load_preset
from placecli.engine import checkpoint
from placecli.engine.augment import prepare
from placecli.engine.distributed import choose_device
from placecli.records import PlaceError, Reject
from placecli.tasks.classify import image_size_of
from placecli.tasks.embed import Progress
from placecli.tasks.queries import Query, QueryImage, image_queries, read_images
from placecli.tasks.report_candidates import Known, open_known
from placecli.tasks.report_grounding import Grounder, load_grounder
from placecli.tasks.report_telling import Seen, tell
from placecli.tasks.report_text import Vocabulary, read_vocabulary
from placecli.tasks.report_views import join_views
from placecli.tasks.report_writer import ReportWriter, Views
from placecli.tasks.tuned import TunedRun, is_tuned, load_tuned

logger = logging.getLogger(__name__)

TASK: Final = "report-generation"
BATCH: Final = 16
_FORM: Final = (
    'a line is a path, {"image": path} or {"images": [path, path]}, with "image_id" and "study_id" if you like'
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One study whose report is wanted. `name` is what the answer repeats in `query`; `image_id` is told from the file
    where it is not given; `study_id` "" is not known."""

    name: str
    images: tuple[Path, ...]
    image_id: str
    study_id: str = ""


def gather(paths: Sequence[str], stdin: Iterable[str]) -> Iterable[Asked | Reject]:
    """What a command line asks: files and folders, then stdin where a path is "-" or there is none.

    A list, so that its length is known, unless stdin is read; PlaceError is then raised where in all nothing is asked.
    """
    asked = (_of_file(query) for query in image_queries(path for path in paths if path != "-"))
    if "-" in paths or not paths:
        return _need_one(itertools.chain(asked, read_lines(stdin)))
    return list(asked)


def read_lines(lines: Iterable[str]) -> Iterator[Asked | Reject]:
    """Studies of a pipe: paths, or objects with a path under "image", "path" or "query" or two under "images".

    A hit of `place retrieve` asks for its query, once; its "image_id" is that of the hit. A line that is none of these is
    a Reject with code `line_invalid`; empty lines are skipped.
    """
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("{"):
            yield from _of_path(stripped, number)
        elif stripped:
            yield from _of_record(stripped, number)


def newest_report_run(folder: Path = Path("runs")) -> Path:
    """The run of reports under `folder` whose model was written last. Raises PlaceError where there is none."""
    found = [
        path.parent for pattern in ("*", "*/seed-*") for path in Path(folder).glob(f"{pattern}/{checkpoint.MODEL}")
    ]
    runs = [run for run in found if is_tuned(run) and (run / checkpoint.CONFIG).is_file() and _task_of(run) == TASK]
    if not runs:
        raise PlaceError(
            f"no run that writes reports under {folder}; make one with `place finetune --task {TASK}`, or name it with --run"
        )
    return max(runs, key=lambda run: ((run / checkpoint.MODEL).stat().st_mtime_ns, run.name))


def plan(run: Path, config: ReportGenerationConfig) -> dict[str, Any]:
    """What `generate_reports` would write with; writes nothing. Raises PlaceError for a run of no use."""
    writer = _Writer.open(run, config, "cpu", is_planning=True)
    return {
        "run": str(run),
        "model": writer.run.digest,
        "words": len(writer.vocabulary),
        "sections": list(writer.vocabulary.sections),
        "views": config.views,
        "num_beams": config.num_beams,
        "max_tokens": config.max_tokens,
        "grounding": config.grounding,
        "has_scores": writer.grounder is not None,
        "candidates": config.candidates,
    }


def generate_reports(
    run: Path,
    asked: Iterable[Asked | Reject],
    *,
    config: ReportGenerationConfig | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    refused: Callable[[int, Reject], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """One record for each study that can be read: {"query", "image_id", "study_id", "findings", "impression", "report",
    "taken_from", "sentences"}; docs/reports.md defines each key.

    config: how to search and to ground; None takes the run's. refused: called with the number of the study (from 1) and the
    reason where an image cannot be used; None writes it to stderr as a line of JSON. Raises PlaceError for a run of no
    use.
    """
    writer = _Writer.open(run, config, device)
    number = 0
    for batch in _batches(asked, BATCH):
        answers = writer.answer(batch)
        for answer in answers:
            number += 1
            if isinstance(answer, Reject):
                (refused or _report)(number, answer)
            else:
                yield answer
        if progress is not None:
            progress("write reports", number, len(asked) if isinstance(asked, list) else 0)


@dataclass(frozen=True, slots=True)
class _Writer:
    """A run that is ready to write."""

    run: TunedRun
    model: ReportWriter
    config: ReportGenerationConfig
    vocabulary: Vocabulary
    grounder: Grounder | None
    known: Known | None
    device: torch.device

    @classmethod
    def open(
        cls, run: Path, config: ReportGenerationConfig | None, device: str, *, is_planning: bool = False
    ) -> _Writer:
        """is_planning: without the train studies, whose index may have to be written."""
        where = choose_device(device)
        loaded = load_tuned(run, where)
        if not isinstance(loaded.model, ReportWriter):
            raise PlaceError(f"{run}: tuned for {loaded.task}; reports need a run of `place finetune --task {TASK}`")
        own = loaded.preset.finetune.report_generation
        chosen = config or own
        if chosen.max_tokens > own.max_tokens:
            raise PlaceError(f"max_tokens {chosen.max_tokens}: {run} writes at most {own.max_tokens}")
        grounder = None
        try:
            grounder = load_grounder(loaded.preset, loaded.model.reference, where)
        except PlaceError as error:
            if chosen.grounding != "none":
                raise
            logger.warning("%s", error)
        vocabulary, known = read_vocabulary(loaded.about), None
        try:
            if not is_planning:
                known = open_known(_with(loaded.preset, chosen), loaded.about, vocabulary, where)
        except PlaceError as error:
            logger.warning("%s", error)
        return cls(loaded, loaded.model, chosen, vocabulary, grounder, known, where)

    def answer(self, batch: Sequence[Asked | Reject]) -> list[dict[str, Any] | Reject]:
        """A record or a reject for each, in their order."""
        studies = [each for each in batch if isinstance(each, Asked)]
        read = self._read(studies)
        good = [images for images in read if not isinstance(images, Reject)]
        told = iter(self._tell(good) if good else [])
        answers = (
            images if isinstance(images, Reject) else {**_ids(study), **next(told)}
            for study, images in zip(studies, read, strict=True)
        )
        return [each if isinstance(each, Reject) else next(answers) for each in batch]

    def _read(self, studies: Sequence[Asked]) -> list[list[QueryImage] | Reject]:
        """Pixels of each study's first images; one that cannot be used refuses its study."""
        rules, num = self.run.preset.preprocess, self.config.views
        paths = [path for study in studies for path in study.images[:num]]
        answers = iter(read_images(paths, rules.size, rules))
        read: list[list[QueryImage] | Reject] = []
        for study in studies:
            own = [next(answers) for _ in study.images[:num]]
            refusals = [each for each in own if isinstance(each, Reject)]
            read.append(refusals[0] if refusals else [each for each in own if isinstance(each, QueryImage)])
        return read

    def _tell(self, studies: Sequence[Sequence[QueryImage]]) -> list[dict[str, Any]]:
        pixels = np.stack([image.pixels for study in studies for image in study])
        size = image_size_of(self.run.preset, self.config)
        images = prepare(torch.from_numpy(pixels).unsqueeze(1).to(self.device), size)
        joined, present = join_views(images, studies, self.config.views)
        seen = [Seen(study[0].pixels, study[0].content) for study in studies]
        views = Views(joined, None, present)
        return tell(self.model, self.vocabulary, self.config, views, seen, self.grounder, self.known)


def _with(preset: Preset, config: ReportGenerationConfig) -> Preset:
    return preset.model_copy(update={"finetune": preset.finetune.model_copy(update={"report_generation": config})})


def _ids(study: Asked) -> dict[str, Any]:
    return {"query": study.name, "image_id": study.image_id, "study_id": study.study_id or None}


def _of_file(query: Query) -> Asked:
    assert query.image is not None
    return Asked(query.name, (query.image,), query.image.stem)


def _of_path(path: str, number: int) -> Iterator[Asked | Reject]:
    """A folder without images ends a command that names it, but not a pipe of which it is one line."""
    try:
        yield from (_of_file(query) for query in image_queries([path]))
    except PlaceError:
        yield Reject(f"line {number}", "folder_empty", "no DICOM, PNG or JPEG file in this folder")


def _of_record(line: str, number: int) -> Iterator[Asked | Reject]:
    invalid = Reject(f"line {number}", "line_invalid", _FORM)
    try:
        record = json.loads(line)
    except ValueError:
        yield invalid
        return
    is_hit = "rank" in record
    if is_hit and record["rank"] != 1:
        return
    given = record.get("images") or next((record[key] for key in ("image", "path", "query") if record.get(key)), None)
    images = [given] if isinstance(given, str) else given
    if not isinstance(images, list) or not images or not all(isinstance(image, str) and image for image in images):
        yield invalid
        return
    if is_hit:
        yield from _of_path(images[0], number)
        return
    paths = tuple(map(Path, images))
    ids = [str(record.get(key) or "") for key in ("image_id", "study_id")]
    yield Asked(images[0], paths, ids[0] or paths[0].stem, ids[1])


def _need_one(asked: Iterable[Asked | Reject]) -> Iterator[Asked | Reject]:
    is_empty = True
    for each in asked:
        is_empty = False
        yield each
    if is_empty:
        raise PlaceError("nothing was asked: stdin has no line; give a path, or lines on stdin")


def _task_of(run: Path) -> str:
    try:
        return load_preset(str(run / checkpoint.CONFIG)).finetune.task
    except PlaceError:
        return ""  # of another version; naming it with --run says what is wrong


def _report(number: int, reject: Reject) -> None:
    # The path may name a patient: the line says which study it was by its number.
    logger.error("%s", json.dumps({"query": number, "code": reject.code, "message": reject.message}))


def _batches(asked: Iterable[Asked | Reject], size: int) -> Iterator[list[Asked | Reject]]:
    waiting = iter(asked)
    while batch := list(itertools.islice(waiting, size)):
        yield batch
