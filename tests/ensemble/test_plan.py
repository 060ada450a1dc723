"""What runs draw: arms share draws, stages follow each other, limits hold, and what cannot be is refused beforehand."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.experiment.config import ExperimentError, load
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.run import pipeline as run
from alphamix.ensemble.run import plan
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion

from .conftest import honest_program


class Quiet:
    """Watches, and counts the stages."""

    def __init__(self) -> None:
        self.planned: list[int] = []

    def begin(self, progress: pd.DataFrame, *_: Any) -> None:
        self.planned.append(int(progress["planned"].sum()))

    def began(self, *_: Any) -> None: ...

    def judging(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...

    def sampled(self, *_: Any) -> None: ...

    def graded(self, *_: Any) -> None: ...


def go(trial: Path, *overrides: str, monitor: Quiet | None = None) -> tuple[run.Result, Path]:
    folder = trial.parent / "results" / "trial"
    return run.run(read_inputs(load(trial, overrides)), folder, monitor or Quiet()), folder


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def main_says(capsys, *arguments: str) -> str:
    with suppress(SystemExit):
        main(list(arguments))
    out, err = capsys.readouterr()
    return err or out


def hard(model: str, prompt: str, seed: int) -> str:
    """One seed in eight solves, for each model another."""
    right = seed % 8 == (model == "odd")
    return honest_program("even", prompt, 0 if right else 1)


def drawn(server) -> Counter[str]:
    assert len(server.seeds) == len(set(server.seeds)), "no draw was asked for twice"
    return Counter(model for model, _, _ in server.seeds)


def test_arms_share_their_draws(trial, server):
    arms = 'allocation.arms=["equal", "mine"]'
    result, folder = go(trial, arms, "allocation.weights.mine={even = 3, odd = 1}", "analysis.pass_at=[1, 3]")
    assert drawn(server) == {"even": 3 * 3, "odd": 2 * 3}  # 3 and 1 of the one arm, 2 and 2 of the other
    found = summary(folder)
    assert found["arms"]["mine"]["allocation"] == {"even": 3, "odd": 1}
    assert found["arms"]["equal"]["allocation"] == {"even": 2, "odd": 2}
    assert "best_single" not in found["arms"]
    assert "4 samples per problem" in found["undefined"]["best_single"]
    assert found["policies"]["odd"]["pass_at_k"]["3"] is None
    assert found["policies"]["even"]["pass_at_k"]["3"] is not None
    assert result.report is not None


def test_a_budget_that_grows_draws_the_rest_alone(trial, server):
    go(trial, "budget.samples=2", "analysis.pass_at=[1]")
    before = list(server.seeds)
    _, folder = go(trial, "budget.samples=5")
    assert drawn(server) == {"even": 15, "odd": 15}
    assert server.seeds[: len(before)] == before
    assert read_outcomes(folder / "outcomes.csv").num_samples_MP.tolist() == [[5, 5, 5], [5, 5, 5]]
    go(trial, "budget.samples=3", "analysis.pass_at=[1]")  # nothing is thrown away by asking for less
    assert len(server.seeds) == 30
    assert read_outcomes(folder / "outcomes.csv").num_samples_MP.min() == 5


def test_a_budget_in_tokens_is_sized_by_a_pilot(trial, server):
    server.tokens = lambda model: {"even": 10, "odd": 25}[model]
    watched = Quiet()
    _, folder = go(trial, "budget.tokens=100", "analysis.pass_at=[1]", monitor=watched)
    assert drawn(server) == {"even": 10 * 3, "odd": 4 * 3}
    assert watched.planned == [0, 2 * 2 * 3, 14 * 3]
    found = summary(folder)
    assert (found["budget"], found["currency"], found["costs"]) == (100, "tokens", {"even": 10, "odd": 25})
    spent = {
        name: sum(found["costs"][policy] * k for policy, k in arm["allocation"].items())
        for name, arm in found["arms"].items()
    }
    assert all(60 < tokens <= 100 for tokens in spent.values()), spent
    page = (folder / "report.html").read_text()
    assert "At 100 tokens per problem, ensemble minus best single policy" in page


def test_policies_in_another_order_keep_their_costs(trial, server):
    server.tokens = lambda model: {"even": 10, "odd": 25}[model]
    sets = ("budget.tokens=100", "analysis.pass_at=[1]")
    _, folder = go(trial, *sets)
    before = summary(folder)
    policies = trial.parent / "policies.toml"
    even, odd = policies.read_text().split("[policies.odd]")
    policies.write_text(f"[policies.odd]{odd}{even}")
    go(trial, *sets)
    after = summary(folder)
    assert after["costs"] == before["costs"] == {"even": 10, "odd": 25}
    assert all(after["pass_at_k"][policy] == before["pass_at_k"][policy] for policy in ("even", "odd"))


def test_one_sample_each_tells_nothing_of_pairs(trial):
    _, folder = go(trial, "budget.samples=2", 'allocation.arms=["equal"]', "allocation.pilot=1", "analysis.pass_at=[1]")
    told = summary(folder)["complementarity"]
    assert (told["samples_each"], told["gain"], told["pairs"]) == (0, [], [])
    assert "What a second policy adds" not in (folder / "report.html").read_text()


def test_an_arm_may_have_any_name_in_the_figures(trial):
    """Names are no formulas: a lone $ or brace would end a finished run without its report."""
    _, folder = go(trial, 'allocation.weights={"a$b^{$" = {even = 1}}', 'allocation.arms=["singles", "a$b^{$"]')
    assert summary(folder)["arms"]["a$b^{$"]["allocation"] == {"even": 4}


def test_known_costs_need_no_pilot(trial, server):
    watched = Quiet()
    go(trial, "budget.seconds=6", "budget.costs={even = 2, odd = 3}", "analysis.pass_at=[1]", monitor=watched)
    assert drawn(server) == {"even": 9, "odd": 6}
    assert watched.planned == [0, 15]


@pytest.mark.parametrize("arm", ["thompson", "halving", "optimised"])
def test_adaptive_arms_draw_what_they_ask_for(arm, trial, server):
    server.answer = hard
    sets = (f'allocation.arms=["{arm}"]', "budget.samples=12", "analysis.pass_at=[1]", "allocation.batch=2")
    watched = Quiet()
    result, folder = go(trial, *sets, monitor=watched)
    count = drawn(server).total()
    assert 12 <= count <= 12 * 3
    assert len(watched.planned) >= 3, "drawn in rounds"
    one = summary(folder)["arms"][arm]
    assert one["cost"]["value"] <= 12 + 1e-9
    assert one["cost"]["value"] == pytest.approx(sum(one["allocation"].values()))
    assert one["naive"] == one["honest"]
    with Store(folder / STORE_NAME, read_only=True) as store:
        sizes = store.sizes()
        draws = store.draws()
    assert sizes["planned"].sum() == count == len(draws)
    fixed = read_outcomes(folder / "outcomes.csv").num_samples_MP
    assert fixed.tolist() == [[2, 2, 2], [2, 2, 2]], "outcomes count what was drawn whatever came out"
    go(trial, *sets)
    assert len(server.seeds) == count
    assert result.report is not None


def test_an_adaptive_arm_beside_the_singles_costs_nothing_more(trial, server):
    _, folder = go(
        trial, 'allocation.arms=["singles", "equal", "thompson"]', "budget.samples=6", "analysis.pass_at=[1]"
    )
    assert drawn(server) == {"even": 18, "odd": 18}
    arms = summary(folder)["arms"]
    assert arms["thompson"]["cost"]["value"] < 6, "it stops at a success"
    assert arms["thompson"]["naive"] <= 1


def test_rounds_that_were_cut_off_plan_the_same_again(trial, server):
    sets = ('allocation.arms=["thompson"]', "budget.samples=12", "analysis.pass_at=[1]", "allocation.batch=1")
    good = server.answer = hard
    for failing in (16, 22):
        server.answer = lambda *ask, most=failing: 400 if len(server.seeds) > most else good(*ask)
        assert go(trial, *sets)[0].left.rejected
    server.answer = good
    result, folder = go(trial, *sets)
    assert not result.left.is_anything
    with Store(folder / STORE_NAME, read_only=True) as store:
        cut_off = store.draws()
    _, again = go(trial, *sets, "name=undisturbed")
    with Store(again / STORE_NAME, read_only=True) as store:
        assert store.draws().equals(cut_off)


def test_the_limit_of_a_run_in_samples_is_met_exactly(trial, server):
    sets = ("budget.samples=20", "sampling.concurrency=1")
    result, _ = go(trial, *sets, "budget.run.samples=120")
    assert not result.left.is_anything
    assert len(server.seeds) == 120


def test_a_run_stops_when_its_tokens_are_spent_and_goes_on_with_more(trial, server, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    sets = ("budget.samples=40", "sampling.concurrency=4", "sampling.max_tokens=20")
    result, _ = go(trial, *sets, "budget.run.tokens=1100")
    assert 90 <= len(server.seeds) <= 100  # of 11 tokens each
    assert result.left.owed.total() == 240 - len(server.seeds)
    assert all("not asked, since budget.run.tokens = 1100 is spent" in cause for cause in result.left.owed)
    _, folder = go(trial, *sets, "budget.run.tokens=1100")
    assert main_says(capsys, "resume", str(folder)).count(
        "with a higher budget.run.tokens, for example by --set, continues the run\n"
    )
    owed = (
        f"The run is not finished: {result.left.owed.total()} samples or verdicts are owed, and no figure counts them."
    )
    said = " ".join(main_says(capsys, "report", str(folder), "--missing", "drop-problems").split())
    assert said.startswith("Left out for all policies alike, since samples are missing")
    assert owed in said
    assert summary(folder)["owed"] == result.left.owed.total()
    result, _ = go(trial, *sets, "budget.run.tokens=10000")
    assert not result.left.is_anything
    assert drawn(server) == {"even": 120, "odd": 120}


@pytest.mark.parametrize(
    ("limit", "drawn"),
    [("tokens=60", 24), ("tokens=40", 20), ("tokens=38", 12), ("seconds=6", 20), ("seconds=60", 24)],
)
def test_an_embedded_engine_draws_whole_batches_within_a_limit(limit, drawn, trial, monkeypatch):
    """Two batches of 8 and 4 for each of two policies; a sample takes 2 tokens, of 1024 that it might, and 0.3 s."""
    engine = ScriptedEngine(lambda request: Completion(str(request.seed), "stop", 1, 2, 0.3), reproducible=True)
    monkeypatch.setattr(Registry, "is_remote", lambda *_: False)
    monkeypatch.setattr(Registry, "open", lambda *_: engine)
    result, folder = go(trial, "sampling.batch_size=8", f"budget.run.{limit}")
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert store.progress()["sampled"].sum() == drawn
    assert result.left.owed.total() == 24 - drawn


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["budget.samples=2"], r"pass@4, but .*= 2 the arms singles, equal draw only 2 samples .* raise the budget"),
        (['allocation.arms=["equal"]', "budget.samples=6"], "pass@4, but .* the arms equal draw only 3 samples"),
        (["budget.tokens=50", "budget.costs={even = 20, odd = 20}"], "pass@4, but .*= 50 .* draw only 2 samples"),
        (["budget.run.samples=23"], r"budget.run.samples = 23, but 3 problems .* take 24 for the arms singles, equal"),
        (["budget.tokens=50", "budget.costs={even = 10, odd = 60}"], "does not pay for one sample of policy 'odd'"),
        (["budget.tokens=50", "budget.costs={even = 10}"], "does not say what 'odd' costs"),
        (["budget.tokens=50", "budget.costs={even = 10, old = 2, odd = 1}"], "names 'old', which is not sampled"),
        (["budget.costs={even = 10, odd = 2}"], "samples, which cost 1 each"),
        (['allocation.arms=["single"]'], "unknown arm 'single' in allocation.arms: did you mean 'singles'"),
        (["allocation.weights.equal={even = 1}"], "has the name of another arm"),
        (["budget.tokens=100", "budget.costs={even = 60, odd = 60}"], "each policy of the arm 'equal', 120 together"),
        (
            ['allocation.arms=["thompson"]', "budget.tokens=10", "budget.costs={even = 60, odd = 50}"],
            "any policy, not even of 'odd', which costs 50: raise it",
        ),
        (
            ["budget.tokens=1e308", "budget.costs={even = 60, odd = 60}"],
            r"pays for 1.67e\+306 samples of policy 'even'",
        ),
        (["budget.tokens=inf"], "budget.tokens .* is inf: it should be a finite number"),
        (["budget.samples=10000000000"], "it should be 1,000,000,000 or less"),
        (["allocation.weights.mine={even = inf}"], "is inf: it should be a finite number"),
        (["allocation.weights.mixture={even = 1}"], "has the name of another arm"),
        (["allocation.weights.best_single={even = 1}"], "has the name of another arm"),
        (["allocation.weights.odd={even = 1}"], "has the name of a policy"),
        (["allocation.weights.mine={even = 0}"], "no policy a weight above 0"),
        (["allocation.weights.mine={event = 1}"], "did you mean 'even'"),
        (
            ['allocation.arms=["optimised"]', "budget.samples=3", "analysis.pass_at=[1]"],
            "'optimised'.* 2 samples of each policy costs 4 of a budget of 3",
        ),
        (['allocation.arms=["halving"]', "budget.samples=1", "analysis.pass_at=[1]"], "'halving'.* give 2 or more"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_drawn(overrides, message, trial, server):
    with pytest.raises(ExperimentError, match=message) as caught:
        plan.check(read_inputs(load(trial, overrides)).design)
    assert "\n" not in str(caught.value)
    assert not server.seeds


@pytest.mark.parametrize(
    ("weights", "costs", "split"),
    [
        ("even = 1e308, odd = 1e308", "even = 2, odd = 2", {"even": 25, "odd": 25}),
        ("even = 1, odd = 1e-300", "even = 2, odd = 1e9", {"even": 50}),
    ],
)
def test_weights_of_any_size_divide_a_budget(weights, costs, split, trial):
    arms = ('allocation.arms=["mine"]', f"allocation.weights.mine={{{weights}}}", "analysis.pass_at=[1]")
    told = plan.describe(read_inputs(load(trial, [*arms, "budget.tokens=100", f"budget.costs={{{costs}}}"])).design)
    assert told["arms"]["mine"] == split


def test_two_currencies_in_one_file_are_refused(trial):
    trial.write_text(trial.read_text().replace("samples = 4", "samples = 4\ntokens = 100"))
    with pytest.raises(ExperimentError, match=r"budget.samples = 4 and budget.tokens = 100 is given: give one of"):
        load(trial)


def test_a_dry_run_tells_the_plan(trial):
    inputs = read_inputs(load(trial, ["budget.tokens=100", 'allocation.arms=["singles", "thompson"]']))
    told = plan.describe(inputs.design)
    assert told["arms"] == {"singles": None, "thompson": None}
    assert told["samples"] == 2 * 2 * 3
    assert "pilot" in told["samples_are"]
    assert told["most_tokens"] is None
    inputs = read_inputs(load(trial, ['allocation.arms=["equal", "thompson"]', "analysis.pass_at=[1]"]))
    told = plan.describe(inputs.design)
    assert told["arms"]["equal"] == {"even": 2, "odd": 2}
    assert told["arms"]["thompson"] == {"adaptive": ["even", "odd"], "at_most": 4}
    # Thompson sampling could put all four samples of a problem on one policy, of which two are there.
    assert (told["samples"], told["most_samples"], told["most_tokens"]) == (12, 12 + 3 * 2, (12 + 3 * 2) * 1024)


def test_a_run_of_a_benchmark_goes_on_and_is_graded_again(trial, server, tmp_path, capsys):
    server.answer = hard
    published = tmp_path / "published"
    published.mkdir()
    rows = [
        {
            "question_id": name,
            "question_title": "",
            "question_content": "Read n. Print n + 1.",
            "platform": "atcoder",
            "difficulty": difficulty,
            "contest_date": "2024-08-01T00:00:00",
            "starter_code": "",
            "public_test_cases": json.dumps([{"input": "1\n", "output": "2\n"}]),
            "private_test_cases": "[]",
        }
        for name, difficulty in {"abc300_a": "hard", "abc301_a": "easy", "abc311_c": "hard"}.items()
    ]
    (published / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    selected = 'benchmark = "livecodebench"\npath = "published"\nrelease = "v1"\ndifficulty = "hard"'
    trial.write_text(trial.read_text().replace('file = "problems.jsonl"', selected))
    _, folder = go(trial)
    assert set(read_outcomes(folder / "outcomes.csv").problems) == {"abc300_a", "abc311_c"}
    fault = "has several right answers, of which the tests accept one"
    assert json.loads((folder / "summary.json").read_text())["errata"] == {"abc311_c": fault}
    page = " ".join((folder / "report.html").read_text().split())
    assert f"1 problem has a fault that is known (abc311_c {fault}): problems.without_errata = true" in page
    drawn = len(server.seeds)
    for again in (["resume", str(folder)], ["regrade", str(folder), "--verdict-set", "again"]):
        assert "error" not in main_says(capsys, *again, "-q")
    assert len(server.seeds) == drawn
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert len(store.verdicts()) == drawn
    trial.write_text(trial.read_text().replace('"hard"', '"medium"'))
    assert "no problem of" in main_says(capsys, "run", str(trial), "--dry-run")
