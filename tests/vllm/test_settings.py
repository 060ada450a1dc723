"""The settings `tool` and `agent` on a real server, which parses the calls of a real model.

The model is that of `examples/smollm2`, made by `prepare.py` there. It is too small to find a use for tools by itself,
so the server requires calls of it, whose arguments are mostly wrong. What counts is that each is answered, that limits
hold, and that costs add up; the agent of our own, which needs no calls, runs its programs.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from alphamix.ensemble.settings.agent import AgenticCoding, TerminalAgent
from alphamix.ensemble.settings.interleave import interleave
from alphamix.ensemble.settings.own_agent import OwnAgent
from alphamix.ensemble.settings.setting import Setting
from alphamix.ensemble.settings.task import AgentLimits
from alphamix.ensemble.settings.tool import ToolLimits, ToolUse
from alphamix.ensemble.store import Ending, Sample, Slot, Transcript
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Problem
from alphamix.grading.workspace import WorkspacePool
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.family import Member, VllmEngine, VllmFamily
from alphamix.policies.types import SamplingParameters

from .conftest import options

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "smollm2" / "checkpoint"
PROBLEM = load_problems(EXAMPLES / "smollm2" / "problems.jsonl")[0]
MAX_TOKENS = 400
pytestmark = pytest.mark.skipif(not CHECKPOINT.exists(), reason="examples/smollm2/prepare.py has not been run")


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    arguments = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--max-model-len", "4096")
    with closing(VllmFamily({"smollm2": Member(CHECKPOINT)}, options("servers", *arguments))) as family:
        yield family.open("smollm2")


@contextmanager
def calling(engine: VllmEngine, choice: Any) -> Iterator[VllmEngine]:
    """The same server, which lets the model do nothing but call."""
    with closing(VllmEngine(engine.server, engine.model, EngineOptions(), extra_body={"tool_choice": choice})) as same:
        yield same


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


def attempts(engine: VllmEngine, setting: Setting, problem: Problem, count: int = 4) -> list[Transcript]:
    parameters = SamplingParameters(temperature=0.4, max_tokens=MAX_TOKENS)
    slots = [Slot(number, "smollm2", problem.id, number, number) for number in range(count)]
    with closing(engine.open_session()) as session:
        found = list(interleave(session, setting, slots, {problem.id: problem}, parameters, most_requests=count))
    transcripts = [sample.transcript for sample in found if isinstance(sample, Sample) and sample.transcript]
    assert len(transcripts) == count, found
    for transcript in transcripts:
        usage = transcript.usage
        assert usage.turns == sum(message["role"] == "assistant" for message in transcript.messages)
        assert 0 < usage.completion_tokens <= MAX_TOKENS
        assert 0 < usage.new_prompt_tokens <= usage.prompt_tokens
        assert usage.model_seconds > 0
    return transcripts


def check_calls(transcript: Transcript) -> int:
    """Check that the calls of all turns but the last are answered in their order, and return how many they are."""
    told = [message.get("tool_call_id") for message in transcript.turns if message["role"] == "tool"]
    asked = [call["id"] for message in transcript.turns[:-1] for call in message.get("tool_calls", [])]
    assert told == asked
    return len(told)


def test_a_model_calls_python(engine: VllmEngine, pool: WorkspacePool) -> None:
    setting = ToolUse(pool, limits=ToolLimits(calls=2), template="What is six times seven?")
    with calling(engine, {"type": "function", "function": {"name": "python"}}) as only_python:
        transcripts = attempts(only_python, setting, PROBLEM, count=8)
    assert {transcript.ending for transcript in transcripts} <= {"out_of_turns", "out_of_tokens"}
    assert any(check_calls(transcript) for transcript in transcripts), transcripts


def test_an_agent_calls_tools(engine: VllmEngine, pool: WorkspacePool) -> None:
    setting = AgenticCoding(pool, TerminalAgent, AgentLimits(turns=4))
    with calling(engine, "required") as any_tool:
        transcripts = attempts(any_tool, setting, PROBLEM)
    assert {transcript.ending for transcript in transcripts} <= set(get_args(Ending)) - {"gave_up"}
    assert any(check_calls(transcript) for transcript in transcripts), transcripts


def test_an_agent_of_ones_own_tests_and_asks_again(engine: VllmEngine, pool: WorkspacePool) -> None:
    own = OwnAgent(f"{EXAMPLES / 'agents' / 'patient.py'}:Patient", {"tries": 3})
    transcripts = attempts(engine, AgenticCoding(pool, own, template="{statement}"), PROBLEM)
    assert any(transcript.ending == "submitted" for transcript in transcripts)
    assert all(transcript.usage.calls for transcript in transcripts if transcript.ending == "submitted")
