"""What a run's store holds, in the forms that others read: outcomes, and JSON lines of samples and verdicts."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ensemble.outcomes import Outcomes
from ensemble.outcomes_file import outcomes_from_table, write_outcomes
from ensemble.sample_file import SampleKey
from ensemble.store import Graded, Sample, Store
from ensemble.verdict_file import verdict_line


def count_outcomes(store: Store, level: float = 1.0, verdict_set: str | None = None) -> Outcomes:
    """Count verdicts per problem and policy, with failure classes and mean costs per sample.

    Args:
        store: of a run.
        level: coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests. One that did not
            keeps the failure class that it has at full coverage.
        verdict_set: the set of verdicts that is counted [the current].

    Raises:
        GradingError: the level is not above 0 and at most 1.
        StoreError: there is no such set.
    """
    return outcomes_from_table(store.tally(level, verdict_set), str(store.path))


def export(store: Store, folder: Path, level: float = 1.0) -> list[Path]:
    """Write `samples.jsonl`, `verdicts.jsonl` and `outcomes.csv` in place of such files; return their paths.

    Outcomes are counted at a coverage level (`count_outcomes`); verdicts are those of all tests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = store.about()
    samples, verdicts, outcomes = (folder / name for name in ("samples.jsonl", "verdicts.jsonl", "outcomes.csv"))
    _write_lines(samples, (_sample_line(sample, about) for sample in store.samples()))
    _write_lines(verdicts, (_verdict_line(*graded) for graded in store.graded()))
    write_outcomes(count_outcomes(store, level), outcomes)
    return [samples, verdicts, outcomes]


def _sample_line(sample: Sample, about: Mapping[str, str]) -> dict[str, Any]:
    slot, completion = sample.slot, sample.completion
    return {
        "problem_id": slot.problem,
        "policy": slot.policy,
        "index": slot.index,
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        },
        "seconds": completion.seconds,
        "seed": slot.seed,
        "setting": json.loads(about["sampling.setting"]),
        "fingerprint": about[f"policies.{slot.policy}"],
        "created": sample.created,
    }


def _verdict_line(graded: Graded, judge: str) -> dict[str, Any]:
    slot = graded.slot
    key = SampleKey(slot.problem, slot.policy, slot.index)
    return verdict_line(key, graded.judgement, graded.failure, json.loads(judge))


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)
