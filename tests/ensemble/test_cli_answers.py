"""Programs of a run as voters: what they answer on the inputs of their tests, and which answers are the same."""

import json

import pandas as pd
import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import Judgement, Verdict
from alphamix.policies.types import Completion

TESTS = [{"input": f"{n}\n", "output": f"{n / 2}\n"} for n in (2, 4, 5)]
PROBLEMS = [
    {"id": "half", "statement": "Halve.", "tests": TESTS, "checker": {"floats": {"abs": 1e-6, "rel": 0}}},
    {"id": "none", "statement": "Print nothing.", "tests": [{"input": "", "output": ""}]},
]
RIGHT = "print(int(input()) / 2)"
CLOSE = "print(int(input()) / 2 + 1e-9)"
FLOOR = "print(int(input()) // 2)"
PARTIAL = "n = int(input())\nassert n != 5\nprint(n / 2)"
FAILS = "print(1 / 0)"
PROGRAMS = {"low": [RIGHT, FLOOR, PARTIAL], "high": [CLOSE, FAILS, None]}
"""The last completion of `high` holds no program."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    policies = "".join(f'[policies.{name}]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n' for name in PROGRAMS)
    (tmp_path / "policies.toml").write_text(policies)
    (tmp_path / "experiment.toml").write_text(
        'name = "trial"\nproblems.file = "problems.jsonl"\npolicies.file = "policies.toml"\nbudget.samples = 3\n'
    )
    slots = [Slot(3 * i + k, policy, "half", k, 0) for i, policy in enumerate(PROGRAMS) for k in range(3)]
    with Store(tmp_path / STORE_NAME) as store:
        hashes = {"problems": fingerprint(load_problems(tmp_path / "problems.jsonl")), "policies.low": "hash"}
        store.plan(slots, {"sampling.setting": '"reasoning"', **hashes})
        store.add_samples([Sample(slot, completion(slot), 1.0) for slot in slots])
        store.add_verdicts([graded(slot) for slot in slots], '{"version": "first"}')
    return tmp_path


def completion(slot):
    program = PROGRAMS[slot.policy][slot.index]
    return Completion("I give up." if program is None else f"```python\n{program}\n```", "stop", 1, 1, 0.5)


def graded(slot):
    is_right = PROGRAMS[slot.policy][slot.index] in (RIGHT, CLOSE)
    return Graded(slot, Judgement(Verdict.AC if is_right else Verdict.WA, 0, 3, None, 0.0, 0.0), None)


def answers(folder, *options):
    output = folder / "answers.csv"
    main(["answers", str(folder), "-o", str(output), "--workers", "1", "--quiet", *options])
    table = pd.read_csv(output, dtype=str, keep_default_na=False).set_index(["policy", "sample"])
    assert set(table["problem"]) == {"half"}
    return table


def test_programs_agree_where_the_checker_says_so(folder):
    table = answers(folder)
    answer = table["answer"]
    assert answer["low", "0"] == answer["high", "0"] != ""
    assert len({answer["low", str(k)] for k in range(3)}) == 3
    assert answer["high", "1"] == answer["high", "2"] == ""  # what fails everywhere votes for nothing
    assert set(table.index[table["correct"] == "1"]) == {("high", "0"), ("low", "0")}


def test_fewer_inputs_tell_fewer_programs_apart(folder):
    answer = answers(folder, "--inputs", "2")["answer"]
    assert answer["low", "0"] == answer["low", "1"] == answer["low", "2"] == answer["high", "0"]


def test_the_table_can_be_voted_on(folder, capsys):
    answers(folder)
    main(["vote", "--answers", str(folder / "answers.csv"), "--budget", "1", "--json"])
    assert json.loads(capsys.readouterr().out)


def test_what_cannot_be_run_leaves_no_file(folder, tmp_path, capsys):
    changed = [{**PROBLEMS[0], "statement": "Double."}, PROBLEMS[1]]
    (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in changed))
    for refused, cause in ((folder, "has changed since the run was planned"), (tmp_path / "absent", "absent")):
        with pytest.raises(SystemExit, match="2"):
            main(["answers", str(refused), "-o", str(tmp_path / "new.csv"), "--quiet"])
        assert cause in capsys.readouterr().err
    assert not list(tmp_path.glob("*new.csv*"))
