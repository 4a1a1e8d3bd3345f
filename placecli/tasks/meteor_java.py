"""METEOR 1.5 by its published Java program, where the machine has it; `metrics.meteor_statistics` makes scores of it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.bleu import Words, check_cases
from placecli.metrics.meteor_statistics import NUM_STATISTICS
from placecli.records import PlaceError

_JAR: Final = Path("meteor") / "meteor-1.5.jar"
_DATA: Final = Path("meteor") / "data" / "paraphrase-en.gz"
_REMEDY: Final = "install Java and `pip install pycocoevalcap`, or use meteor_exact_stem, which is another metric"


def is_available() -> bool:
    """Whether Java and the program with its data are on this machine."""
    return shutil.which("java") is not None and _find_program() is not None


def measure_segments(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], *, timeout_seconds: float = 1800.0
) -> NDArray[np.float64]:
    """Statistics of each segment, float64 [n, 23], for `meteor_statistics.meteor`; about 10 s before the first.

    Texts are lists of words, as `tokenize` gives them; the program normalises them once more (`-norm`), as pycocoevalcap
    has it do. Raises PlaceError when Java or the program is missing, fails or takes longer than the limit.
    """
    check_cases(candidates, references)
    java, program = shutil.which("java"), _find_program()
    if java is None or program is None:
        raise PlaceError(f"METEOR 1.5: no {'Java' if java is None else 'pycocoevalcap'} on this machine; {_REMEDY}")
    lines = [
        " ||| ".join(["SCORE", *(_line(words) for words in own), _line(candidate)])
        for candidate, own in zip(candidates, references, strict=True)
    ]
    command = [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(program), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        # All lines at once, read to the end: asking line by line is what makes the usual wrapper's pipe break.
        answer = subprocess.run(
            command, input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8", timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired:
        raise PlaceError(f"METEOR 1.5: no answer within {timeout_seconds:.0f} s; give it more time") from None
    except OSError as error:
        raise PlaceError(f"METEOR 1.5: {java} cannot be started ({error.strerror}); {_REMEDY}") from None
    return _parse(answer.stdout, answer.returncode, len(lines))


def _parse(output: str, exit_code: int, num_segments: int) -> NDArray[np.float64]:
    rows = [line.split() for line in output.splitlines() if line.strip()]
    if exit_code != 0 or len(rows) != num_segments or any(len(row) != NUM_STATISTICS for row in rows):
        raise PlaceError(
            f"METEOR 1.5: exit {exit_code}, {len(rows)} answers for {num_segments} segments; it needs 2 GB of memory"
        )
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        raise PlaceError("METEOR 1.5: an answer is not a row of numbers; reinstall pycocoevalcap") from None


def _line(words: Words) -> str:
    """The words as one field of a line of the program's protocol, whose separator is a word of three bars."""
    return " ".join(" ".join(words).replace("|||", "").split())


def _find_program() -> Path | None:
    """The program inside an installed pycocoevalcap, which is found without being imported."""
    found = importlib.util.find_spec("pycocoevalcap")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / _JAR).is_file() and (Path(folder) / _DATA).is_file():
            return Path(folder) / _JAR
    return None
