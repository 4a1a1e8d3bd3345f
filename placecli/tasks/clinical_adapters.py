"""Clinical metrics that need a trained model, where the user has its package and weights: RadGraph, CheXbert, RadEval.

None of them is a dependency. A package or file that is missing is a PlaceError that names it and says how to get it; nothing
is downloaded, and while such a package runs this process opens no connection. n reports, one of them predicted and one
reference for each study.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from placecli.engine.pretrained_packages import hub_folder
from placecli.metrics.clinical.findings import FINDINGS
from placecli.records import PlaceError

Floats = NDArray[np.float64]
RadGraphModel = Literal["radgraph", "radgraph-xl", "modern-radgraph-xl"]

SOURCE_OF_WEIGHTS: Final = "StanfordAIMI/RRG_scorers"
"""Hub repository that holds chexbert.pth and the archives of RadGraph."""

CHEXBERT_TOKENIZER: Final = "bert-base-uncased"

RADEVAL_OFFLINE: Final = (
    *("bleu", "rouge", "bertscore", "radeval_bertscore", "f1chexbert", "f1radbert_ct", "radgraph", "ratescore"),
    *("radgraph_radcliq", "radcliq", "srrbert"),
)
"""RadEval's metrics that run from files of this machine. Of its others crimson, mammo_green and radfact_ct send reports to a
server, temporal downloads at every start and green runs code that came with its weights."""

_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    # Some of these packages load their weights without `weights_only`: then torch unpickles nothing all the same.
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}


def radgraph_scores(
    predicted: Sequence[str],
    reference: Sequence[str],
    weights: Path | None = None,
    model: RadGraphModel = "radgraph-xl",
) -> dict[str, Floats]:
    """F1RadGraph of each pair by package `radgraph`: `radgraph_simple`, `radgraph_partial`, `radgraph_complete`, each
    float64 [n] in 0..1 (entities; entities with whether they have a relation; entities with their relations).

    `weights` holds the folder `model` (config.json, weights.th, vocabulary); default: where the package looks. A pair with
    an empty report gets 0. Raises PlaceError where the package, its weights or its encoder are not on this machine.
    """
    _check_pairs(predicted, reference)
    with offline():
        package = _import("radgraph", "radgraph.radgraph")
        folder = Path(package.CACHE_DIR) if weights is None else weights
        _check_radgraph(folder, model)
        score = _run("radgraph", package.F1RadGraph, reward_level="all", model_type=model, model_cache_dir=str(folder))
        pairs = [index for index in range(len(predicted)) if predicted[index].strip() and reference[index].strip()]
        found = np.zeros((3, len(predicted)))
        if pairs:
            refs, hyps = [reference[index] for index in pairs], [predicted[index] for index in pairs]
            _, rewards, _, _ = _run("radgraph", score, refs=refs, hyps=hyps)
            found[:, pairs] = np.asarray(rewards, dtype=np.float64)
    return {f"radgraph_{name}": row for name, row in zip(("simple", "partial", "complete"), found, strict=True)}


def chexbert_labels(texts: Sequence[str], weights: Path | None = None) -> Floats:
    """Labels by CheXbert, through package `f1chexbert`: float64 [n, 14] in the order of `findings.FINDINGS`, 1 present, 0
    absent, -1 uncertain, nan not mentioned. `metrics.clinical.agreement` makes F1 of two such tables.

    `weights` is the folder of chexbert.pth; default: where the package looks. Raises PlaceError where the package, its
    weights or its tokenizer are not on this machine.
    """
    with offline():
        package = _import("f1chexbert", "f1chexbert.f1chexbert")
        folder = Path(package.CACHE_DIR) if weights is None else weights
        _check_file("f1chexbert", folder, "chexbert.pth", _fetch("chexbert.pth", folder))
        _check_hub("f1chexbert", CHEXBERT_TOKENIZER)
        setattr(package, "CACHE_DIR", str(folder))  # noqa: B010  the package reads it when it makes the model
        labeler = _run("f1chexbert", package.F1CheXbert)
        columns = [list(labeler.target_names).index(name) for name in FINDINGS]
        table = np.full((len(texts), len(FINDINGS)), np.nan)
        for row, text in enumerate(texts):
            states = _run("f1chexbert", labeler.get_label, text.strip(), mode="classification")
            table[row] = [np.nan if states[column] == "" else states[column] for column in columns]
    return table


def radeval_scores(predicted: Sequence[str], reference: Sequence[str], metrics: Sequence[str]) -> dict[str, Floats]:
    """RadEval's scores of each pair, under its own keys: float64 [n] each.

    `metrics` are names of `RADEVAL_OFFLINE`. Raises PlaceError for another name, and where the package or what a metric
    loads is not on this machine.
    """
    _check_pairs(predicted, reference)
    if unknown := [name for name in metrics if name not in RADEVAL_OFFLINE]:
        raise PlaceError(
            f"RadEval metric {unknown[0]}: unknown, or it needs a server, a download or foreign code; choose of"
            f" {', '.join(RADEVAL_OFFLINE)}"
        )
    with offline():
        package = _import("radeval", "radeval")
        evaluate = _run("radeval", package.RadEval, metrics=list(metrics), per_sample=True, show_progress=False)
        found = _run("radeval", evaluate, refs=list(reference), hyps=list(predicted))
    scores = {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
    for name, values in scores.items():
        if values.shape != (len(predicted),):
            raise PlaceError(f"RadEval {name}: {len(predicted)} scores expected, {values.shape} came; use radeval 2.2")
    return scores


@contextmanager
def offline() -> Iterator[None]:
    """While it lasts this process opens no connection, and the hub's libraries are told so; prints go to stderr.

    The environment alone would not do: a library that was imported before does not look at it again, and not every
    package fetches through one that does.
    """
    before = {name: os.environ.get(name) for name in _OFFLINE}
    connect, resolve = socket.socket.connect, socket.getaddrinfo
    os.environ.update(_OFFLINE)
    socket.socket.connect = _refuse  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = _refuse
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, resolve  # type: ignore[method-assign]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _refuse(*_: Any, **__: Any) -> Any:
    raise OSError("no connection is opened while a metric of another package runs")


def _import(distribution: str, module: str) -> ModuleType:
    if importlib.util.find_spec(distribution) is None:
        raise PlaceError(
            f"package {distribution} is not installed; pip install {distribution} (or use the rule-based labeler)"
        )
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PlaceError(
            f"package {distribution} does not start ({error}); pip install --upgrade {distribution}"
        ) from error


def _run(distribution: str, call: Any, *arguments: Any, **named: Any) -> Any:
    """The result of the package's own code. What it raises may quote a report, so only the kind of error is told."""
    try:
        return call(*arguments, **named)
    except Exception as error:
        raise PlaceError(
            f"package {distribution} failed with {type(error).__name__} (--debug shows it); a file it loads may be missing: run"
            f" it once on a connected machine and copy its cache folders here"
        ) from error


def _check_pairs(predicted: Sequence[str], reference: Sequence[str]) -> None:
    if len(predicted) != len(reference) or not len(predicted):
        raise ValueError(
            f"{len(predicted)} predicted and {len(reference)} reference reports: as many of both are wanted"
        )


def _check_radgraph(folder: Path, model: str) -> None:
    archive = f"{model}.tar.gz"
    remedy = f"{_fetch(archive, folder)} && mkdir {folder / model} && tar -xzf {folder / archive} -C {folder / model}"
    for name in ("config.json", "weights.th"):
        _check_file("radgraph", folder / model, name, remedy)
    config = json.loads((folder / model / "config.json").read_text("utf-8"))
    try:
        encoder = config["dataset_reader"]["token_indexers"]["bert"]["model_name"]
    except (KeyError, TypeError):
        raise PlaceError(f"{folder / model / 'config.json'} is not that of a RadGraph model; {remedy}") from None
    if not Path(encoder).is_dir():
        _check_hub("radgraph", encoder)


def _check_file(distribution: str, folder: Path, name: str, remedy: str) -> None:
    if not (folder / name).is_file():
        raise PlaceError(
            f"{distribution} needs {name} in {folder}; on a connected machine run `{remedy}` and copy the folder"
        )


def _check_hub(distribution: str, repository: str) -> None:
    if not hub_folder(repository).is_dir():
        raise PlaceError(
            f"{distribution} needs {repository} in {hub_folder(repository)}; on a connected machine run `hf download"
            f" {repository}` and copy that folder"
        )


def _fetch(name: str, folder: Path) -> str:
    return f"hf download {SOURCE_OF_WEIGHTS} {name} --local-dir {folder}"
