"""Which policies of a table lie on one line of α, and where on it."""

import re
from collections.abc import Mapping, Sequence

from alphamix.ensemble.errors import EnsembleError

MIN_ALPHAS = 3
"""Through two points goes a line, and every curve."""

_MEMBER = re.compile(r"(?P<sweep>.+)@(?P<alpha>[+\u2212-]?\d+(\.\d+)?)")
"""A member of a sweep as a file of policies names it; the minus may be a sign or a hyphen."""


class AlphaError(EnsembleError):
    """Policies do not form a line of α, or nothing can be said along it."""


def alphas_of(
    policies: Sequence[str], given: Mapping[str, float], known: Mapping[str, float], sweep: str | None
) -> dict[str, float]:
    """Find α of the policies of one sweep; those without any are left out.

    Args:
        policies: names in a table of outcomes.
        given: α by policy as the user says; goes before all else and belongs to every sweep.
        known: α by policy as a file of policies says; names like `coverage@+0.50` speak for themselves where it is
            silent.
        sweep: keep only its members (`coverage`) and what is given.

    Raises:
        AlphaError: a given name is unknown, there are several sweeps, two policies with one α, or fewer than three.
    """
    unknown = [name for name in given if name not in policies]
    if unknown:
        raise AlphaError(f"no policy of the table is called {unknown[0]!r}: name one of {', '.join(policies)}")
    members = {name: found for name in policies if (found := _MEMBER.fullmatch(name))}
    sweeps = list(dict.fromkeys(found["sweep"] for name, found in members.items() if name not in given))
    if sweep is not None and sweep not in sweeps:
        raise AlphaError(
            f"the table has no sweep {sweep!r} but {', '.join(sweeps) or 'none at all'}: choose one of these"
        )
    if sweep is None and len(sweeps) > 1:
        raise AlphaError(f"the table mixes the sweeps {', '.join(sweeps)}: choose one with --sweep")
    alphas: dict[str, float] = {}
    for name in policies:
        found = members.get(name)
        if name in given:
            alphas[name] = given[name]
        elif sweep is not None and (found is None or found["sweep"] != sweep):
            continue
        elif name in known:
            alphas[name] = known[name]
        elif found is not None:
            alphas[name] = float(found["alpha"].replace("\u2212", "-"))
    _check(alphas)
    return alphas


def _check(alphas: Mapping[str, float]) -> None:
    names: dict[float, str] = {}
    for name, alpha in alphas.items():
        if alpha in names:
            raise AlphaError(
                f"{names[alpha]!r} and {name!r} both have α = {alpha:g}: keep one of them, with --sweep or in the table"
            )
        names[alpha] = name
    if len(alphas) < MIN_ALPHAS:
        raise AlphaError(
            f"α is known of {len(alphas)} policies ({', '.join(alphas) or 'none'}), and a curve needs {MIN_ALPHAS}: "
            "sample more, or say the α of others with --policies or --alpha NAME=VALUE"
        )
