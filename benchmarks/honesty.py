"""How often the intervals and verdicts of docs/statistics.md are right: simulations, and pilots from real outcomes.

Writes `docs/benchmarks_honesty.md`: `python benchmarks/honesty.py [SCALE]` (a few minutes of CPU; SCALE multiplies the
number of repetitions). The tables on pilots need `../shared/data/lcb_outcomes.csv` and are left out where it is absent.
Axes: `M` policies, `P` problems, `T` simulated tables.
"""

import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import write_page
from scipy.special import betaln, expit

from alphamix.ensemble.adaptive.adaptive_arm import play_arm
from alphamix.ensemble.adaptive.halving import SuccessiveHalving
from alphamix.ensemble.adaptive.sample_streams import SampleStreams, play
from alphamix.ensemble.adaptive.state import AdaptiveState, Strategy
from alphamix.ensemble.adaptive.strategies import Optimised, Thompson
from alphamix.ensemble.analysis.ranking import rank_policies
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import BestMixture, BestSingle, Split, score_arms
from alphamix.ensemble.mixture.best_allocation import good_allocation
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, Division, Evidence, cross_fits
from alphamix.ensemble.mixture.gains import gain_over, score_single_policies, strict_gain
from alphamix.ensemble.mixture.pilot_forecast import forecast_pilot
from alphamix.ensemble.mixture.vote_arms import compare_votes
from alphamix.ensemble.outcomes.answers import Answers, ProblemAnswers
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.beta_prior import fit_prior
from alphamix.ensemble.statistics.intervals import (
    Estimate,
    Method,
    Resampling,
    draw_weights,
    means_over_problems,
    student_interval,
)
from alphamix.ensemble.statistics.majority_vote import vote_accuracies
from alphamix.ensemble.statistics.pass_at_k import coverage, pass_at_k
from alphamix.ensemble.statistics.posterior import Posterior
from alphamix.ensemble.statistics.rate_posterior import MeanRate

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_honesty.md"
_LIVECODEBENCH = Path(__file__).parents[2] / "shared" / "data" / "lcb_outcomes.csv"
_HEAD = """# Benchmarks of honesty

Made by `python benchmarks/honesty.py` on {day}: {cores} cores, {machine}, Python {python}. [The numbers](statistics.md)
explains what is measured here. All intervals are at 95 %. A share of T tables has a standard error of at most √(¼ / T),
and near 95 % of √(0.0475 / T).
"""
_SIZES = (20, 40, 80, 150)
_FEW_SIZES = (20, 80)
_RESAMPLING = Resampling(resamples=1000)


def main() -> None:
    """Print and write the page."""
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    sections = (
        *(_means, _groups, _pilots, _sharing, _identical_policies, _folds),
        *(_adaptive_arms, _rankings, _votes),
    )
    write_page(_PAGE, _HEAD, (line for section in sections for line in section(scale)))


def _text(prose: str) -> str:
    return f"{textwrap.fill(prose, 120)}\n"


def _times(number: int, scale: float) -> int:
    return max(1, round(number * scale))


class _Kind(NamedTuple):
    """A kind of values, of which the mean over problems is estimated."""

    name: str
    truth: float
    lowest: float
    draw: Callable[[np.random.Generator, tuple[int, int]], Floats]


def _means(scale: float) -> Iterator[str]:
    tables = _times(400, scale)
    yield "\n## Intervals of means, for new problems\n"
    yield _text(
        f"Share of {tables:,} simulated tables whose interval holds the true mean: score interval, and BCa "
        f"bootstrap with {_RESAMPLING.resamples:,} draws in brackets."
    )
    yield f"| values | true mean | {' | '.join(f'{size} problems' for size in _SIZES)} |"
    yield f"|---|---|{'---|' * len(_SIZES)}"
    for kind in _kinds():
        held = [f"{_held(kind, size, tables, 'score')} ({_held(kind, size, tables, 'bca')})" for size in _SIZES]
        yield f"| {kind.name} | {100 * kind.truth:.1f} % | {' | '.join(held)} |"


def _held(kind: _Kind, size: int, tables: int, method: Method) -> str:
    values_TP = kind.draw(np.random.default_rng(size), (tables, size))
    return _share(means_over_problems(values_TP, replace(_RESAMPLING, method=method), kind.lowest), kind.truth)


def _share(estimates: list[Estimate], truth: float) -> str:
    bounds = [estimate.interval or (-1.0, 1.0) for estimate in estimates]
    return f"{100 * np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high in bounds]):.1f} %"


def _kinds() -> Iterator[_Kind]:
    yield _Kind("1 sample of each of two policies, which disagree on 6 % of problems", 0.02, -1.0, _disagreements)
    yield _Kind("rare successes: 10 samples, rates Beta(0.1, 3)", 0.1 / 3.1, 0.0, _rare)
    high = 1 - float(np.exp(betaln(2, 6) - betaln(2, 1)))
    yield _Kind("high rates: pass@5 of 10 samples, rates Beta(2, 1)", high, 0.0, _high)
    rates = _pair(np.random.default_rng(0), (1, 2_000_000))
    truth = float(np.mean((1 - rates[0]) ** 5 - (1 - rates[1]) ** 5))
    yield _Kind("difference of two related policies in pass@5 of 10 samples", truth, -1.0, _differences)


def _disagreements(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.choice([-1.0, 0.0, 1.0], shape, p=[0.02, 0.94, 0.04])


def _rare(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.binomial(10, rng.beta(0.1, 3.0, shape)) / 10


def _high(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return pass_at_k(np.full(shape, 10), rng.binomial(10, rng.beta(2.0, 1.0, shape)), 5)


def _pair(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    difficulty = rng.normal(-2.0, 2.0, shape)
    return expit(difficulty + rng.normal(0.0, 0.7, shape)), expit(difficulty + rng.normal(0.3, 0.7, shape))


def _differences(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    first, second = (pass_at_k(np.full(shape, 10), rng.binomial(10, rates), 5) for rates in _pair(rng, shape))
    return second - first


def _groups(scale: float) -> Iterator[str]:
    tables, each = _times(400, scale), 8
    yield "\n## Problems that belong together\n"
    yield _text(
        f"Groups of {each} problems whose solve rates are those of the group, 10 samples of each problem, rates "
        f"Beta(0.5, 1): share of {tables:,} simulated tables whose score interval holds the true mean of pass@1."
    )
    yield "| groups | without the column `group` | with it |"
    yield "|---|---|---|"
    for groups in (10, 20, 40):
        rng = np.random.default_rng(groups)
        rates = np.repeat(rng.beta(0.5, 1.0, (tables, groups)), each, axis=1)
        values_TP = rng.binomial(10, rates) / 10
        grouped = _RESAMPLING.with_groups([str(group) for group in np.repeat(np.arange(groups), each)])
        shares = [_share(means_over_problems(values_TP, how, 0.0), 1 / 3) for how in (_RESAMPLING, grouped)]
        yield f"| {groups} | {shares[0]} | {shares[1]} |"


def _pilots(scale: float) -> Iterator[str]:
    yield "\n## Pilots from real outcomes\n"
    if not _LIVECODEBENCH.exists():
        yield "Left out, since the outcomes of LiveCodeBench are not here."
        return
    whole = read_outcomes(_LIVECODEBENCH, "drop-problems")
    pilots = _times(3, scale)
    yield _text(
        f"{len(whole.policies)} models on {len(whole.problems)} LiveCodeBench problems with 10 samples each. Of "
        f"each cell, 2, 3 or 5 samples drawn at random are the pilot, {pilots} times; the others, never seen, are "
        "the truth. Forecasts are of eight fixed splits: 2 and 5 samples of every model, 4 of each of four random "
        "models (twice), 5 of each of two (twice), and 5 of one (twice). The error is that against the unbiased "
        "coverage by the other samples; inside means that the interval holds the share that one draw of the split "
        "from them solved."
    )
    yield "| pilot | mean error, points | largest | inside |"
    yield "|---|---|---|---|"
    gains: dict[int, list[list[float]]] = {}
    for size in (2, 3, 5):
        rng = np.random.default_rng(size)
        errors: list[float] = []
        inside: list[bool] = []
        for _ in range(pilots):
            pilot, rest = _divided(whole, size, rng)
            evidence = Evidence(pilot)
            for split_M in _splits(len(whole.policies), rng):
                expected = forecast_pilot(evidence, split_M, Resampling())
                real = coverage(rest.num_samples_MP, rest.num_correct_MP, split_M).mean()
                errors.append(100 * abs(expected.value - real))
                low, high = expected.interval
                inside.append(bool(low <= _drawn_once(rest, split_M, rng) <= high))
            gains.setdefault(size, []).append(_real_gains(whole, rest, evidence))
        yield f"| {size} | {np.mean(errors):.1f} | {np.max(errors):.1f} | {100 * np.mean(inside):.0f} % |"
    yield ""
    yield _text(
        "The mixture that the pilot chooses, against the single model that is best on the very outcomes that score "
        "both, which favours the single model; means over pilots, in points. Beliefs that know one model at a time "
        "are those of a Beta prior for each model."
    )
    yield "| pilot | budget 5, by the other samples | the same, one model at a time | budget 10, by all samples |"
    yield "|---|---|---|---|"
    for size, each in gains.items():
        figures = " | ".join(f"{gain:+.1f}" for gain in np.mean(each, axis=0))
        yield f"| {size} | {figures} |".replace("-", "−")


def _divided(whole: Outcomes, size: int, rng: np.random.Generator) -> tuple[Outcomes, Outcomes]:
    n_MP, c_MP = whole.num_samples_MP, whole.num_correct_MP
    picked_MP = rng.hypergeometric(c_MP, n_MP - c_MP, size)
    return _outcomes(size, picked_MP), _outcomes(n_MP - size, c_MP - picked_MP)


def _splits(num_policies: int, rng: np.random.Generator) -> Iterator[Ints]:
    for members, each in ((num_policies, 2), (num_policies, 5), (4, 4), (4, 4), (2, 5), (2, 5), (1, 5), (1, 5)):
        split_M = np.zeros(num_policies, np.int64)
        split_M[rng.choice(num_policies, members, replace=False)] = each
        yield split_M


def _drawn_once(rest: Outcomes, split_M: Ints, rng: np.random.Generator) -> float:
    n_MP, c_MP = rest.num_samples_MP, rest.num_correct_MP
    accepted_MP = rng.hypergeometric(c_MP, n_MP - c_MP, np.broadcast_to(split_M[:, None], c_MP.shape))
    return float(accepted_MP.any(axis=0).mean())


def _real_gains(whole: Outcomes, rest: Outcomes, evidence: Evidence) -> list[float]:
    one_by_one = _one_by_one(evidence.outcomes)
    return [
        100 * _gain_on(rest, evidence.posterior, 5),
        100 * _gain_on(rest, one_by_one, 5),
        100 * _gain_on(whole, evidence.posterior, 10),
    ]


def _gain_on(scored: Outcomes, posterior: Posterior, samples: int) -> float:
    budget, n_MP, c_MP = Budget.of_samples(samples, len(scored.policies)), scored.num_samples_MP, scored.num_correct_MP
    chosen_M = good_allocation(posterior, budget, n_MP.min(axis=1))[0]
    return float(coverage(n_MP, c_MP, chosen_M).mean() - pass_at_k(n_MP, c_MP, samples).mean(axis=1).max())


def _one_by_one(outcomes: Outcomes) -> Posterior:
    """Return beliefs that know only one policy at a time."""
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    ones_P = np.ones(n_MP.shape[1], np.int64)
    priors_M2 = np.array([fit_prior(n_P, c_P, ones_P) for n_P, c_P in zip(n_MP, c_MP, strict=True)])
    a_MP, b_MP = (np.asarray(shape_MP, float) for shape_MP in (priors_M2[:, :1] + c_MP, priors_M2[:, 1:] + n_MP - c_MP))
    return Posterior(a_MP, b_MP, ones_P / len(ones_P))


def _sharing(scale: float) -> Iterator[str]:
    worlds, problems, policies, size, budget = _times(15, scale), 150, 9, 4, 36
    yield "\n## Much and little sharing\n"
    yield _text(
        f"{worlds} simulated worlds each of {problems} problems and {policies} policies, whose log odds have a "
        "standard deviation of 2.5 over problems; the sharing is the part of their variance that all policies have "
        f"in common. A pilot of {size} samples chooses a mixture of {budget}. Figures are means over worlds, of "
        "what the known rates say; inside means that the interval holds what one draw of the mixture solved. The "
        "error is a mean size. Beside it stands the mixture that beliefs about one policy at a time choose."
    )
    yield "| sharing | best single | mixture | its forecast | error, points | inside | one at a time | its forecast |"
    yield "|---|---|---|---|---|---|---|---|"
    for sharing in (0.0, 0.3, 0.6, 0.9, 1.0):
        rng = np.random.default_rng(int(10 * sharing))
        rows = [_world(rng, sharing, problems, policies, size, budget) for _ in range(worlds)]
        single, ours, promise, error, inside, theirs, their_promise = 100 * np.mean(rows, axis=0)
        figures = f"{single:.1f} % | {ours:.1f} % | {promise:.1f} % | {error:.1f} | {inside:.0f} %"
        yield f"| {100 * sharing:.0f} % | {figures} | {theirs:.1f} % | {their_promise:.1f} % |"


def _world(
    rng: np.random.Generator, sharing: float, problems: int, policies: int, size: int, samples: int
) -> list[float]:
    shared_P, own_MP = rng.normal(0, 2.5, problems), rng.normal(0, 2.5, (policies, problems))
    level_M1 = rng.normal(-2.0, 0.4 * (1 - sharing), (policies, 1))
    rate_MP = expit(level_M1 + np.sqrt(sharing) * shared_P + np.sqrt(1 - sharing) * own_MP)
    evidence = Evidence(_outcomes(size, rng.binomial(size, rate_MP)))
    budget = Budget.of_samples(samples, policies)

    def solved_P(chosen_M: Ints) -> Floats:
        return 1 - np.prod((1 - rate_MP) ** chosen_M[:, None], axis=0)

    single = max(float(solved_P(alone_M).mean()) for alone_M in samples * np.eye(policies, dtype=np.int64))
    ours_M = good_allocation(evidence.posterior, budget)[0]
    expected = forecast_pilot(evidence, ours_M, Resampling())
    ours_P = solved_P(ours_M)
    low, high = expected.interval
    inside = low <= np.mean(rng.random(problems) < ours_P) <= high
    one_by_one = _one_by_one(evidence.outcomes)
    theirs_M = good_allocation(one_by_one, budget)[0]
    error = abs(expected.value - float(ours_P.mean()))
    theirs = [float(solved_P(theirs_M).mean()), one_by_one.coverage(theirs_M)]
    return [single, float(ours_P.mean()), expected.value, error, float(inside), *theirs]


def _identical_policies(scale: float) -> Iterator[str]:
    worlds, problems, samples, budget = _times(60, scale), 60, 20, 10
    yield "\n## Policies that are the same\n"
    yield _text(
        f"{worlds} simulated worlds each of {problems} problems, {samples} samples, budget {budget}, rates "
        "Beta(0.2, 1), the same for all policies of a kind. With one kind no split gains over any single policy; "
        "with two kinds, whose rates are independent, there is a gain to find. Share of worlds in which the honest "
        "gain by problems over the policy that was picked lies above 0 with its whole interval, and in which the "
        "strict verdict says that every single policy is beaten. Widths are medians over worlds."
    )
    yield "| policies | arm | gain, points | half of the interval | 2 stderr | gain > 0 | beats every single policy |"
    yield "|---|---|---|---|---|---|---|"
    for policies, kinds in ((2, 1), (9, 1), (20, 1), (9, 2)):
        tables = (_same(seed, policies, problems, samples, kinds) for seed in range(worlds))
        found = [_verdicts(table, budget) for table in tables]
        for arm in ("equal", "mixture"):
            gains = [gain for each in found for name, gain, _ in each if name == arm]
            strict = [beats for each in found for name, _, beats in each if name == arm]
            half = [(gain.interval[1] - gain.interval[0]) / 2 for gain in gains if gain.interval]
            error = [gain.stderr or 0.0 for gain in gains]
            figures = f"{100 * np.mean([gain.value for gain in gains]):+.2f} | {100 * np.median(half):.1f}"
            figures += f" | {200 * np.median(error):.1f}"
            above = 100 * np.mean([gain.sign > 0 for gain in gains])
            what = f"{policies}" if kinds == 1 else f"{policies} of {kinds} kinds"
            yield f"| {what} | {arm} | {figures} | {above:.1f} % | {100 * np.mean(strict):.1f} % |".replace("-", "−")


def _verdicts(outcomes: Outcomes, total: int) -> list[tuple[str, Estimate, bool]]:
    budget = Budget.of_samples(total, len(outcomes.policies))
    options = CrossFitOptions(cross_fits(0, 5, {"problems": 3}), replace(_RESAMPLING, resamples=400))
    rules = {"equal": Split.equal(outcomes.policies, budget), "mixture": BestMixture(budget)}
    arms, _ = score_arms(Evidence(outcomes), {**rules, "best_single": BestSingle(budget)}, options)
    singles = score_single_policies(outcomes, budget, options.resampling)
    verdicts: list[tuple[str, Estimate, bool]] = []
    for name in rules:
        gain = gain_over(arms["best_single"], arms[name], options.resampling).honest["problems"]
        strict = strict_gain(singles, arms[name], options.resampling)
        verdicts.append((name, gain, strict is not None and strict.gain.sign > 0))
    return verdicts


def _folds(scale: float) -> Iterator[str]:
    tables, policies, problems, samples, total = _times(40, scale), 5, 60, 50, 10
    yield "\n## Few folds, many repeats\n"
    yield _text(
        f"Gain of an equal split over the best of {policies} identical policies, which is 0: {tables} simulated "
        f"tables of {problems} problems, {samples} samples, budget {total}, rates Beta(0.2, 1)."
    )
    yield "| gain | mean, points | spread from table to table, points | intervals that miss 0 |"
    yield "|---|---|---|---|"
    worlds = [_same(seed, policies, problems, samples) for seed in range(tables)]
    ways: list[tuple[Division, int]] = [("problems", 2), ("problems", 3), ("problems", 10), ("samples", 2)]
    for by, folds in ways:
        gains = [_gain(world, by, folds, total) for world in worlds]
        if folds == 2 and by == "problems":
            yield f"| naive | {_summary([naive for naive, _ in gains])} |"
        yield f"| by {by}, {folds} folds, 10 times | {_summary([honest for _, honest in gains])} |"


def _gain(outcomes: Outcomes, by: Division, folds: int, total: int) -> tuple[Estimate, Estimate]:
    budget = Budget.of_samples(total, len(outcomes.policies))
    options = CrossFitOptions(cross_fits(0, 10, {by: folds}), replace(_RESAMPLING, resamples=400))
    rules = {"equal": Split.equal(outcomes.policies, budget), "best_single": BestSingle(budget)}
    arms, _ = score_arms(Evidence(outcomes), rules, options)
    gain = gain_over(arms["best_single"], arms["equal"], options.resampling)
    return gain.naive, gain.honest[by]


def _summary(gains: list[Estimate]) -> str:
    values = 100 * np.array([gain.value for gain in gains])
    missed = 100 * np.mean([gain.sign != 0 for gain in gains])
    return f"{values.mean():+.2f} | {values.std():.2f} | {missed:.1f} %".replace("-", "−")


def _adaptive_arms(scale: float) -> Iterator[str]:
    tables, policies, budget = _times(200, scale), 8, Budget.of_samples(24, 8)
    yield "\n## Adaptive arms\n"
    yield _text(
        f"Successive halving of {budget} over {policies} policies, one of which is better than the others. Log odds "
        "are normal over problems, around −4.5 (−2.5 for the better policy) with a standard deviation of 1.7. An arm "
        "that is replayed has every sample that it could ask for; one that is played once has what it drew. Share of "
        f"{tables} simulated tables whose interval holds the mean share that such an arm solves, on problems that it "
        "also chooses on; in brackets, without repeating the choice that all problems share."
    )
    yield f"| successive halving | {' | '.join(f'{size} problems' for size in _SIZES)} |"
    yield f"|---|{'---|' * len(_SIZES)}"
    for is_replayed in (False, True):
        held = [_held_by_arm(SuccessiveHalving(), budget, size, tables, is_replayed) for size in _SIZES]
        yield f"| {'replayed' if is_replayed else 'played once'} | {' | '.join(held)} |"
    yield from _learning_arms(_times(60, scale))


def _learning_arms(tables: int) -> Iterator[str]:
    """Yield the table of the strategies that fit priors to all problems, which take longer to play."""
    budget = Budget.of_samples(16, 4)
    yield ""
    yield _text(
        "The same for strategies that fit priors to all problems, with 16 samples over 4 policies, played once, in "
        f"{tables} tables."
    )
    yield f"| strategy | {' | '.join(f'{size} problems' for size in _FEW_SIZES)} |"
    yield f"|---|{'---|' * len(_FEW_SIZES)}"
    strategies: dict[str, Strategy] = {
        "`optimised`, a pilot of 2": Optimised(2),
        "`thompson`, batches of 4": Thompson(4),
    }
    for name, strategy in strategies.items():
        held = [_held_by_arm(strategy, budget, size, tables, is_replayed=False) for size in _FEW_SIZES]
        yield f"| {name} | {' | '.join(held)} |"


def _held_by_arm(strategy: Strategy, budget: Budget, size: int, tables: int, is_replayed: bool) -> str:
    rng = np.random.default_rng(size)
    start = AdaptiveState.empty(size, budget)
    truth = float(
        np.mean([play(strategy, _streams(budget, size, rng), start).solved_P.mean() for _ in range(5 * tables)])
    )
    ours: list[Estimate] = []
    without: list[Estimate] = []
    for seed in range(tables):
        streams, how = _streams(budget, size, rng), replace(_RESAMPLING, seed=seed)
        if not is_replayed:
            streams = replace(streams, num_samples_MP=play(strategy, streams, start).num_samples_MP)
        n_MP = streams.num_samples_MP if is_replayed else np.ones_like(streams.num_samples_MP)
        outcomes = _outcomes(n_MP, streams.num_correct(n_MP))
        solved = play_arm(strategy, outcomes, budget, streams, 0, how).honest["problems"]
        plain_R = draw_weights(size, how) @ solved.covered_P
        ours.append(student_interval(solved.covered_P, solved.resampled_R, how, 0.0))
        without.append(student_interval(solved.covered_P, plain_R, how, 0.0))
    return f"{_share(ours, truth)} ({_share(without, truth)})"


def _streams(budget: Budget, problems: int, rng: np.random.Generator) -> SampleStreams:
    shape = len(budget.cost_M), problems
    level_M1 = np.where(np.arange(shape[0]) == 0, -2.5, -4.5)[:, None]
    rate_MP = expit(level_M1 + rng.normal(0, 1.5, problems) + rng.normal(0, 0.8, shape))
    return SampleStreams(
        rng.random((*shape, int(budget.total))) < rate_MP[:, :, None], np.full(shape, int(budget.total))
    )


def _rankings(scale: float) -> Iterator[str]:
    tables = _times(300, scale)
    yield "\n## Rankings on the problems of the table\n"
    yield _text(
        f"Share of {tables} simulated tables in which the credible interval of a policy's mean solve rate on these "
        "problems holds it; with samples of 1 to 20, their number differs from problem to problem."
    )
    sizes: tuple[int | str, ...] = (1, 2, 10, 50, "1 to 20")
    headings = [f"{size} sample{'' if size == 1 else 's'}" for size in sizes]
    yield f"| rates | problems | {' | '.join(headings)} |"
    yield f"|---|---|{'---|' * len(sizes)}"
    for name, draw in _rate_kinds():
        for problems in (10, 40, 300):
            held = [_held_by_posterior(draw, problems, size, tables) for size in sizes]
            yield f"| {name} | {problems} | {' | '.join(held)} |"
    worlds = _times(400, scale)
    yield ""
    yield _text(
        f"{worlds} simulated tables each of 60 problems, 8 samples of each policy, rates Beta(0.5, 0.8) of the "
        "problem, plus normal noise of each policy (the gap) and of each cell (5 points). The first policy's chance to "
        "be the best on these problems, as claimed, and how often it was; how often the policies that were named as "
        "candidates held the truly best one, and how many they were."
    )
    yield "| policies | gap, points | chance claimed | right | best among candidates | candidates |"
    yield "|---|---|---|---|---|---|"
    for policies in (2, 4, 9):
        for gap in (0.0, 0.02, 0.1):
            rng = np.random.default_rng(policies)
            judged = [_judged_ranking(rng, policies, gap) for _ in range(worlds)]
            claimed, right, held, number = np.mean(judged, axis=0)
            figures = f"{100 * claimed:.0f} % | {100 * right:.0f} % | {100 * held:.1f} % | {number:.1f}"
            yield f"| {policies} | {100 * gap:g} | {figures} |"


_Rates = Callable[[np.random.Generator, int], Floats]


def _rate_kinds() -> Iterator[tuple[str, _Rates]]:
    yield "all 30 %", lambda _, problems: np.full(problems, 0.3)
    yield "all 2 %", lambda _, problems: np.full(problems, 0.02)
    yield "Beta(0.3, 0.6)", lambda rng, problems: rng.beta(0.3, 0.6, problems)
    yield "Beta(0.1, 3)", lambda rng, problems: rng.beta(0.1, 3.0, problems)
    yield "Beta(2, 0.5)", lambda rng, problems: rng.beta(2.0, 0.5, problems)
    yield "0 or 50 %", lambda rng, problems: rng.choice([0.0, 0.5], problems)
    yield "0 or 100 %", lambda rng, problems: rng.choice([0.0, 1.0], problems, p=[0.6, 0.4])


def _held_by_posterior(draw: _Rates, problems: int, size: int | str, tables: int) -> str:
    rng = np.random.default_rng(problems)
    held = 0
    for _ in range(tables):
        rate_P = draw(rng, problems)
        n_P = rng.choice([1, 2, 5, 20], problems) if isinstance(size, str) else np.full(problems, size)
        low, high = MeanRate.of(n_P, rng.binomial(n_P, rate_P)).interval(0.95)
        held += low - 1e-9 <= rate_P.mean() <= high + 1e-9
    return f"{100 * held / tables:.0f} %"


def _judged_ranking(rng: np.random.Generator, policies: int, gap: float) -> tuple[float, bool, bool, int]:
    noise_MP = rng.normal(0, gap, (policies, 1)) + rng.normal(0, 0.05, (policies, 60))
    rate_MP = np.clip(rng.beta(0.5, 0.8, 60) + noise_MP, 0, 1)
    outcomes = _outcomes(8, rng.binomial(8, rate_MP))
    ranking = rank_policies(outcomes, Resampling(resamples=2, method="percentile"))
    best = outcomes.policies[int(rate_MP.mean(axis=1).argmax())]
    first = max(ranking.policies, key=lambda ranked: ranked.chance_first)
    return first.chance_first, first.policy == best, best in ranking.best, len(ranking.best)


def _votes(scale: float) -> Iterator[str]:
    tables, policies, problems, samples, total = _times(40, scale), 6, 60, 16, 6
    yield "\n## Majority votes\n"
    yield _text(
        f"{tables} simulated tables of {problems} problems and {policies} policies with {samples} samples; {total} "
        "samples vote. Half of the wrong answers to a problem are the same. With one kind, all policies have the same "
        "rates, Beta(1, 1), and no mixture gains anything. With two, either kind has a rate of 0.7 on half of the "
        "problems and of 0.3 on the other half. The truth is that of 4,000 problems with 100 samples."
    )
    yield (
        "| kinds | accuracy of the equal split | its interval holds it | gain of the equal split | honest gain of the "
        "mixture | gain > 0 | beats every single policy |"
    )
    yield "|---|---|---|---|---|---|---|"
    for kinds in (1, 2):
        right, gain = _true_votes(_answers(10**6, policies, kinds, 4000, 100), total)
        found = [
            compare_votes(
                _answers(seed, policies, kinds, problems, samples), total, cross_fits(0)["problems"], _RESAMPLING
            )
            for seed in range(tables)
        ]
        held = _share([comparison.accuracy["equal"].honest["problems"] for comparison in found], right)
        gains = [comparison.gains["mixture"].honest["problems"] for comparison in found]
        strict = [one.gain for comparison in found if (one := comparison.strict["mixture"]) is not None]
        honest = 100 * np.mean([one.value for one in gains])
        claimed, beats = (100 * np.mean([one.sign > 0 for one in verdicts]) for verdicts in (gains, strict))
        yield (
            f"| {kinds} | {100 * right:.1f} % | {held} | {100 * gain:+.1f} | {honest:+.1f} | {claimed:.1f} % | "
            f"{beats:.1f} % |"
        ).replace("-", "−")


def _answers(seed: int, policies: int, kinds: int, problems: int, samples: int) -> Answers:
    """Simulate tables of answers: none, the right one, a popular wrong one and five others."""
    rng = np.random.default_rng(seed)
    known_P = rng.integers(2, size=problems)
    rate_MP = np.where(np.arange(policies)[:, None] % 2 == known_P, 0.7, 0.3)
    rate_MP = rate_MP if kinds == 2 else np.tile(rng.beta(1, 1, problems), (policies, 1))
    wrong_A = np.array([0.5, *[0.1] * 5])
    chance_MPA = np.concatenate(
        [np.zeros((*rate_MP.shape, 1)), rate_MP[..., None], (1 - rate_MP)[..., None] * wrong_A], axis=2
    )
    given_MPA = rng.multinomial(samples, chance_MPA)
    right_MPA = given_MPA * (np.arange(given_MPA.shape[2]) == 1)
    by_problem = tuple(ProblemAnswers(given_MPA[:, p], right_MPA[:, p]) for p in range(problems))
    return Answers(_outcomes(samples, right_MPA[..., 1]), by_problem)


def _true_votes(answers: Answers, total: int) -> tuple[float, float]:
    """Return the accuracy of the equal split, and its gain over the first policy, which is like the others."""
    policies = len(answers.outcomes.policies)
    split_CM = np.array([np.full(policies, total // policies), [total, *[0] * (policies - 1)]])
    rng = np.random.default_rng(0)
    equal, single = np.mean([vote_accuracies(*problem, split_CM, rng) for problem in answers.by_problem], axis=0)
    return float(equal), float(equal - single)


def _same(seed: int, policies: int, problems: int, samples: int, kinds: int = 1) -> Outcomes:
    """Return outcomes of policies of a few kinds; those of one kind have the same rates."""
    rng = np.random.default_rng(seed)
    rate_MP = rng.beta(0.2, 1.0, (kinds, problems))[np.arange(policies) % kinds]
    return _outcomes(samples, rng.binomial(samples, rate_MP))


def _outcomes(n: int | Ints, c_MP: Ints) -> Outcomes:
    problems, policies = (
        tuple(f"{kind}{i}" for i in range(size)) for kind, size in zip("pm", c_MP.shape[::-1], strict=True)
    )
    return Outcomes(problems, policies, np.broadcast_to(np.asarray(n, np.int64), c_MP.shape).copy(), c_MP, {}, {})


if __name__ == "__main__":
    main()
