"""Log of the requests that a server has answered: its lines, and what a sample of each policy cost in use.

A line is a JSON object; `key` and `policies` are read here. An entry of `policies` has the number of `choices` of the
policy, its `prompt_tokens` and `completion_tokens`, null if its server did not report them, and the `seconds` of its
calls.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a request log; the last one may be torn, and is then left out.

    Raises:
        OutcomesError: it cannot be read, or another line is no request.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OutcomesError(
            f"the request log {path} cannot be read ({error}): give a log of 'alphamix serve'"
        ) from error
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not {"key", "policies"} <= record.keys():
                raise LookupError("no 'key', or no 'policies'")
        except (ValueError, AttributeError, LookupError) as error:
            if number == len(lines):
                break
            raise OutcomesError(
                f"line {number} of {path} is no request ({error!r}): give a log of 'alphamix serve --request-log'"
            ) from error
        records.append(record)
    return records


def with_costs(table: Outcomes, records: Sequence[Mapping[str, Any]]) -> Outcomes:
    """Return a table whose costs are those of a log: written tokens, and seconds of calls, per choice of each policy.

    Raises:
        OutcomesError: the log has no choice of some policy.
    """
    cost_M = {
        "tokens": [_mean(records, policy, "completion_tokens") for policy in table.policies],
        "seconds": [_mean(records, policy, "seconds") for policy in table.policies],
    }
    shape = table.num_samples_MP.shape
    return replace(
        table, costs_MP={cost: np.tile(np.array(mean_M)[:, None], shape[1]) for cost, mean_M in cost_M.items()}
    )


def _mean(records: Sequence[Mapping[str, Any]], policy: str, cost: str) -> float:
    shares = [record["policies"][policy] for record in records if policy in record["policies"]]
    known = [share for share in shares if share[cost] is not None]
    choices = sum(share["choices"] for share in known)
    if not choices:
        raise OutcomesError(
            f"the request log has no {cost} of the policy {policy!r}: serve it first, or leave it out with --policy"
        )
    return sum(share[cost] for share in known) / choices
