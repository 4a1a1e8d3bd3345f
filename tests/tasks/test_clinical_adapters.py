"""Adapters: how each package is called (by a stand-in for it), what is refused, and that no connection is opened."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from placecli.metrics.clinical.findings import FINDINGS
from placecli.records import PlaceError
from placecli.tasks import clinical_adapters
from placecli.tasks.clinical_adapters import chexbert_labels, offline, radeval_scores, radgraph_scores

Install = Callable[..., ModuleType]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install("a.b", name=thing)` puts a module a.b with these names where a package of that name would be."""

    def put(name: str, **contents: Any) -> ModuleType:
        for depth in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:depth])
            module = ModuleType(part)
            module.__spec__ = importlib.util.spec_from_loader(part, loader=None)
            module.__path__ = []
            monkeypatch.setitem(sys.modules, part, module)
        for key, value in contents.items():
            setattr(sys.modules[name], key, value)
        return sys.modules[name]

    return put


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache in the place of this machine's."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(clinical_adapters, "hub_folder", lambda name: folder / name.replace("/", "--"))
    return folder


def radgraph_folder(folder: Path, model: str = "radgraph-xl", encoder: str = "owner/encoder") -> Path:
    (folder / model).mkdir(parents=True)
    config = {"dataset_reader": {"token_indexers": {"bert": {"model_name": encoder}}}}
    (folder / model / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / model / "weights.th").write_bytes(b"weights")
    return folder


class RadGraphStandIn:
    """Calls as radgraph 0.1.18 takes them; the score of a pair is the share of equal words."""

    made: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, reward_level: str, model_type: str | None = None, **kwargs: Any) -> None:
        print("Using device: cpu")
        RadGraphStandIn.made = {"reward_level": reward_level, "model_type": model_type, **kwargs}

    def __call__(self, refs: list[str], hyps: list[str]) -> tuple[Any, Any, list[Any], list[Any]]:
        assert isinstance(refs, list)
        assert all(refs)
        assert all(hyps)
        simple = [float(ref == hyp) for ref, hyp in zip(refs, hyps, strict=True)]
        levels = (simple, [value / 2 for value in simple], [value / 4 for value in simple])
        return tuple(np.mean(level) for level in levels), levels, [], []


def test_radgraph_is_called_as_it_wants(
    install: Install, hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("radgraph.radgraph", CACHE_DIR=str(tmp_path / "cache"), F1RadGraph=RadGraphStandIn)
    folder = radgraph_folder(tmp_path / "weights")
    (hub / "owner--encoder").mkdir(parents=True)
    scores = radgraph_scores(["same", "other", "", "same"], ["same", "one", "text", " "], folder)
    assert RadGraphStandIn.made == {
        "reward_level": "all",
        "model_type": "radgraph-xl",
        "model_cache_dir": str(folder),
    }
    np.testing.assert_array_equal(scores["radgraph_simple"], [1, 0, 0, 0])
    np.testing.assert_array_equal(scores["radgraph_complete"], [0.25, 0, 0, 0])
    assert list(scores) == ["radgraph_simple", "radgraph_partial", "radgraph_complete"]
    assert capsys.readouterr().out == ""


def test_radgraph_looks_in_its_own_cache(install: Install, hub: Path, tmp_path: Path) -> None:
    install("radgraph.radgraph", CACHE_DIR=str(radgraph_folder(tmp_path, "radgraph")), F1RadGraph=RadGraphStandIn)
    (hub / "owner--encoder").mkdir(parents=True)
    radgraph_scores(["a"], ["a"], model="radgraph")
    assert RadGraphStandIn.made["model_cache_dir"] == str(tmp_path)


def test_radgraph_without_weights_is_refused(install: Install, hub: Path, tmp_path: Path) -> None:
    install("radgraph.radgraph", CACHE_DIR=str(tmp_path), F1RadGraph=RadGraphStandIn)
    with pytest.raises(
        PlaceError, match=r"config\.json in .*hf download StanfordAIMI/RRG_scorers radgraph-xl\.tar\.gz"
    ):
        radgraph_scores(["a"], ["a"])
    radgraph_folder(tmp_path)
    with pytest.raises(PlaceError, match=r"radgraph needs owner/encoder .*hf download owner/encoder"):
        radgraph_scores(["a"], ["a"])
    (tmp_path / "radgraph-xl" / "weights.th").unlink()
    with pytest.raises(PlaceError, match=r"weights\.th"):
        radgraph_scores(["a"], ["a"])
    (tmp_path / "radgraph-xl" / "weights.th").touch()
    (tmp_path / "radgraph-xl" / "config.json").write_text("[]", "utf-8")
    with pytest.raises(PlaceError, match="not that of a RadGraph model"):
        radgraph_scores(["a"], ["a"])


class CheXbertStandIn:
    """Labels as f1chexbert 0.0.2 gives them: its own order, '' for what is not mentioned."""

    def __init__(self) -> None:
        self.target_names = [*FINDINGS[1:], FINDINGS[0]]

    def get_label(self, report: str, mode: str = "rrg") -> list[Any]:
        assert mode == "classification"
        states: list[Any] = [""] * 14
        if report == "effusion":
            states[self.target_names.index("Pleural Effusion")] = 1
        if report == "perhaps edema, no fracture":
            states[self.target_names.index("Edema")] = -1
            states[self.target_names.index("Fracture")] = 0
        if report == "normal":
            states[-1] = 1
        return states


def test_chexbert_labels_come_in_our_order(install: Install, hub: Path, tmp_path: Path) -> None:
    package = install("f1chexbert.f1chexbert", CACHE_DIR="elsewhere", F1CheXbert=CheXbertStandIn)
    (tmp_path / "chexbert.pth").touch()
    (hub / "bert-base-uncased").mkdir(parents=True)
    table = chexbert_labels(["effusion ", "perhaps edema, no fracture", "normal", ""], tmp_path)
    assert str(tmp_path) == package.CACHE_DIR
    expected = np.full((4, 14), np.nan)
    expected[0, FINDINGS.index("Pleural Effusion")] = 1
    expected[1, [FINDINGS.index("Edema"), FINDINGS.index("Fracture")]] = -1, 0
    expected[2, FINDINGS.index("No Finding")] = 1
    np.testing.assert_array_equal(table, expected)


def test_chexbert_without_weights_is_refused(install: Install, hub: Path, tmp_path: Path) -> None:
    install("f1chexbert.f1chexbert", CACHE_DIR=str(tmp_path), F1CheXbert=CheXbertStandIn)
    with pytest.raises(PlaceError, match=r"f1chexbert needs chexbert\.pth in .*hf download StanfordAIMI/RRG_scorers"):
        chexbert_labels(["effusion"])
    (tmp_path / "chexbert.pth").touch()
    with pytest.raises(PlaceError, match="hf download bert-base-uncased"):
        chexbert_labels(["effusion"])


class RadEvalStandIn:
    """As radeval 2.2 is called: metrics by name, lists of one score a pair."""

    def __init__(self, metrics: list[str], per_sample: bool = False, show_progress: bool = True) -> None:
        assert per_sample
        assert not show_progress
        self.metrics = metrics

    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, list[float]]:
        assert isinstance(refs, list)
        assert isinstance(hyps, list)
        scores = [float(ref == hyp) for ref, hyp in zip(refs, hyps, strict=True)]
        return {name: scores[:1] if name == "rouge" else scores for name in self.metrics}


def test_radeval_gives_its_own_keys(install: Install) -> None:
    install("radeval", RadEval=RadEvalStandIn)
    scores = radeval_scores(("a", "b"), ("a", "c"), ["bleu", "radcliq"])
    assert list(scores) == ["bleu", "radcliq"]
    np.testing.assert_array_equal(scores["bleu"], [1, 0])
    with pytest.raises(PlaceError, match="RadEval rouge: 2 scores expected"):
        radeval_scores(["a", "b"], ["a", "c"], ["rouge"])


@pytest.mark.parametrize("name", ["crimson", "mammo_green", "radfact_ct", "temporal", "green", "nonsense"])
def test_radeval_metrics_that_need_more_than_files_are_refused(name: str) -> None:
    with pytest.raises(PlaceError, match=f"RadEval metric {name}: unknown, or it needs a server, .*; choose of bleu"):
        radeval_scores(["a"], ["a"], ["bleu", name])


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("radgraph", lambda: radgraph_scores(["a"], ["a"])),
        ("f1chexbert", lambda: chexbert_labels(["a"])),
        ("radeval", lambda: radeval_scores(["a"], ["a"], ["bleu"])),
    ],
)
def test_a_package_that_is_not_here_is_refused_in_one_line(package: str, call: Callable[[], Any]) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"package {package} is installed here")
    with pytest.raises(PlaceError, match=f"package {package} is not installed; pip install {package}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_a_package_raises_is_told_without_the_report(install: Install) -> None:
    class Fails(RadEvalStandIn):
        def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, list[float]]:
            raise RuntimeError(f"cannot score {refs[0]}")

    install("radeval", RadEval=Fails)
    with pytest.raises(PlaceError, match="failed with RuntimeError") as caught:
        radeval_scores(["a"], ["Name of a patient"], ["bleu"])
    assert "patient" not in str(caught.value)


def test_a_package_that_would_download_gets_no_connection(install: Install) -> None:
    class Downloads(RadEvalStandIn):
        def __init__(self, **_: Any) -> None:
            assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
            assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
            socket.create_connection(("127.0.0.1", 9))

    install("radeval", RadEval=Downloads)
    with pytest.raises(PlaceError, match="failed with OSError") as caught:
        radeval_scores(["a"], ["a"], ["bleu"])
    assert "no connection is opened" in str(caught.value.__cause__)


def test_offline_ends_as_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    connect, resolve = socket.socket.connect, socket.getaddrinfo
    with pytest.raises(OSError, match="no connection"), offline():
        socket.getaddrinfo("localhost", 80)
    assert socket.socket.connect is connect
    assert socket.getaddrinfo is resolve
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    with socket.socket() as listener, socket.socket() as caller:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        caller.connect(listener.getsockname())


@pytest.mark.parametrize("reference", [[], ["a", "b"]])
def test_reports_come_in_pairs(reference: list[str]) -> None:
    with pytest.raises(ValueError, match="as many of both"):
        radgraph_scores(["a"][: len(reference)], reference)
