"""From the policies of a file to the members of a family on vLLM servers. Nothing is started here.

`merging.affine_form` says what each policy is made of; `family` starts servers when a policy is opened.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.family import Member, VllmFamily
from alphamix.policies.engines.vllm.server import VllmOptions
from alphamix.policies.merging.affine_form import AdaptedForm, AffineForm, LogitPair, PolicyForm
from alphamix.policies.policy_file.recipes import EngineChoice, Serve
from alphamix.policies.types import PolicyError


class PolicyFileFamily(VllmFamily):
    """Family of the policies of a file on vLLM servers.

    Args:
        table: Says how they are served.
        forms: What each policy is made of, by name.
        folder_of: Gives the folder of a policy's own checkpoint, made if need be; called for `servers` alone.
        options: For the requests.

    Raises:
        PolicyError: a policy cannot be served this way, or its checkpoint not be made.
    """

    def __init__(
        self,
        table: EngineChoice,
        forms: Mapping[str, PolicyForm],
        folder_of: Callable[[str], Path],
        options: EngineOptions,
    ) -> None:
        self._serve: Serve = table.serve
        if table.serve == "switch":
            members = _switched(forms)
        elif table.serve == "adapters":
            members = {name: _adapted(name, form) for name, form in forms.items()}
        else:
            members = {name: _whole(name, form, folder_of) for name, form in forms.items()}
        how = VllmOptions(table.serve, str(table.interpreter or sys.executable), table.arguments)
        super().__init__(members, how, options)

    def join(self, name: str, form: PolicyForm) -> None:
        """Add a policy, also while servers run.

        Raises:
            PolicyError: it cannot be served as the others are, or would need a server of its own.
        """
        if self._serve == "switch" and isinstance(form, AffineForm):
            self.add(name, Member(self.base, form.around(self.base)))
        elif self._serve == "adapters":
            self.add(name, _adapted(name, form))
        elif self._serve == "servers" and isinstance(form, LogitPair):
            self.add(name, Member(form.low, mixed=(form.high, form.alpha)))
        else:
            raise _mismatch(name, self._serve)


def _whole(name: str, form: PolicyForm, folder_of: Callable[[str], Path]) -> Member:
    if isinstance(form, LogitPair):
        return Member(form.low, mixed=(form.high, form.alpha))
    return Member(folder_of(name))


def _switched(forms: Mapping[str, PolicyForm]) -> dict[str, Member]:
    """Return the members, all relative to one base: the first checkpoint of the first policy."""
    members: dict[str, Member] = {}
    base: Path | None = None
    for name, form in forms.items():
        if not isinstance(form, AffineForm):
            raise _mismatch(name, "switch")
        base = base or next(iter(form.coefficients))
        members[name] = Member(base, form.around(base))
    return members


def _adapted(name: str, form: PolicyForm) -> Member:
    if isinstance(form, AdaptedForm):
        return Member(form.base, adapter=form.adapter)
    if isinstance(form, AffineForm) and len(form.coefficients) == 1:
        return Member(next(iter(form.coefficients)))
    raise _mismatch(name, "adapters")


def _mismatch(name: str, serve: str) -> PolicyError:
    return PolicyError(f'policy {name!r} cannot be served with serve = "{serve}": write serve = "servers".')
