"""Wrong values, folders and tables that the public face is given, and runs that cannot be finished."""

import errno
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alphamix
from alphamix import _checks as checks
from alphamix.ensemble.analysis.run_analysis import analyse
from alphamix.ensemble.cli import main
from alphamix.ensemble.experiment.schema import AnalysisSection
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.write import write_report
from alphamix.ensemble.run.executor import Unfinished
from alphamix.ensemble.run.pipeline import Result
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

ROOT = Path(__file__).parents[1]
LADDER = ROOT / "examples" / "ladder"
QUICKSTART = LADDER / "quickstart.toml"


@pytest.fixture(scope="module")
def outcomes() -> alphamix.OutcomesTable:
    return alphamix.read_outcomes(ROOT / "results" / "quickstart" / "outcomes.csv")


def cell(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"problem": ["a"], "policy": ["x"], "n": [4], "c": [1]} | columns)


HOLE = pd.concat([cell(), cell(problem=["b"]), cell(policy=["y"])])

Ask = Callable[[Any, Path], object]
"""A call with a wrong value: of any type, since types are not checked when a program runs."""

WRONG: list[tuple[Ask, str]] = [
    *(
        (
            (lambda table, _, k=k: table.pass_at_k(k)),
            f"^k is {shown}: give a whole number of samples, from 1 to 1,000,000$",
        )
        for k, shown in [
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (np.float64("nan"), "nan"),
            (None, "None"),
            ("8", "'8'"),
            (True, "True"),
            ([1, None], "None"),
            (10**30, f"{10**30}"),
        ]
    ),
    (lambda table, _: table.pass_at_k([]), r"^k is \[\]: give one whole number"),
    (lambda table, _: table.pairs("1"), "^k is '1': give a whole number"),
    (lambda table, _: table.coverage({"low": 10**30}), "^low is 10+: give a whole number"),
    (lambda table, _: table.coverage({"low": "4"}), "^low is '4': give a whole number"),
    (lambda table, _: table.coverage({1: 2}), "unknown policy 1 in the outcomes: did you mean"),
    (lambda table, _: table.coverage("low"), "^allocation is 'low': give a dictionary"),
    (lambda table, _: table.coverage({"low": 4}, level="0.95"), "^level is '0.95': give a number between 0 and 1"),
    (lambda table, _: table.best_mixture("8"), "^budget is '8': give a finite number$"),
    (lambda table, _: table.best_mixture(8, "gold"), "^currency is 'gold': give 'samples', 'tokens' or 'seconds'$"),
    (lambda table, _: table.best_mixture(8, seed=-1), "^seed is -1: give a whole number, 0 or more$"),
    (lambda table, _: table.best_mixture(8, seed="x"), "^seed is 'x': give a whole number"),
    (lambda table, _: table.best_mixture(8, min_policies=1.5), "^min_policies is 1.5: give a whole number of policies"),
    (lambda table, _: table.best_mixture(8, min_policies=-1), "^min_policies is -1: give a whole number of policies"),
    (lambda table, _: table.best_mixture(8, min_policies="2"), "^min_policies is '2': give a whole number of policies"),
    (
        lambda table, path: table.report(path, 8, alphas={"low": float("inf")}),
        r"^alphas\['low'\] is inf: give a finite",
    ),
    (lambda table, path: table.report(path, 8, alphas={"low": "0"}), r"^alphas\['low'\] is '0': give a finite"),
    (lambda table, path: table.report(path, 8, alphas={"lw": 0.0}), "unknown policy 'lw' .* did you mean 'low'"),
    (lambda table, path: table.report(path, 8, alphas=5), "^alphas is 5: give a dictionary"),
    (lambda table, path: table.report(path, 2e6), "is too large: give at most"),
    (lambda table, path: table.report(path / "run", 8), "run is the folder of a run: give another folder$"),
    (lambda table, path: table.report(path / "file" / "x", 8), "since a file has that name: give another folder$"),
    (lambda table, path: table.report(path / ("n" * 300), 8), r"\(File name too long\): give a shorter name$"),
    (lambda table, _: table.report("/proc/x", 8), r"^/proc/x cannot be written \(.*\): give another folder$"),
    (lambda table, _: table.report(5, 8), "^folder is 5: give the path"),
    (
        lambda _, __: alphamix.read_outcomes(cell(), missing="drop"),
        "^missing is 'drop': give 'error', 'drop-problems' or",
    ),
    (lambda _, __: alphamix.read_outcomes(HOLE), "`--missing drop-problems` .* in Python by missing='drop-problems'"),
    (
        lambda _, __: alphamix.read_outcomes(5),
        "^source is 5: give the path of a CSV or Parquet file, or a pandas frame$",
    ),
    (lambda _, __: alphamix.read_outcomes(None), "^source is None: give"),
    (lambda _, __: alphamix.read_outcomes({"n": [1]}), "^source is {'n': .*}: give"),
    (
        lambda _, __: alphamix.read_outcomes(cell(n=[4 + 1j])),
        "^the frame has complex numbers in the column n: give real",
    ),
    (
        lambda _, __: alphamix.read_outcomes(pd.concat([cell(), cell()[["n"]]], axis=1)),
        "^the frame has 2 columns named 'n': keep one",
    ),
    (lambda _, path: alphamix.Run(path), "holds no run: give the folder of one"),
    (
        lambda _, path: alphamix.open_run(path / ("n" * 300)),
        r"cannot be read \(File name too long\): give that of a run$",
    ),
    (lambda _, __: alphamix.open_run(5), "^folder is 5: give the path of the folder of a run$"),
    (lambda _, __: alphamix.run_experiment(5), "^experiment is 5: give the path of an experiment file$"),
    (lambda _, __: small_run(5), "^output_dir is 5: give the path"),
    (lambda _, path: small_run(path / "file"), "since a file has that name: give another folder$"),
    (lambda _, __: small_run("/proc/x"), r"^/proc/x cannot be written \(.*\): give another folder$"),
]


def small_run(folder: Any, use: tuple[str, ...] = ("low",), **budget: Any) -> alphamix.Run:
    return alphamix.run_experiment(
        name="small",
        output_dir=folder,
        problems={"file": LADDER / "problems.jsonl", "limit": 2},
        policies={"file": LADDER / "policies.toml", "use": use},
        sampling={"max_tokens": 32},
        budget={"samples": 2, **budget},
    )


@pytest.mark.parametrize(("ask", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_inputs_are_one_line(ask: Ask, message: str, outcomes: alphamix.OutcomesTable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STORE_NAME).touch()
    with pytest.raises(alphamix.AlphamixError, match=message) as caught:
        ask(outcomes, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("eight", [8, 8.0, np.int64(8), np.float32(8), np.array(8), [8], np.array([8]), pd.Series([8])])
def test_whole_numbers_of_any_kind_are_accepted(outcomes: alphamix.OutcomesTable, eight: Any) -> None:
    assert outcomes.pass_at_k(eight).equals(outcomes.pass_at_k(8))


def test_an_allocation_may_be_a_series(outcomes: alphamix.OutcomesTable) -> None:
    assert outcomes.coverage(pd.Series({"low": 4, "high": 4.0})) == outcomes.coverage({"low": 4, "high": 4})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EROFS, "give a folder that you may write to"),
        (errno.EACCES, "give a folder that you may write to"),
        (errno.ENOSPC, "free some space, or give another folder"),
    ],
)
def test_a_folder_that_cannot_be_written_has_the_cure_of_its_cause(
    number: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    with pytest.raises(alphamix.AlphamixError, match=rf"cannot be written \(refused\): {cure}$"):
        checks.folder(tmp_path)


@pytest.fixture
def no_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy `high` cannot be opened, as without torch."""
    opened = Registry.open

    def open_or_refuse(registry: Registry, name: str, options: EngineOptions) -> Any:
        if name == "high":
            raise PolicyError("torch is missing:\ninstall it.")
        return opened(registry, name, options)

    monkeypatch.setattr(Registry, "open", open_or_refuse)


@pytest.mark.usefixtures("no_high")
def test_a_run_that_cannot_be_sampled_raises_and_says_why(tmp_path: Path) -> None:
    message = (
        r"4 samples .* missing \(4 × high: cannot be sampled: torch is missing: install it.\): mend the cause, then"
    )
    with pytest.raises(alphamix.AlphamixError, match=message):
        small_run(tmp_path / "run", ("high",))
    run = alphamix.open_run(tmp_path / "run")
    assert (run.owed, run.rejected) == (0, 4)
    assert {"problem_id", "policy", "completion", "prompt_tokens", "seed"} <= set(run.samples().columns)
    assert {"problem_id", "policy", "verdict", "tests_passed"} <= set(run.verdicts().columns)
    assert len(run.samples()) == len(run.verdicts()) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_high")
def test_a_run_with_one_dead_policy_warns_and_keeps_the_others(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"missing \(4 × high: cannot be sampled: torch"):
        run = small_run(tmp_path / "run", ("low", "high"))
    assert (run.owed, run.rejected) == (0, 4)
    assert run.samples()["policy"].unique().tolist() == ["low"]


def test_a_run_whose_limit_is_spent_warns_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / STORE_NAME):
        pass
    owed = Counter({"low: not asked, since budget.run.tokens = 1 is spent": 3})
    monkeypatch.setattr("alphamix._runs.run", lambda *_: Result(None, Unfinished(owed, Counter())))
    with pytest.warns(UserWarning, match=r"give a higher budget\.run\.tokens, then the same call"):
        small_run(tmp_path, run={"tokens": 1})


def test_opening_a_run_loads_nothing_that_draws() -> None:
    code = (
        "import sys; from alphamix import *; "
        "print([name for name in ('matplotlib', 'jinja2', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_report_without_the_extra_has_its_numbers_and_says_what_its_page_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="jinja2")

    monkeypatch.setattr(checks.importlib, "import_module", without)
    table = Outcomes(("p",), ("a",), np.array([[2]]), np.array([[1]]), {}, {})
    section = AnalysisSection()
    analysis = analyse(table, {"a": None}, {}, table.budget(2), {}, section, ())
    with pytest.raises(alphamix.AlphamixError, match=r"needs the package jinja2: pip install 'alphamix\[report\]'"):
        write_report(analysis, tmp_path, "mine", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims.json", "outcomes.csv", "summary.json"]


@pytest.mark.parametrize("folder", ["/proc/x", "file"])
def test_commands_refuse_folders_that_cannot_be_written(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "run").mkdir()
    with Store(tmp_path / "run" / STORE_NAME):
        pass
    for command in (["run", str(QUICKSTART), "-o", folder], ["export", "run", "-o", folder]):
        with pytest.raises(SystemExit) as end:
            main(command)
        error = capsys.readouterr().err
        assert end.value.code == 2
        assert error.startswith(f"error: {folder} cannot be ")
        assert error.endswith(": give another folder\n")
