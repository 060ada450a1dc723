"""Make `problems.jsonl`, the held-out problems of the quickstart, and check that their limits fit this machine.

    python examples/ladder/make_problems.py             # writes problems.jsonl beside this file
    python examples/ladder/make_problems.py --check     # judges literal and efficient programs on them

All kinds are rare or novel, so reinforcement has seen none of them. Regimes are balanced for every number of parts.
This choice, made before anything was sampled, determines how the trade-off adds up to one solve rate.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import click
from pydantic import TypeAdapter
from world.efficient import efficient
from world.grammar import Part
from world.literal import literal
from world.problems import draw_problem, split_kinds
from world.program import Program

from alphamix.grading import types as grading
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Verdict

PROBLEMS_FILE = Path(__file__).parent / "problems.jsonl"
PROBLEMS_OF_PARTS = {1: 4, 2: 8, 3: 8}
"""Number of problems in each regime, by number of parts."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PROBLEMS_FILE, show_default="beside")
@click.option("--check", is_flag=True, help="Judge the programs of the problems instead, and report misfits.")
def main(out: Path, check: bool) -> None:
    """Make the held-out problems, or check their limits on this machine."""
    problems = held_out_problems()
    if not check:
        out.write_text("".join(f"{problem.model_dump_json()}\n" for problem in problems))
        click.echo(f"{len(problems)} problems, {out.stat().st_size / 1e6:.1f} MB: {out}")
        return
    with Judge() as judge:
        misfits = [line for problem in problems for line in find_misfits(judge, problem)]
    click.echo("\n".join([*misfits, f"{len(problems)} problems, {len(misfits)} misfits"]))
    if misfits:
        raise SystemExit(1)


def held_out_problems(num_of_parts: dict[int, int] = PROBLEMS_OF_PARTS, name: str = "ladder") -> list[Problem]:
    """Draw evaluation problems, easy ones first. Another name gives other problems of the same forms."""
    split = split_kinds()
    return [
        draw_problem(
            f"{name}-{num_parts}-{regime}-{index:02d}",
            split.rare + split.novel,
            num_parts,
            regime == "strict",
        )
        for num_parts, count in num_of_parts.items()
        for regime in ("lenient", "strict")
        for index in range(count)
    ]


def find_misfits(judge: Judge, problem: Problem) -> Iterator[str]:
    """Report where a problem's limits do not separate its programs by a wide margin.

    The margin depends on the machine and its load. A literal program must pass lenient tests in a third of the limit,
    and must not pass the largest strict test in three times the limit. An efficient program must always pass in a
    third.
    """
    parts = TypeAdapter(tuple[Part, ...]).validate_python(problem.metadata["parts"])
    strict = problem.metadata["regime"] == "strict"
    for style in (0, 1):
        fast, slow = _program(parts, efficient, style), _program(parts, literal, style)
        if _verdict(judge, problem, fast, Fraction(1, 3)) is not Verdict.AC:
            yield f"{problem.id}: an efficient program needs more than a third of the limit"
        if strict:
            largest = problem.model_copy(update={"tests": problem.tests[-1:]})
            if _verdict(judge, largest, slow, Fraction(3)) is not Verdict.TLE:
                yield f"{problem.id}: a literal program passes within three times the limit"
        elif _verdict(judge, problem, slow, Fraction(1, 3)) is not Verdict.AC:
            yield f"{problem.id}: a literal program needs more than a third of the limit"


def _program(parts: Sequence[Part], approach: Callable[[Part], list[Program]], style: int) -> str:
    programs = [approach(part) for part in parts]
    return "".join(wordings[style % len(wordings)].source() for wordings in programs)


def _verdict(judge: Judge, problem: Problem, source: str, share_of_limit: Fraction) -> Verdict:
    time_limit_s = float(problem.time_limit_s * share_of_limit)
    limited = problem.model_copy(update={"time_limit_s": time_limit_s})
    return judge.submit(limited, grading.Program(source)).result().verdict


if __name__ == "__main__":
    main()
