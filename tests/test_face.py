"""The public face: its names, docstrings and documentation agree, its examples run, and importing it is cheap."""

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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
