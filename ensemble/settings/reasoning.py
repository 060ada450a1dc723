"""The setting `reasoning`: one turn, with the statement in the prompt and one program in the answer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from alphamix.ensemble.settings.setting import Sampled
from alphamix.ensemble.store import Sample, Slot
from alphamix.grading.types import Problem
from alphamix.policies.types import Completion, Engine, EngineFailure, Message, Prompt, Request, SamplingParameters

_PROGRAM = "Write a Python program that reads from standard input and writes to standard output. "
_FUNCTION = "Write the Python function `{name}`. "
_METHOD = "Write the Python class `{owner}` with the method `{name}`. "
_FORM = "Answer with the whole program in one ```python block."


def messages(problem: Problem, template: str | None) -> list[Message]:
    """Return the prompt for a problem.

    Args:
        problem: its statement is shown, never its tests.
        template: text with `{statement}` in it; None appends to the statement which form the answer must have.
    """
    if template is None:
        content = f"{problem.statement}\n\n{_task(problem)}{_FORM}"
    else:
        content = template.replace("{statement}", problem.statement)
    return [{"role": "user", "content": content}]


def _task(problem: Problem) -> str:
    if problem.epilogue is not None:
        return ""  # the benchmark's own code calls the program, and the statement names what it calls
    if problem.entry_point is None:
        return _PROGRAM
    owner, _, name = problem.entry_point.rpartition(".")
    return _METHOD.format(owner=owner, name=name) if owner else _FUNCTION.format(name=name)


def ask(
    engine: Engine,
    slots: Sequence[Slot],
    problems: Mapping[str, Problem],
    template: str | None,
    parameters: SamplingParameters,
) -> Iterator[Sampled]:
    """Ask an engine for the samples of slots, and yield their outcomes in the order in which they come."""
    requests = _Requests(slots, problems, template, parameters)
    for reply in engine.sample(list(requests) if engine.reproducible else requests):
        slot = slots[reply.index]
        match reply.outcome:
            case Completion() as completion:
                yield Sample(slot, completion, time.time())
            case EngineFailure() as failure:
                yield slot, failure


class _Requests(Sequence[Request]):
    """The requests for slots, each built when it is accessed: a million of them take no memory."""

    def __init__(
        self,
        slots: Sequence[Slot],
        problems: Mapping[str, Problem],
        template: str | None,
        parameters: SamplingParameters,
    ) -> None:
        self._slots = slots
        self._problems = problems
        self._template = template
        self._parameters = parameters
        self._last: tuple[str, Prompt] = ("", "")
        """Problem and prompt of the last request: neighbouring slots share both."""

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._request(slot) for slot in self._slots[index]]
        return self._request(self._slots[index])

    def _request(self, slot: Slot) -> Request:
        if self._last[0] != slot.problem:
            self._last = slot.problem, messages(self._problems[slot.problem], self._template)
        return Request(self._last[1], slot.seed, self._parameters)
