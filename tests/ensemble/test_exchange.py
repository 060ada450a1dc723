"""Outcomes of a run at any coverage level."""

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import OutcomesError
from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store
from alphamix.grading.errors import GradingError
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

NUM_TESTS = 10
ABOUT = {"problems": "hash", "sampling.setting": '"reasoning"', "policies.low": "hash"}
JUDGED = [
    (Verdict.AC, 10, None),
    (Verdict.TLE, 7, Failure.OPTIMISATION),
    (Verdict.WA, 5, Failure.CORRECTNESS),
    (Verdict.WA, 2, Failure.CORRECTNESS),
    (Verdict.FE, 0, Failure.FORMAT),
]


@pytest.fixture
def folder(tmp_path):
    slots = [Slot(number, "low", "p", number, number) for number in range(len(JUDGED))]
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(slots, ABOUT)
        store.add_samples([Sample(slot, Completion("", "stop", 1, 1, 0.5), 1.0) for slot in slots])
        graded = [
            Graded(slot, Judgement(verdict, passed, NUM_TESTS, None, 0.0, 0.0), failure)
            for slot, (verdict, passed, failure) in zip(slots, JUDGED, strict=True)
        ]
        store.add_verdicts(graded, '{"version": "2"}')
    return tmp_path


@pytest.mark.parametrize(
    ("level", "accepted", "optimisation", "correctness"),
    [(1.0, 1, 1, 2), (0.75, 1, 1, 2), (0.7, 2, 0, 2), (0.5, 3, 0, 1), (0.2, 4, 0, 0), (0.01, 4, 0, 0)],
)
def test_a_sample_that_clears_the_level_is_accepted(folder, level, accepted, optimisation, correctness):
    with Store(folder / STORE_NAME) as store:
        outcomes = count_outcomes(store, level)
    assert outcomes.num_correct_MP.tolist() == [[accepted]]
    failed = {name: int(failed_MP[0, 0]) for name, failed_MP in outcomes.num_failures_MP.items()}
    assert failed == {"optimisation": optimisation, "correctness": correctness, "format": 1, "exhausted": 0}
    assert accepted + sum(failed.values()) == outcomes.num_samples_MP[0, 0]


@pytest.mark.parametrize("level", [0.0, 1.5])
def test_a_level_outside_is_refused(folder, level):
    with Store(folder / STORE_NAME) as store, pytest.raises(GradingError, match="coverage level"):
        count_outcomes(store, level)


def test_an_export_is_counted_at_the_level_that_was_asked_for(folder):
    arguments = ["export", str(folder), "-o", str(folder / "out"), "--coverage", "0.5"]
    main(arguments)
    assert read_outcomes(folder / "out" / "outcomes.csv").num_correct_MP.tolist() == [[3]]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments[:-1], "0"])
    assert stopped.value.code == 2


def test_cells_without_a_verdict_are_owed(folder):
    with Store(folder / STORE_NAME) as store:
        cells = [("high", "p"), ("high", "q"), ("low", "q")]
        slots = [Slot(store.next_number() + i, policy, problem, 0, 0) for i, (policy, problem) in enumerate(cells)]
        store.extend(slots, {"high": 1, "low": len(JUDGED)})
        with pytest.raises(OutcomesError, match=r"no samples of policy 'low' on problem 'q' \(3 cells missing\)"):
            count_outcomes(store)
        assert count_outcomes(store, missing="drop-problems", policies=["low"]).problems == ("p",)
        store.add_samples([Sample(slots[1], Completion("", "stop", 1, 1, 0.5), 1.0)])
        accepted = Judgement(Verdict.AC, NUM_TESTS, NUM_TESTS, None, 0.0, 0.0)
        store.add_verdicts([Graded(slots[1], accepted, None)], '{"version": "2"}')
        with pytest.raises(OutcomesError, match=r"'low' on problem 'q' \(2 cells missing\)"):
            count_outcomes(store)
