"""The judge: its speed compared with others, the cost of its parts, and its endurance.

    python benchmarks/judge.py                  # its rows of `make bench`
    python benchmarks/judge.py --soak 100000    # many programs: no resource may grow
    python benchmarks/judge.py --steady 20      # the same verdicts repeatedly on an overloaded machine

Rows are ratios or differences of CPU seconds, measured alternately on one core. `sides` explains how start-up counts,
and `limits` what is measured by the wall clock and why. Without the variable LIVECODEBENCH (see `livecodebench`) the
other side is the naive judge, on a tenth of the mix.
"""

import argparse
import statistics

import endurance
import limits
from measure import Row, alternate, median_difference, median_ratio, milliseconds, one_core
from sides import FLOOR, NAIVE, disagreements, judge_s, peer
from workload import mixed, trivial

_TRIVIAL = {1: (200, "≥ 12 ×"), 21: (100, "≥ 12 ×"), 101: (40, "≥ 16 ×")}
"""Number of programs for the other side, and target, by number of tests."""
_OUR_PROGRAMS = 1000
_FEW_TESTS, _MANY_TESTS = 21, 201
_SOAK_PROGRAMS = 2000


def rows() -> list[Row]:
    """Measure all rows."""
    with one_core():
        speed = [
            *(_trivial(num_tests, *of) for num_tests, of in _TRIVIAL.items()),
            _mix(),
            _agreement(),
            _above_floor(),
            _per_test(),
            _isolation(),
        ]
    return [*speed, *limits.rows(), *endurance.soak(_SOAK_PROGRAMS)]


def _trivial(num_tests: int, num_programs: int, target: str) -> Row:
    ours, theirs = trivial(num_tests, _OUR_PROGRAMS), trivial(num_tests, num_programs)
    pairs = alternate(lambda: judge_s(ours) / len(ours), lambda: peer().cpu_s(theirs) / len(theirs))
    what = f"judge: trivial accepted program, tests: {num_tests}, against {peer().name}"
    return Row(what, *milliseconds(pairs, 1, "program"), f"{median_ratio(pairs):.1f} ×", target)


def _mix() -> Row:
    samples = mixed()[:: 10 if peer() is NAIVE else 1]
    pairs = alternate(lambda: judge_s(samples), lambda: peer().cpu_s(samples))
    what = f"judge: {len(samples)} programs of the mix, against {peer().name}"
    return Row(what, *milliseconds(pairs, len(samples), "program"), f"{median_ratio(pairs):.1f} ×", "≥ 7 ×")


def _agreement() -> Row:
    """Compare verdicts, as accepted or not. Ours must all be as intended, or the benchmark stops."""
    samples = mixed()[:: 10 if peer() is NAIVE else 1]
    share = 1 - len(disagreements(peer(), samples)) / len(samples)
    return Row(f"judge: verdicts on the mix as intended, against {peer().name}", "100 %", f"{share:.1%}", "")


def _above_floor() -> Row:
    samples = mixed()
    pairs = alternate(lambda: judge_s(samples), lambda: FLOOR.cpu_s(samples))
    result = f"{1000 * median_difference(pairs) / len(samples):.2f} ms more"
    return Row(f"judge: the mix, above {FLOOR.name}", *milliseconds(pairs, len(samples), "program"), result, "≤ 3 ms")


def _per_test() -> Row:
    """Measure the slope between few tests and many."""
    few, many = (trivial(num_tests, _OUR_PROGRAMS) for num_tests in (_FEW_TESTS, _MANY_TESTS))
    pairs = alternate(lambda: judge_s(many) - judge_s(few), lambda: FLOOR.cpu_s(many) - FLOOR.cpu_s(few))
    more_tests = _OUR_PROGRAMS * (_MANY_TESTS - _FEW_TESTS)
    result = f"{1000 * median_difference(pairs) / more_tests:.3f} ms more"
    return Row(
        f"judge: one more test, above {FLOOR.name}", *milliseconds(pairs, more_tests, "test"), result, "≤ 0.06 ms"
    )


def _isolation() -> Row:
    samples = mixed()
    pairs = alternate(lambda: judge_s(samples), lambda: judge_s(samples, "weak"))
    more = statistics.median(ours / other - 1 for ours, other in pairs)
    what = "judge: the mix, against the same with resource limits only"
    return Row(what, *milliseconds(pairs, len(samples), "program"), f"{more:+.1%}", "≤ +10 %")


def main() -> None:
    """Print the requested rows."""
    parser = argparse.ArgumentParser(description="Measure the judge.")
    parser.add_argument("--soak", type=int, metavar="PROGRAMS", help="judge this many programs, and report what grows")
    parser.add_argument("--steady", type=int, metavar="RUNS", help="compare verdicts over this many runs under load")
    asked = parser.parse_args()
    taken = endurance.soak(asked.soak) if asked.soak else []
    taken += [endurance.steady(asked.steady)] if asked.steady else []
    for row in taken or rows():
        print(f"{row.what}: {row.ours}; {row.other}; {row.result} ({row.target})")


if __name__ == "__main__":
    main()
