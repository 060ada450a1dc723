"""Costs of samples from the log of a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from alphamix.ensemble.cli.commands.mix import command
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.request_log import read_log, with_costs
from alphamix.ensemble.outcomes.table import OutcomesError

OUTCOMES = "policy,problem,n,c\n" + "".join(
    f"{policy},p{problem},8,{(problem + shift) % 5}\n"
    for policy, shift in (("low", 0), ("high", 2))
    for problem in range(12)
)


def line(**shares: tuple[int, int | None, float]) -> str:
    policies = {
        name: {"choices": choices, "completion_tokens": tokens, "seconds": seconds}
        for name, (choices, tokens, seconds) in shares.items()
    }
    return json.dumps({"key": None, "policies": policies}) + "\n"


def test_costs_are_means_over_choices_and_unknown_tokens_do_not_count(tmp_path: Path) -> None:
    outcomes, log = tmp_path / "outcomes.csv", tmp_path / "log"
    outcomes.write_text(OUTCOMES)
    log.write_text(line(low=(2, 100, 4), high=(1, 40, 1)) + line(low=(2, None, 6)) + line(high=(3, 40, 7)) + '{"key"')
    table = with_costs(read_outcomes(outcomes), read_log(log))
    assert dict(zip(table.policies, table.mean_cost_M("tokens"), strict=True)) == {"low": 50, "high": 20}
    assert dict(zip(table.policies, table.mean_cost_M("seconds"), strict=True)) == {"low": 2.5, "high": 2}
    assert table.costs_MP["tokens"].shape == np.shape(table.num_samples_MP)


def test_mix_spends_tokens_as_the_log_says(tmp_path: Path) -> None:
    outcomes, log = tmp_path / "outcomes.csv", tmp_path / "log"
    outcomes.write_text(OUTCOMES)
    arguments: list[Any] = [
        "--outcomes",
        str(outcomes),
        "--budget",
        "100",
        "--cost",
        "tokens",
        "--json",
        "--repeats",
        1,
    ]
    assert CliRunner().invoke(command, arguments).exit_code != 0
    for cost, most in ((10, 10), (50, 2)):
        log.write_text(line(low=(1, cost, 1), high=(1, cost, 1)))
        result = CliRunner().invoke(command, [*arguments, "--costs", str(log)], catch_exceptions=False)
        assert sum(json.loads(result.output)["allocation"].values()) == most


@pytest.mark.parametrize("text", ["[]\n{}", "fine\n{}", '{"key": 1}\n{}'])
def test_a_log_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "log"
    file.write_text(text)
    with pytest.raises(OutcomesError, match=r"line 1 of .* is no request"):
        read_log(file)


def test_a_policy_that_was_not_served_has_no_cost(tmp_path: Path) -> None:
    outcomes, log = tmp_path / "outcomes.csv", tmp_path / "log"
    outcomes.write_text(OUTCOMES)
    log.write_text(line(low=(2, 100, 4)))
    with pytest.raises(OutcomesError, match="'high'"):
        with_costs(read_outcomes(outcomes), read_log(log))
    with pytest.raises(OutcomesError, match="cannot be read"):
        read_log(tmp_path / "none")
