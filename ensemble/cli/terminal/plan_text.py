"""The plan of a run for people, as `alphamix run --dry-run` prints it."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from alphamix.ensemble.cli.terminal.cost_table import cost_table
from alphamix.ensemble.report.formatting import allocation_label, arm_label, plain_table, shown


def plan_text(plan: Mapping[str, Any]) -> RenderableType:
    """Return a plan, as `plan.describe` and the command make it, in sentences and tables."""
    problems, budget = plan["problems"], f"{plan['budget_per_problem']:g} {plan['currency']}"
    parts: list[RenderableType] = [
        Text(f"Nothing is written or asked. The run goes to {plan['folder']}."),
        Text(f"{problems:,} problems, {len(plan['policies']):,} policies; each arm spends {budget} a problem."),
        plain_table(["arm", "spends on a problem"], _arms(plan["arms"]), num_texts=2),
        plain_table(
            ["policy", "samples of a problem", "of all"],
            ([shown(name), f"{n:,}", f"{n * problems:,}"] for name, n in plan["samples_per_problem"].items()),
        ),
        Text(f"Samples: {plan['samples']:,}, {plan['samples_are']}. {_most(plan)}"),
    ]
    limits = [f"{amount:,.0f} {currency}" for currency, amount in plan["budget_of_the_run"].items()]
    if limits:
        parts.append(Text(f"The run stops at {' or '.join(limits)}."))
    if "cost" in plan:
        parts += [Text("Estimated from the run that was measured:"), cost_table(plan["cost"])]
    return Group(*parts)


def _arms(arms: Mapping[str, Any]) -> list[list[str]]:
    return [[shown(arm_label(name)), _spending(name, arm)] for name, arm in arms.items()]


def _spending(name: str, arm: Mapping[str, Any] | None) -> str:
    if arm is None:
        return "what the pilot shows that it pays for"
    if "adaptive" in arm:
        return f"at most {arm['at_most']:g}, on {', '.join(map(shown, arm['adaptive']))}, as it learns"
    return f"all of it on one policy: {allocation_label(arm)}" if name == "singles" else allocation_label(arm)


def _most(plan: Mapping[str, Any]) -> str:
    if plan["most_samples"] is None:
        return "How many there will be depends on the pilot."
    return f"At most {plan['most_samples']:,} samples and {plan['most_tokens']:,} completion tokens."
