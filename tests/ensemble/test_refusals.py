"""Going on with a run that is another one now, is being worked on, or was made by a newer version: what is said."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from alphamix.ensemble.cli import main
from alphamix.ensemble.cli.commands import resume
from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import Inputs, read_inputs
from alphamix.ensemble.run.fingerprints import check_unchanged, identity, problem_hashes
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import STORE_NAME, Store

from .conftest import PROBLEMS

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"
Edit = Callable[[Path], object]


@pytest.fixture
def planned(trial: Path) -> Path:
    """The folder of a run that has planned its slots, and was killed then."""
    return plan(trial)


def plan(trial: Path) -> Path:
    folder = trial.parent / "results" / "trial"
    folder.mkdir(parents=True)
    inputs = read_inputs(load(trial))
    with Store(folder / STORE_NAME) as store:
        slots = plan_slots(inputs.design.policies, inputs.design.problems, 4, 0)
        store.plan(slots, identity(inputs.sampling) | problem_hashes(inputs.sampling.problems))
    (folder / "policies.toml").write_text(tomli_w.dumps(inputs.sampling.registry.to_toml(folder)))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that refuses, in one line."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def replace(file: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def problems(change: Callable[[list[dict[str, Any]]], object]) -> Edit:
    def edit(folder: Path) -> None:
        changed = json.loads(json.dumps(PROBLEMS))
        change(changed)
        (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in changed))

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (problems(lambda some: some.pop()), "3 problems then, 2 now, problem 'times-4' is missing"),
        (problems(lambda some: some[1].update(time_limit_s=3.0)), "problem 'times-3' is changed"),
        (
            problems(lambda some: some.extend({**some[0], "id": f"new-{i}"} for i in range(2))),
            "3 problems then, 5 now, problem 'new-0' and 1 more are new",
        ),
        (problems(lambda some: some.reverse()), "the order of the problems changed"),
        (replace("policies.toml", 'model = "odd"', 'model = "2"'), 'differs: model was "odd", is now "2"'),
        (replace("policies.toml", "policies.odd", "policies.third"), "policy 'odd' is missing; policy 'third' is new"),
        (
            replace("policies.toml", "[policies.odd]", '[engine]\ndtype = "bfloat16"\n[policies.odd]'),
            "engine.dtype was not given, is now bfloat16",
        ),
        (replace("trial.toml", "[budget]", "temperature = 0.5\n[budget]"), "sampling.temperature was 1.0, is now 0.5"),
        (replace("trial.toml", '"{statement}"', f'"{"solve " * 20}{{statement}}"'), "sampling.prompt differs"),
    ],
)  # fmt: skip
def test_what_has_changed_since_is_named(
    edit: Edit, said: str, trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(trial.parent)
    line = refused(capsys, "run", trial, "-q", "-o", planned)
    assert line.startswith(f"error: {planned} holds a run of another experiment (")
    assert said in line
    assert "give another --output-dir" in line


def test_an_older_run_names_problems_by_their_ids_only(
    trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(planned / STORE_NAME)) as db, db:
        assert db.execute("DELETE FROM about WHERE key = 'problem_hashes'").rowcount == 1
    problems(lambda some: some[1].update(time_limit_s=3.0))(trial.parent)
    assert "the statement or tests of a problem changed" in refused(capsys, "run", trial, "-o", planned)
    problems(lambda some: some.pop(0))(trial.parent)
    assert "3 problems then, 2 now, problem 'times-2' is missing" in refused(capsys, "run", trial, "-o", planned)
    problems(lambda _: None)(trial.parent)
    main(["run", str(trial), "-q", "-o", str(planned)])


@pytest.fixture
def merges(trial: Path) -> Path:
    """The trial with merges of checkpoints that can be changed."""
    for name in ("low", "high"):
        shutil.copytree(CHECKPOINTS / name, trial.parent / name)
    (trial.parent / "policies.toml").write_text(
        '[policies.low]\ncheckpoint = "./low"\n[policies.high]\ncheckpoint = "./high"\n'
        '[policies.beyond]\nmerge = { low = "low", high = "high", alpha = 1.5 }\n'
    )
    return trial


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (replace("policies.toml", "1.5", "1.25"), "policy 'beyond' differs: merge.alpha was 1.5, is now 1.25"),
        (
            replace("low/tokenizer_config.json", "{", "{ "),
            "policy 'low' has other weights: files that it is made from have changed; policy 'beyond' has other",
        ),
    ],
)  # fmt: skip
def test_weights_that_changed_since_are_named(
    edit: Edit, said: str, merges: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plan(merges)
    edit(merges.parent)
    assert said in refused(capsys, "run", merges, "-o", folder)


def test_a_run_goes_on_where_its_files_have_moved(
    merges: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = plan(merges), merges.parent
    (folder / "experiment.toml").write_text(merges.read_text().replace('file = "problems', 'file = "../../problems'))
    taken: list[Inputs] = []
    monkeypatch.setattr(resume, "execute", lambda inputs, *_, **__: taken.append(inputs))
    for name in ("low", "high", "problems.jsonl", "policies.toml"):
        (here / "moved").mkdir(exist_ok=True)
        (here / name).rename(here / "moved" / name)
    cure = f"if it has moved, `alphamix resume {folder} --set"
    assert f"{cure} problems.file=FILE` goes on" in refused(capsys, "resume", folder)
    problems = ["--set", f"problems.file={here}/moved/problems.jsonl"]
    told = refused(capsys, "resume", folder, *problems)
    assert "policy 'low': there is no folder" in told
    assert f"{cure} policies.file=FILE` goes on" in told
    main(["resume", str(folder), *problems, "--set", f"policies.file={here}/moved/policies.toml"])
    (inputs,) = taken
    with Store(folder / STORE_NAME) as store:
        check_unchanged(store, inputs.sampling, identity(inputs.sampling))


def test_resume_refuses_in_one_line(trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = trial.read_text().replace('file = "', 'file = "../../', 1)  # as the run writes it: from its own folder
    (planned / "experiment.toml").write_text(text)
    problems(lambda some: some.pop())(trial.parent)
    assert "problem 'times-4' is missing" in refused(capsys, "resume", planned)
    (planned / "experiment.toml").write_text(text.replace("[1, 4]", "[64]"))
    assert "draw only 4 samples" in refused(capsys, "resume", planned)
    assert "nothing has no experiment.toml" in refused(capsys, "resume", trial.parent / "nothing")
    for file in planned.glob(f"{STORE_NAME}*"):  # results that were published without their record
        file.unlink()
    assert f"has no {STORE_NAME}" in refused(capsys, "resume", planned)
    assert not (planned / STORE_NAME).exists()


@pytest.mark.parametrize("command", ["run", "status", "export", "import", "report", "regrade"])
def test_a_run_of_a_newer_version_is_refused_by_all(
    command: str, trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(planned / STORE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    (planned / "experiment.toml").write_text(trial.read_text().replace('file = "', 'file = "../../', 1))
    (planned / "manifest.json").write_text('{"judge": {}}')
    arguments = {
        "run": [trial, "-o", planned],
        "export": [planned, "-o", planned / "out"],
        "import": [planned, "--samples", planned / "none.jsonl"],
    }
    line = refused(capsys, command, *arguments.get(command, [planned]))
    assert "was made by a newer alphamix (its format is 99, this one reads 3 to 5)" in line


@pytest.mark.parametrize("command", ["run", "import", "report", "regrade"])
def test_a_run_that_another_process_works_on_is_left_alone(
    command: str, trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (planned / "experiment.toml").write_text(trial.read_text().replace('file = "', 'file = "../../', 1))
    (planned / "manifest.json").write_text('{"judge": {}}')
    arguments = {"run": [trial, "-o", planned], "import": [planned, "--samples", planned / "none.jsonl"]}
    with Store(planned / STORE_NAME):
        line = refused(capsys, command, *arguments.get(command, [planned]))
    assert f"another process is working on {planned}: wait for it" in line


def test_a_file_is_no_folder_to_export_to(trial: Path, planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in (trial, trial / "below"):
        message = f"{output} cannot be made, since a file has that name"
        assert message in refused(capsys, "export", planned, "-o", output)
    assert trial.read_text().startswith("name")
