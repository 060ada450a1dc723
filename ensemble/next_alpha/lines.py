"""The line of α that policies of a table lie on, and the α of each."""

import re
from collections.abc import Mapping, Sequence

from alphamix.ensemble.errors import EnsembleError

MIN_ALPHAS = 3
"""Minimum number of α: two points fit any kind of curve."""

_MEMBER = re.compile(r"(?P<sweep>.+)@(?P<alpha>[+\u2212-]?\d+(\.\d+)?)(?P<setting>@[a-z]+)?")
"""Name of a member of a sweep, as a file of policies makes it; the minus may be a minus sign or a hyphen. In a table of
several settings it ends in one, and each setting has a line of its own."""


class AlphaError(EnsembleError):
    """No line of α can be found, or the line allows no prediction. The message gives the cause, then the cure."""


def alphas_of(
    policies: Sequence[str], given: Mapping[str, float], known: Mapping[str, float], sweep: str | None
) -> dict[str, float]:
    """Return the α of the policies of one sweep, leaving out policies without an α.

    Args:
        policies: names in a table of outcomes.
        given: α by policy from the user, which takes precedence and belongs to every sweep.
        known: α by policy from a file of policies. For other policies, it is read from names like `coverage@+0.50`.
        sweep: name of the sweep (`coverage`, in a table of several settings `coverage@tool`) whose members are kept,
            besides the policies in `given`; None for all.

    Raises:
        AlphaError: a given name is unknown, there are several sweeps, two policies have the same α, or fewer than three
            have one.
    """
    unknown = [name for name in given if name not in policies]
    if unknown:
        raise AlphaError(f"unknown policy {unknown[0]!r}: choose one of {', '.join(policies)}")
    members = {name: match for name in policies if (match := _MEMBER.fullmatch(name))}
    sweep_of = {name: match["sweep"] + (match["setting"] or "") for name, match in members.items()}
    sweeps = list(dict.fromkeys(line for name, line in sweep_of.items() if name not in given))
    if sweep is not None and sweep not in sweeps:
        raise AlphaError(
            f"unknown sweep {sweep!r}: "
            + (f"choose one of {', '.join(sweeps)}" if sweeps else "the table has no sweeps, so leave out --sweep")
        )
    if sweep is None and len(sweeps) > 1:
        raise AlphaError(f"the table has several sweeps, {', '.join(sweeps)}: choose one with --sweep")
    alphas: dict[str, float] = {}
    for name in policies:
        match = members.get(name)
        if name in given:
            alphas[name] = given[name]
        elif sweep is not None and sweep_of.get(name) != sweep:
            continue
        elif name in known:
            alphas[name] = known[name]
        elif match is not None:
            alphas[name] = float(match["alpha"].replace("\u2212", "-"))
    _check(alphas)
    return alphas


def _check(alphas: Mapping[str, float]) -> None:
    names: dict[float, str] = {}
    for name, alpha in alphas.items():
        if alpha in names:
            raise AlphaError(
                f"{names[alpha]!r} and {name!r} both have α = {alpha:g}: keep one of them, by --sweep or in the table"
            )
        names[alpha] = name
    if len(alphas) < MIN_ALPHAS:
        raise AlphaError(
            f"a curve needs {MIN_ALPHAS} policies with a known α, and there are {len(alphas)} "
            f"({', '.join(alphas) or 'none'}): sample more, or give their α with --policies or --alpha NAME=VALUE"
        )
