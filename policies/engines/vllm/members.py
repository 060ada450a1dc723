"""From the policies of a file to the members of a family on vLLM servers. Nothing is started here.

`merging.affine_form` says what each policy is made of; `family` starts servers when a policy is opened.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.family import Member, VllmFamily
from alphamix.policies.engines.vllm.server import VllmOptions
from alphamix.policies.merging.affine_form import AdaptedForm, AffineForm, LogitPair
from alphamix.policies.merging.affine_form import Member as Ingredients
from alphamix.policies.policy_file.recipes import EngineChoice, Serve
from alphamix.policies.types import PolicyError


class Family(VllmFamily):
    """Family of the policies of a file on vLLM servers.

    Args:
        table: Says how they are served.
        ingredients: What each policy is made of, by name.
        folder_of: Gives the folder of a policy's own checkpoint, made if need be; called for `servers` alone.
        options: For the requests.

    Raises:
        PolicyError: a policy cannot be served this way, or its checkpoint not be made.
    """

    def __init__(
        self,
        table: EngineChoice,
        ingredients: Mapping[str, Ingredients],
        folder_of: Callable[[str], Path],
        options: EngineOptions,
    ) -> None:
        self._serve: Serve = table.serve
        if table.serve == "switch":
            members = _switched(ingredients)
        elif table.serve == "adapters":
            members = {name: _adapted(name, one) for name, one in ingredients.items()}
        else:
            members = {name: _whole(name, one, folder_of) for name, one in ingredients.items()}
        how = VllmOptions(table.serve, str(table.interpreter or sys.executable), table.arguments)
        super().__init__(members, how, options)

    def join(self, name: str, one: Ingredients) -> None:
        """Add a policy, also while servers run.

        Raises:
            PolicyError: it cannot be served as the others are, or would need a server of its own.
        """
        if self._serve == "switch" and isinstance(one, AffineForm):
            self.add(name, Member(self.base, one.around(self.base)))
        elif self._serve == "adapters":
            self.add(name, _adapted(name, one))
        elif self._serve == "servers" and isinstance(one, LogitPair):
            self.add(name, Member(one.low, mixed=(one.high, one.alpha)))
        else:
            raise _mismatch(name, self._serve)


def _whole(name: str, one: Ingredients, folder_of: Callable[[str], Path]) -> Member:
    if isinstance(one, LogitPair):
        return Member(one.low, mixed=(one.high, one.alpha))
    return Member(folder_of(name))


def _switched(ingredients: Mapping[str, Ingredients]) -> dict[str, Member]:
    """Return the members, all relative to one base: the first checkpoint of the first policy."""
    members: dict[str, Member] = {}
    base: Path | None = None
    for name, one in ingredients.items():
        if not isinstance(one, AffineForm):
            raise _mismatch(name, "switch")
        base = base or next(iter(one.coefficients))
        members[name] = Member(base, one.around(base))
    return members


def _adapted(name: str, one: Ingredients) -> Member:
    if isinstance(one, AdaptedForm):
        return Member(one.base, adapter=one.adapter)
    if isinstance(one, AffineForm) and len(one.coefficients) == 1:
        return Member(next(iter(one.coefficients)))
    raise _mismatch(name, "adapters")


def _mismatch(name: str, serve: str) -> PolicyError:
    return PolicyError(f'policy {name!r} cannot be served with serve = "{serve}": write serve = "servers".')
