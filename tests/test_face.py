"""The public face: its names, docstrings and documentation agree, its examples run, and importing it is cheap."""

import doctest
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alphamix

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "vllm", "numpy", "pandas", "pydantic", "scipy", "matplotlib", "starlette")
IMPORT_CPU_S = 0.15


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples find what a clone of the repository holds, and may write."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").symlink_to(ROOT / "examples")
    shutil.copytree(ROOT / "results" / "quickstart", folder / "results" / "quickstart")
    return folder


def documented() -> dict[str, str]:
    """First sentence of each name in the table of docs/python.md."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", text, re.MULTILINE))


def test_names_all_and_documentation_agree() -> None:
    first_sentences = {
        name: (inspect.getdoc(getattr(alphamix, name)) or "").splitlines()[0] for name in alphamix.__all__
    }
    assert documented() == first_sentences
    assert set(alphamix.__all__) <= set(dir(alphamix))
    assert list(alphamix.__all__) == sorted(alphamix.__all__)


def test_every_public_name_is_typed_and_has_an_example() -> None:
    for name in alphamix.__all__:
        value = getattr(alphamix, name)
        assert ">>> " in (inspect.getdoc(value) or ""), f"{name} has no example"
        functions = [value] if inspect.isfunction(value) else []
        if inspect.isclass(value) and value.__module__.startswith("alphamix._"):
            functions += [
                one for key, one in vars(value).items() if inspect.isfunction(one) and not key.startswith("_")
            ]
        for function in functions:
            signature = inspect.signature(function)
            assert signature.return_annotation is not inspect.Signature.empty, function
            for parameter in list(signature.parameters.values()):
                assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty, function


def examples() -> list[doctest.DocTest]:
    """Every example, those that run an experiment first: others read what it leaves."""
    finder = doctest.DocTestFinder(recurse=False)
    tests = finder.find(alphamix, "alphamix", globs={"alphamix": alphamix})
    for name in ["run_experiment", *alphamix.__all__]:
        value = getattr(alphamix, name)
        members = [value]
        if inspect.isclass(value) and value.__module__.startswith("alphamix._"):
            members += [one for key, one in vars(value).items() if inspect.isfunction(one) and not key.startswith("_")]
        for member in members:
            tests += finder.find(member, f"{name}:{member.__name__}", globs={"alphamix": alphamix})
    return [test for test in tests if test.examples]


@pytest.mark.slow
def test_every_example_runs_as_it_stands(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    messages: list[str] = []
    order = sorted(examples(), key=lambda test: not test.name.startswith("run_experiment"))
    for test in order:
        runner.run(test, out=messages.append)
    assert not messages, "".join(messages)
    assert len(order) >= len(alphamix.__all__)


def test_importing_is_cheap_and_loads_nothing_heavy() -> None:
    code = (
        "import resource, sys; import alphamix; "
        f"print([name for name in {HEAVY} if name in sys.modules], "
        "sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), sep='|')"
    )
    bare = "import resource; print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(what: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", what], capture_output=True, text=True, check=True, env=environment
        ).stdout

    loaded, seconds = run(code).split("|")
    assert loaded == "[]"
    assert float(seconds) - float(run(bare)) < IMPORT_CPU_S


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'mix'"):
        alphamix.mix  # noqa: B018


LOW, HIGH = (ROOT / "examples" / "ladder" / "checkpoints" / name for name in ("low", "high"))
QUICKSTART = ROOT / "examples" / "ladder" / "quickstart.toml"


@pytest.fixture(scope="module")
def outcomes() -> alphamix.OutcomesTable:
    return alphamix.read_outcomes(ROOT / "results" / "quickstart" / "outcomes.csv")


WRONG: list[tuple[Callable[[alphamix.OutcomesTable, Path], object], str]] = [
    (lambda _, path: alphamix.read_outcomes(path / "none.csv"), "cannot be read"),
    (lambda _, __: alphamix.read_outcomes(pd.DataFrame({"problem": ["a"], "policy": ["x"]})), "lacks the columns n, c"),
    (lambda table, _: table.pass_at_k(100), "at least 100 samples"),
    (lambda table, _: table.pass_at_k(0), "k is 0: give a whole number"),
    (lambda table, _: table.pass_at_k(1, level=2), "level is 2: give a number between 0 and 1"),
    (lambda table, _: table.coverage({"lo": 3}), "did you mean 'low'"),
    (lambda table, _: table.coverage({}), "spends no sample"),
    (lambda table, _: table.coverage({"low": 1.5}), "low is 1.5: give a whole number"),  # type: ignore[dict-item]
    (lambda table, _: table.pairs(17), "at least 34 samples"),
    (lambda table, _: table.best_mixture(0), "buys no sample"),
    (lambda table, _: table.best_mixture(2.5), "not a whole number"),
    (lambda table, _: table.best_mixture(float("nan")), "budget is nan: give a finite number"),
    (lambda table, path: table.report(path / "file", 8), "since a file has that name"),
    (lambda _, path: alphamix.open_run(path / "none"), "holds no run"),
    (lambda _, __: alphamix.run_experiment(name="x", problem={}), "did you mean 'problems'"),
    (lambda _, __: alphamix.run_experiment(QUICKSTART, budgett={}), "did you mean 'budget'"),
    (lambda _, path: alphamix.open_policy(path / "none.toml", "low"), "there is no file"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [float("nan")], path), "alphas\\[0\\] is nan: give a finite number"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [], path), "one finite number or more"),
    (lambda _, path: alphamix.merge(LOW, HIGH, 0.5, path), "alphas is 0.5: give a list"),  # type: ignore[arg-type]
    (lambda _, path: alphamix.merge(LOW, HIGH, [0.5], path / "file"), "is a file: give another folder"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [0.5], "/proc/none"), "cannot be made .* give another folder"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [1e300], path), "choose alpha nearer to 0 or 1"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [0.5], path / ("n" * 300)), "File name too long"),
    (lambda _, path: alphamix.merge(LOW, HIGH, [0.5], path, dtype="int8"), "dtype is 'int8': give one of"),
]

POLICIES = ROOT / "examples" / "ladder" / "policies.toml"
TESTS = [{"input": "1", "output": "1"}]


def ask_judge(completions: Any, problem: Any = None, **options: Any) -> list[alphamix.Judgement]:
    return alphamix.judge(problem or alphamix.Problem(id="one", statement="", tests=TESTS), completions, **options)


WRONG += [
    (lambda _, __: alphamix.open_policy(POLICIES, "low", batch_size=0), "batch_size is 0: give a whole number"),
    (lambda _, __: alphamix.open_policy(POLICIES, "low", device="nonsense"), "cannot use the device 'nonsense'"),
    (lambda _, __: alphamix.open_policy(POLICIES, 3), "name is 3: give text"),  # type: ignore[arg-type]
    (lambda _, __: alphamix.open_policy(POLICIES, "coverage"), "is a sweep: name a member, such as coverage@-0.50"),
    (lambda _, __: ask_judge("print(1)"), "give a list of programs"),
    (lambda _, __: ask_judge([None]), "completions\\[0\\] is None: give text"),
    (lambda _, __: ask_judge(["print(1)"], workers=1.5), "workers is 1.5: give a whole number"),
    (lambda _, __: ask_judge(["print(1)"], packages="numpy"), "packages is 'numpy': give a list of texts"),
    (
        lambda _, __: ask_judge(["print(1)"], packages=["no-such"]),
        "the package 'no-such' is not installed: pip install",
    ),
    (lambda _, __: ask_judge(["print(1)"], problem={"id": "one"}), "give an alphamix.Problem"),
    (lambda _, __: alphamix.Problem(id="one", statement="", tests=[]), "tests is \\[\\]: it should have at least 1"),
    (lambda _, __: alphamix.load_problems(None), "None: cannot be read"),  # type: ignore[arg-type]
    (lambda _, __: alphamix.Problem(id="", statement="", tests=TESTS), "id is '': it should have"),
    (lambda _, __: alphamix.Problem(id="one"), "statement is missing: add it"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("ask", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_inputs_are_one_error_that_says_what_to_do(
    ask: Callable[[alphamix.OutcomesTable, Path], object],
    message: str,
    outcomes: alphamix.OutcomesTable,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(alphamix.AlphamixError, match=message):
        ask(outcomes, tmp_path)


def test_a_table_of_counts_alone_has_a_report(tmp_path: Path) -> None:
    frame = pd.DataFrame({"problem": ["a", "b"], "policy": ["x", "x"], "n": [4, 4], "c": [1, 4]})
    page = alphamix.read_outcomes(frame).report(tmp_path / "report", budget=2)
    assert "does not say how programs were judged" in page.read_text(encoding="utf-8")
    assert json.loads((page.parent / "summary.json").read_text())["policies"]["x"]["tokens"] is None


@pytest.fixture(scope="module")
def low() -> Iterator[alphamix.Policy]:
    with alphamix.open_policy(POLICIES, "low") as policy:
        yield policy


USER = {"role": "user", "content": "Given n, print n."}
WRONG_REQUESTS: list[tuple[object, dict[str, object], str]] = [
    ([], {}, "the prompt has no messages"),
    (None, {}, "the prompt is None: give text, or messages"),
    (USER, {}, "the prompt is {'role': 'user'"),
    (["x"], {}, "message 0 of the prompt is 'x', without a role"),
    ([USER, {"role": "user"}], {}, "message 1 of the prompt is {'role': 'user'}, without"),
    ([{**USER, "content": 5}], {}, "the content of message 0 of the prompt is 5"),
    ([{**USER, "role": "boss"}], {}, "is 'boss': give 'system', 'user', 'assistant' or 'tool'"),
    ("\ud800", {}, "half of a character"),
    ("x", {"n": "2"}, "^n is '2': give a whole number"),
    ("x", {"n": 0}, "^n is 0: give a whole number of completions, 1 or more$"),
    ("x", {"seed": None}, "^seed is None"),
    ("x", {"stop": None}, "^stop is None: give a list of texts"),
    ("x", {"stop": [""]}, "stop has an empty text"),
    ("x", {"stop": ""}, "stop has an empty text"),
    ("x", {"max_tokens": 1.5}, "^max_tokens is 1.5"),
    ("x", {"temperature": float("inf")}, "^temperature is inf"),
    ("x", {"top_p": 0}, "^top_p is 0: give a number above 0, and at most 1"),
]


@pytest.mark.parametrize(("prompt", "options", "message"), WRONG_REQUESTS)
def test_a_wrong_request_is_one_error_about_what_is_wrong(
    low: alphamix.Policy, prompt: Any, options: Any, message: str
) -> None:
    with pytest.raises(alphamix.AlphamixError, match=message) as caught:
        low.sample(prompt, **options)
    assert "\n" not in str(caught.value)


def test_one_stop_text_is_not_taken_letter_by_letter(low: alphamix.Policy) -> None:
    alone = low.sample([USER], max_tokens=32, stop="print")  # type: ignore[list-item]
    listed = low.sample([USER], max_tokens=32, stop=["print"])  # type: ignore[list-item]
    assert alone[0].text == listed[0].text
    assert "p" in alone[0].text


def test_a_policy_says_what_it_is(low: alphamix.Policy) -> None:
    assert repr(low) == f"Policy('low' of {str(POLICIES)!r})"


def test_what_a_policy_answers_can_be_judged() -> None:
    answer = alphamix.Completion("print(input())", "stop", prompt_tokens=1, completion_tokens=1, seconds=0.1)
    assert [judgement.verdict.value for judgement in ask_judge([answer, "print(2)"])] == ["AC", "WA"]


@pytest.mark.parametrize("alphas", [iter([0.5]), np.array([0.5]), (0.5,)], ids=["iterator", "array", "tuple"])
def test_a_merge_takes_any_numbers(alphas: Any, tmp_path: Path) -> None:
    (folder,) = alphamix.merge(LOW, HIGH, alphas, tmp_path).values()
    assert (folder / "config.json").is_file()
