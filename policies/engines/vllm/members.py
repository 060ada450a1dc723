"""The policies of a file as the members of a family on vLLM servers. Nothing is started here.

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
        folder_of: Returns the folder of a policy's own checkpoint, and makes it if needed; called only for `servers`.
        options: For the requests.

    Raises:
        PolicyError: a policy cannot be served this way, or its checkpoint cannot be made.
    """

    def __init__(
        self,
        table: EngineChoice,
        forms: Mapping[str, PolicyForm],
        folder_of: Callable[[str], Path],
        options: EngineOptions,
    ) -> None:
        self._serve: Serve = table.serve
        affine = (form for form in forms.values() if isinstance(form, AffineForm))
        base = next((next(iter(form.coefficients)) for form in affine), Path())
        members: dict[str, Member] = {}
        for name, form in forms.items():
            needs_folder = table.serve == "servers" and not isinstance(form, LogitPair)
            members[name] = Member(folder_of(name)) if needs_folder else _member(name, form, table.serve, base)
        how = VllmOptions(table.serve, str(table.interpreter or sys.executable), table.arguments)
        super().__init__(members, how, options)

    def join(self, name: str, form: PolicyForm) -> None:
        """Add a policy, also while servers run.

        Raises:
            PolicyError: it cannot be served as the others are, or would need a server of its own.
        """
        self.add(name, _member(name, form, self._serve, self.base))


def _member(name: str, form: PolicyForm, serve: Serve, base: Path) -> Member:
    """Return a member that needs no checkpoint of its own. With `switch`, its weights are relative to `base`."""
    if serve == "switch" and isinstance(form, AffineForm):
        return Member(base, form.around(base))
    if serve == "adapters" and isinstance(form, AdaptedForm):
        return Member(form.base, adapter=form.adapter)
    if serve == "adapters" and isinstance(form, AffineForm) and len(form.coefficients) == 1:
        return Member(next(iter(form.coefficients)))
    if serve == "servers" and isinstance(form, LogitPair):
        return Member(form.low, mixed=(form.high, form.alpha))
    raise PolicyError(f'policy {name!r} cannot be served with serve = "{serve}": write serve = "servers".')
