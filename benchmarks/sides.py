"""Both sides of the comparisons of the judge, each measured in CPU seconds for the same samples.

Start-up counts on neither side: the time of a judge without programs is subtracted, and the others start measuring
after their imports.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from measure import cpu_s
from workload import Sample

from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Verdict

Sandbox = Literal["strict", "weak"]


def judge(samples: Sequence[Sample], sandbox: Sandbox = "strict") -> None:
    """Judge all samples with one worker. Exit from the benchmark if a verdict is not the intended one."""
    with Judge(workers=1, sandbox=sandbox) as ours:
        check(ours, samples)


def check(ours: Judge, samples: Sequence[Sample]) -> None:
    """Judge all samples, each of which must get the verdict that it was written for."""
    futures = [ours.submit(sample.problem, sample.program) for sample in samples]
    for sample, future in zip(samples, futures, strict=True):
        if (judgement := future.result()).verdict is not sample.verdict:
            raise SystemExit(
                f"{judgement} where {sample.verdict} is right: the benchmark means nothing. Program for "
                f"{sample.problem.id}:\n{sample.program.source}"
            )


def judge_s(samples: Sequence[Sample], sandbox: Sandbox = "strict") -> float:
    """Return the CPU seconds of our side."""
    boot_s = cpu_s(lambda: judge([], sandbox))
    return cpu_s(lambda: judge(samples, sandbox)) - boot_s


@dataclass(frozen=True)
class Side:
    """Another side: a script beside this one (see `side`)."""

    name: str
    script: str

    def accepted(self, samples: Sequence[Sample]) -> list[bool]:
        """Return which samples it accepts."""
        return self._run(samples)[0]

    def cpu_s(self, samples: Sequence[Sample]) -> float:
        """Return the CPU seconds of this side."""
        return self._run(samples)[1]

    def _run(self, samples: Sequence[Sample]) -> tuple[list[bool], float]:
        problems = list({sample.problem.id: sample.problem for sample in samples}.values())
        place = {problem.id: index for index, problem in enumerate(problems)}
        work = {
            "problems": [problem.model_dump(mode="json") for problem in problems],
            "programs": [(place[sample.problem.id], sample.program.source) for sample in samples],
        }
        command = [sys.executable, str(Path(__file__).with_name(self.script))]
        run = subprocess.run(command, input=json.dumps(work), stdout=subprocess.PIPE, text=True, check=True)
        reply = json.loads(run.stdout.splitlines()[-1])
        return reply["accepted"], reply["cpu_s"]


FLOOR = Side("`exec` without isolation", "floor.py")
NAIVE = Side("`python -I -S` per test", "naive.py")
_LIVECODEBENCH = Side("LiveCodeBench's evaluator", "livecodebench.py")


def peer() -> Side:
    """Return LiveCodeBench's evaluator if the variable LIVECODEBENCH names a checkout of it, else the naive judge."""
    return _LIVECODEBENCH if os.environ.get("LIVECODEBENCH") else NAIVE


def disagreements(side: Side, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that a side accepts wrongly or rejects wrongly."""
    accepted = side.accepted(samples)
    return [
        sample for sample, is_ac in zip(samples, accepted, strict=True) if is_ac is not (sample.verdict is Verdict.AC)
    ]
