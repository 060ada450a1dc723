"""Regrading: other limits or checkers over the same samples, without a model, interruptible; the old verdicts stay."""

import json

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Graded, Sample, Slot, Store
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

PROBLEMS = [
    {"id": "one", "statement": "Print 1.", "tests": [{"input": "", "output": "1\n"}], "time_limit_s": 0.1},
    {"id": "two", "statement": "Print 2.", "tests": [{"input": "", "output": "2\n"}], "time_limit_s": 0.1},
]
PROGRAMS = [
    "print({n})",
    "print({n} + 1e-9)",
    "import time\nwhile time.process_time() < 0.3: pass\nprint({n})",
    "no program",
]
VERDICTS = [Verdict.AC, Verdict.WA, Verdict.TLE, Verdict.FE]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    (tmp_path / "policies.toml").write_text('[policies.low]\nurl = "http://127.0.0.1:9/v1"\nmodel = "low"\n')
    (tmp_path / "experiment.toml").write_text(
        'name = "trial"\n[problems]\nfile = "problems.jsonl"\n[policies]\nfile = "policies.toml"\n'
        "[budget]\nsamples = 4\n"
    )
    slots = [Slot(4 * p + i, "low", ("one", "two")[p], i, 4 * p + i) for p in range(2) for i in range(4)]
    with Store(tmp_path / STORE_NAME) as store:
        hashes = {"problems": fingerprint(load_problems(tmp_path / "problems.jsonl")), "policies.low": "hash"}
        store.plan(slots, {"sampling.setting": '"reasoning"', **hashes})
        store.add_samples([Sample(slot, completion(slot), 1.0) for slot in slots])
        store.add_verdicts([graded(slot) for slot in slots], '{"version": "first"}')
    return tmp_path


def completion(slot):
    text = PROGRAMS[slot.index].format(n=1 + slot.number // 4)
    fenced = text if slot.index == 3 else f"```python\n{text}\n```"
    return Completion(fenced, "length" if slot.index == 2 else "stop", 1, 1, 0.5)


def graded(slot):
    verdict = VERDICTS[slot.index]
    passed = int(verdict is Verdict.AC)
    return Graded(slot, Judgement(verdict, passed, 1, None, 0.0, 0.0), None if passed else Failure.CORRECTNESS)


def verdicts(folder, name=None):
    with Store(folder / STORE_NAME, read_only=True) as store:
        return store.verdicts(name)["verdict"].tolist()


def sets(folder):
    with Store(folder / STORE_NAME, read_only=True) as store:
        return {one.name: (one.graded, one.is_current) for one in store.verdict_sets()}


def regrade(folder, *arguments):
    main(["regrade", str(folder), "--workers", "1", "--quiet", *arguments])


def test_other_limits_and_checkers_are_another_set_and_the_old_one_stays(folder, capsys):
    before = verdicts(folder)
    floats = '{"floats": {"rel": 1e-6}}'
    regrade(folder, "--time-limit-scale", "30", "--checker", floats, "--verdict-set", "lenient")
    assert sets(folder) == {RUN_SET: (8, False), "lenient": (8, True)}
    assert verdicts(folder) == [Verdict.AC, Verdict.AC, Verdict.AC, Verdict.FE] * 2
    assert verdicts(folder, RUN_SET) == before
    main(["export", str(folder), "-o", str(folder / "new")])
    main(["export", str(folder), "-o", str(folder / "old"), "--verdict-set", RUN_SET])
    counts = [read_outcomes(folder / name / "outcomes.csv").num_correct_MP.tolist() for name in ("new", "old")]
    assert counts == [[[3, 3]], [[1, 1]]]
    capsys.readouterr()
    main(["status", str(folder), "--verdict-sets", "--json"])
    about = json.loads(capsys.readouterr().out)["lenient"]["about"]
    assert (about["time_limit_scale"], about["checker"]) == (30, floats)
    regrade(folder, "--use", RUN_SET)
    assert verdicts(folder) == before
    with pytest.raises(SystemExit, match="2"):
        regrade(folder, "--verdict-set", "lenient")  # with other options


def test_failure_classes_know_why_a_completion_ended(folder):
    regrade(folder, "--keep-current")
    (name,) = set(sets(folder)) - {RUN_SET}
    assert name.startswith("judge-")
    assert not sets(folder)[name][1]
    with Store(folder / STORE_NAME, read_only=True) as store:
        failures = store.verdicts(name)["failure"].tolist()
    assert failures[2] == Failure.EXHAUSTED
    assert failures[3] == Failure.FORMAT


def test_what_is_there_is_not_judged_again(folder, monkeypatch):
    real = Store.add_verdicts

    def cut_off(self, judged, judge, verdict_set=RUN_SET):
        real(self, judged, judge, verdict_set)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add_verdicts", cut_off)
    with pytest.raises(SystemExit, match="130"):
        regrade(folder, "--verdict-set", "again")
    monkeypatch.undo()
    begun, is_current = sets(folder)["again"]
    assert 0 < begun < 8
    assert not is_current
    with Store(folder / STORE_NAME) as store:  # a mark that judging anew would lose
        store._db.execute("UPDATE verdicts SET cpu_s = 99 WHERE verdict_set = 2")
    regrade(folder, "--verdict-set", "again")
    assert sets(folder)["again"] == (8, True)
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert sum(one.judgement.cpu_s == 99 for one, _ in store.graded()) == begun


def test_problems_that_have_changed_are_graded_with_only_on_request(folder, capsys):
    changed = [{**problem, "tests": [{"input": "", "output": "2\n"}]} for problem in PROBLEMS]
    (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in changed))
    with pytest.raises(SystemExit, match="2"):
        regrade(folder)
    assert "has changed since the run was planned" in capsys.readouterr().err
    regrade(folder, "--problems", str(folder / "problems.jsonl"))
    assert verdicts(folder)[::4] == [Verdict.WA, Verdict.AC]
    (folder / "fewer.jsonl").write_text(json.dumps(PROBLEMS[0]) + "\n")
    with pytest.raises(SystemExit, match="2"):
        regrade(folder, "--problems", str(folder / "fewer.jsonl"))
    assert "lack 'two'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--verdict-set", RUN_SET], ["--checker", "feelings"], ["--use", "nothing"]])
def test_what_makes_no_sense_is_refused_and_changes_nothing(folder, arguments):
    with pytest.raises(SystemExit, match="2"):
        regrade(folder, *arguments)
    assert sets(folder) == {RUN_SET: (8, True)}


def test_the_sets_are_listed_with_what_is_unusual_about_them(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    regrade(folder, "--time-limit-scale", "30")
    capsys.readouterr()
    main(["status", str(folder)])
    assert "2 sets of verdicts: --verdict-sets lists them" in capsys.readouterr().out
    main(["status", str(folder), "--verdict-sets"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "time_limit_scale=30" in line]
    assert "sandbox strict, time_limit_scale 30" in line
    assert "memory_limit_scale" not in line
    main(["export", str(folder), "-o", str(folder / "out"), "--format", "parquet"])
    assert read_outcomes(folder / "out" / "outcomes.parquet").num_correct_MP.tolist() == [[2, 2]]
