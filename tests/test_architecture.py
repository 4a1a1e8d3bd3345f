"""The house, enforced on the syntax tree: import direction, rims, and what never appears in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "placecli"
SOURCES = sorted(PACKAGE.rglob("*.py"))

LAYERS = ("config", "data", "engine", "tasks", "cli")
"""Each layer may import the ones to its left, records, the version and the leaves."""
LEAVES = ("placecli.records", "placecli.metrics", "placecli.engine.losses")
"""Leaves import nothing of ours (metrics may import its own modules); anyone may import them."""
RIMS = {
    "typer": ("placecli.cli",),
    "pydantic": ("placecli.config",),
    "rich": ("placecli.results", "placecli.terminal"),
    **dict.fromkeys(("mmdet", "mmcv", "mmengine"), ("placecli.engine.detection",)),
}
"""Third-party packages that only these modules, and those inside them, import."""
LAYER_OF_PACKAGE = {"pydicom": ("data",), "timm": ("engine",), "transformers": ("engine",), "faiss": ("tasks",)}
FORBIDDEN_IMPORTS = {
    *("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "pandas"),
    *("urllib.request", "requests", "httpx", "http.client", "aiohttp", "ftplib", "telnetlib"),
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc", "registry"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that a module imports, at its top or inside a function; "." marks a relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(name: str) -> int | None:
    """0 for config up to 4 for cli; None for the leaves and the package itself."""
    if any(is_inside(name, leaf) for leaf in LEAVES):
        return None
    parts = name.split(".")
    if len(parts) < 2 or parts[1] == "__version__":
        return None
    part = {"results": "cli", "terminal": "cli", "overrides": "cli", "__main__": "cli"}.get(parts[1], parts[1])
    return LAYERS.index(part) if part in LAYERS else None


def direction_faults(module: str, tree: ast.AST) -> list[str]:
    faults = []
    leaf = next((leaf for leaf in LEAVES if is_inside(module, leaf)), None)
    for name in imported(tree):
        if name.startswith("."):
            faults.append(f"{module}: relative import {name}")
        elif is_inside(name, "placecli"):
            own, other = layer(module), layer(name)
            if leaf is not None and not is_inside(name, leaf):
                faults.append(f"{module}: a leaf imports {name}")
            elif own is not None and other is not None and other > own:
                faults.append(f"{module}: imports {name}, which stands above it")
    return faults


def rim_faults(module: str, tree: ast.AST) -> list[str]:
    faults = []
    for name in imported(tree):
        top = name.split(".")[0]
        if top in RIMS and not any(is_inside(module, rim) for rim in RIMS[top]):
            faults.append(f"{module}: only {', '.join(RIMS[top])} may import {top}")
        if top in LAYER_OF_PACKAGE and module.split(".")[1] not in LAYER_OF_PACKAGE[top]:
            faults.append(f"{module}: only placecli.{LAYER_OF_PACKAGE[top][0]} may import {top}")
        if any(is_inside(name, forbidden) for forbidden in FORBIDDEN_IMPORTS):
            faults.append(f"{module}: imports {name}")
    return faults


def keyword_value(call: ast.Call, keyword: str) -> object:
    for given in call.keywords:
        if given.arg == keyword:
            return given.value.value if isinstance(given.value, ast.Constant) else "computed"
    return None


def call_faults(module: str, tree: ast.AST) -> list[str]:
    faults = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        where = f"{module}:{node.lineno}"
        if name in FORBIDDEN_CALLS:
            faults.append(f"{where}: calls {name}")
        if name == "torch.load" and keyword_value(node, "weights_only") is not True:
            faults.append(f"{where}: torch.load without weights_only=True")
        if keyword_value(node, "allow_pickle") not in (None, False):
            faults.append(f"{where}: allow_pickle")
        if keyword_value(node, "trust_remote_code") not in (None, False):
            faults.append(f"{where}: trust_remote_code")
        if keyword_value(node, "shell") not in (None, False):
            faults.append(f"{where}: shell=True")
    return faults


def size_faults(module: str, text: str) -> list[str]:
    faults = []
    num_lines = text.count("\n")
    if num_lines > 300:
        faults.append(f"{module}: {num_lines} lines, more than 300")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > 60:
                faults.append(f"{module}.{node.name}: {length} lines, more than 60")
    return faults


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of modules, or an empty list."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if cycle := visit(other, [*trail, module]):
                return cycle
        done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


def import_graph() -> dict[str, set[str]]:
    modules = {module_name(path) for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        targets = set()
        for name in imported(ast.parse(path.read_text("utf-8"))):
            # `from package import module` names a module; `from module import thing` names what holds the thing.
            targets.add(name if name in modules else name.rpartition(".")[0])
        graph[module_name(path)] = (targets & modules) - {module_name(path), "placecli"}
    return graph


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_module_keeps_the_house_rules(path: Path) -> None:
    module, text = module_name(path), path.read_text("utf-8")
    tree = ast.parse(text)
    faults = direction_faults(module, tree) + rim_faults(module, tree) + call_faults(module, tree)
    assert faults + size_faults(module, text) == []
    assert not FORBIDDEN_NAMES & set(module.split(".")), "name the thing or inline it"


def test_no_two_modules_import_each_other() -> None:
    assert find_cycle(import_graph()) == []


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("placecli.data.store", "from placecli.engine.place import Place", "above"),
        ("placecli.engine.pretrain", "def f():\n    import placecli.tasks.embed", "above"),
        ("placecli.config", "from placecli.data import store", "above"),
        ("placecli.tasks.demo", "from placecli.cli import main", "above"),
        ("placecli.tasks.demo", "from placecli.terminal import Reporter", "above"),
        ("placecli.engine.losses", "from placecli.config import Preset", "leaf"),
        ("placecli.metrics.grounding", "from placecli.records import Box", "leaf"),
        ("placecli.data.store", "from .records import Row", "relative"),
        ("placecli.tasks.demo", "import typer", "only placecli.cli"),
        ("placecli.data.store", "from pydantic import BaseModel", "only placecli.config"),
        ("placecli.engine.place", "import pydicom", "only placecli.data"),
        ("placecli.tasks.embed", "import timm", "only placecli.engine"),
        ("placecli.tasks.detect", "def f():\n    import mmdet.models", "only placecli.engine.detection"),
        ("placecli.engine.training", "from mmengine.runner import Runner", "only placecli.engine.detection"),
        ("placecli.data.store", "import pickle", "pickle"),
        ("placecli.data.store", "from urllib.request import urlopen", "urllib"),
        ("placecli.data.store", "x = eval('1')", "eval"),
        ("placecli.data.store", "import yaml\nyaml.load('1')", "yaml.load"),
        ("placecli.engine.checkpoint", "import torch\ntorch.load('x')", "weights_only"),
        ("placecli.engine.checkpoint", "import torch\ntorch.load('x', weights_only=False)", "weights_only"),
        ("placecli.data.store", "import numpy\nnumpy.load('x', allow_pickle=True)", "allow_pickle"),
        ("placecli.engine.encoders", "load('x', trust_remote_code=True)", "trust_remote_code"),
        ("placecli.data.store", "import subprocess\nsubprocess.run('x', shell=True)", "shell"),
    ],
)
def test_each_rule_catches_its_fault(module: str, source: str, word: str) -> None:
    tree = ast.parse(source)
    faults = direction_faults(module, tree) + rim_faults(module, tree) + call_faults(module, tree)
    assert len(faults) == 1, faults
    assert word in faults[0]


def test_clean_module_has_no_fault() -> None:
    tree = ast.parse(
        "import torch\nfrom placecli.records import Row\nfrom placecli.metrics.retrieval import recall_at_k"
    )
    assert direction_faults("placecli.engine.pretrain", tree) + rim_faults("placecli.engine.pretrain", tree) == []


def test_long_files_and_functions_are_caught() -> None:
    assert size_faults("m", "\n" * 301) != []
    assert size_faults("m", "def f():\n" + "    x = 1\n" * 60) != []
    assert size_faults("m", "def f():\n" + "    x = 1\n" * 59) == []


def test_cycle_is_caught() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
