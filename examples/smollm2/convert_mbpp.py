"""Convert MBPP, or some of its problems, to problems of alphamix with `alphamix.grading.benchmarks.mbpp`."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from alphamix.grading.benchmarks import assertions, mbpp


def main() -> None:
    """Convert a file, and print how many problems took which form."""
    parser = argparse.ArgumentParser(description="Convert MBPP to alphamix problems (JSON lines).")
    parser.add_argument("mbpp", type=Path, help="MBPP's JSON lines (mbpp.jsonl)")
    parser.add_argument("output", type=Path, help="where to write the problems")
    parser.add_argument("--ids", type=int, nargs="+", default=[], help="only these task ids, in this order")
    arguments = parser.parse_args()
    problem_of_id = {problem.id: problem for problem in mbpp.load(arguments.mbpp)}
    ids = [f"mbpp/{task_id}" for task_id in arguments.ids] or list(problem_of_id)
    if unknown := [name for name in ids if name not in problem_of_id]:
        parser.error(f"no {', '.join(unknown)} in {arguments.mbpp}: give ids of this file")
    problems = [problem_of_id[name] for name in ids]
    with arguments.output.open("w", encoding="utf-8") as output:
        for problem in problems:
            content = problem.model_dump(mode="json", exclude_defaults=True)
            output.write(json.dumps(content, ensure_ascii=False) + "\n")
    forms = Counter(assertions.form_of(problem) for problem in problems)
    counts = ", ".join(f"{count} as {form}" for form, count in forms.items())
    print(f"converted {len(problems)}: {counts}", file=sys.stderr)


if __name__ == "__main__":
    main()
