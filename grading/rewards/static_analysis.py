"""Score of the text of Python programs from 0 to 1, by Ruff's findings. The programs are not run.

The score is computed as Pylint does: 1 − Σ weight / lines, at least 0, where `WEIGHTS` gives the weight of each finding
and blank lines do not count. Comments that silence a rule are ignored, and no configuration is read: either would be
the cheapest way to a good score.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from alphamix.grading.errors import GradingError
from alphamix.grading.types import Program

WEIGHTS: dict[str, float] = {
    "invalid-syntax": math.inf,
    "E9": 5.0,  # errors that prevent running
    "F": 5.0,  # Pyflakes: undefined names, unused names, invalid formats
    "PLE": 5.0,  # Pylint's errors
    "B": 2.0,  # bugbear: likely bugs, such as mutable defaults
    "PLW": 2.0,  # Pylint's warnings
    "C90": 2.0,  # a function too complex to follow
    "E": 1.0,  # pycodestyle
    "W": 1.0,
    "C4": 1.0,  # roundabout comprehensions
    "N": 1.0,  # names
    "PIE": 1.0,
    "RET": 1.0,
    "SIM": 1.0,
    "UP": 1.0,
}
"""Weight of a finding by the prefix of its rule; the longest matching prefix counts. Only these rules are selected."""

_BATCH = 256
_TIMEOUT_S = 120.0
_FINDINGS, _NO_FINDINGS = 1, 0
_SYNTAX = "invalid-syntax"


def scores(programs: Sequence[Program | None]) -> list[float | None]:
    """Return the score of each program; 0 for a missing program, None if it is not Python or if Ruff failed on it.

    Raises GradingError if Ruff is not installed.
    """
    result: list[float | None] = [0.0 if program is None else None for program in programs]
    sources = [(i, p.source) for i, p in enumerate(programs) if p is not None and p.language == "python"]
    ruff = _find_ruff() if sources else ""
    for start in range(0, len(sources), _BATCH):
        batch = sources[start : start + _BATCH]
        for (index, _), score in zip(batch, _score_batch(ruff, [source for _, source in batch]), strict=True):
            result[index] = score
    return result


def _find_ruff() -> str:
    beside_interpreter = str(Path(sys.executable).parent)  # finds it in a virtual environment that is not activated
    ruff = shutil.which("ruff", path=beside_interpreter) or shutil.which("ruff")
    if ruff is None:
        raise GradingError("ruff is not installed, and static analysis needs it: pip install ruff")
    return ruff


def _score_batch(ruff: str, sources: Sequence[str]) -> list[float | None]:
    """Score all sources with one run of Ruff. If it fails, halve the batch until the source at fault is isolated."""
    penalties = _penalties(ruff, sources)
    if penalties is not None:
        return [_score(penalty, source) for penalty, source in zip(penalties, sources, strict=True)]
    if len(sources) == 1:
        return [None]
    middle = len(sources) // 2
    return _score_batch(ruff, sources[:middle]) + _score_batch(ruff, sources[middle:])


def _score(penalty: float, source: str) -> float:
    num_lines = sum(1 for line in source.splitlines() if line.strip())
    return max(0.0, 1.0 - penalty / num_lines) if num_lines else 0.0


def _penalties(ruff: str, sources: Sequence[str]) -> list[float] | None:
    """Return the sum of the weights of all findings for each source; None if Ruff failed."""
    rules = ",".join(start for start in WEIGHTS if start != _SYNTAX)
    options = ["--isolated", "--no-cache", "--ignore-noqa", "--quiet", "--output-format=json", f"--select={rules}"]
    with tempfile.TemporaryDirectory(prefix="alphamix-ruff-") as folder:
        for index, source in enumerate(sources):
            Path(folder, f"{index}.py").write_bytes(source.encode(errors="surrogatepass"))
        try:
            done = subprocess.run([ruff, "check", *options, folder], capture_output=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
    if done.returncode not in (_FINDINGS, _NO_FINDINGS):
        return None
    penalties = [0.0] * len(sources)
    for finding in json.loads(done.stdout):
        penalties[int(Path(finding["filename"]).stem)] += _weight(finding["code"])
    return penalties


def _weight(rule: str | None) -> float:
    """Return the weight of a rule; None, which older versions of Ruff give for syntax errors, counts as one."""
    if rule is None:
        return WEIGHTS[_SYNTAX]
    return WEIGHTS[max((start for start in WEIGHTS if rule.startswith(start)), key=len)]
