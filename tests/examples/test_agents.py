"""The agents of the examples, with a scripted model in real workspaces."""

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.settings.agent import AgenticCoding
from alphamix.ensemble.settings.interleave import interleave
from alphamix.ensemble.settings.own_agent import OwnAgent
from alphamix.ensemble.settings.task import AgentLimits
from alphamix.ensemble.store import Sample, Slot
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Problem
from alphamix.grading.workspace import WorkspacePool
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, Request, SamplingParameters

pytest.importorskip("torch")
EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "smollm2" / "checkpoint"
TESTS = [{"input": "1", "output": "2"}, {"input": "20", "output": "40"}]
PROBLEM = Problem.model_validate({"id": "p", "statement": "Double n.", "tests": TESTS, "public_tests": 1})
needs_mini = pytest.mark.skipif(not importlib.util.find_spec("minisweagent"), reason="needs mini-swe-agent")


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


def agent(pool: WorkspacePool, reference: str, limits: AgentLimits | None = None, **arguments: object) -> AgenticCoding:
    return AgenticCoding(pool, OwnAgent(f"{EXAMPLES}/agents/{reference}", arguments), limits)


def samples(setting: AgenticCoding, answers: list[str], count: int = 1) -> tuple[list[Sample], list[Request]]:
    """Let the model answer by the number of its turn in the attempt, and its last answer for ever."""
    requests: list[Request] = []

    def answer(request: Request) -> Completion:
        requests.append(request)
        turn = sum(message["role"] == "assistant" for message in request.prompt)  # type: ignore[index]
        return Completion(answers[min(turn, len(answers) - 1)], "stop", 10, 5, 0.0)

    with closing(ScriptedEngine(answer).open_session()) as session:
        slots = [Slot(number, "low", "p", number, number) for number in range(count)]
        parameters = SamplingParameters(max_tokens=1000)
        found = list(interleave(session, setting, slots, {"p": PROBLEM}, parameters, most_requests=256))
    made = [sample for sample in found if isinstance(sample, Sample)]
    assert len(made) == count, found
    return made, requests


def ending(sample: Sample) -> str:
    assert sample.transcript is not None
    return sample.transcript.ending


def test_the_patient_agent_asks_until_the_public_tests_pass(pool: WorkspacePool) -> None:
    answers = [f"```python\nprint({factor} * int(input()))\n```" for factor in (3, 2, 5)]
    (sample,), requests = samples(agent(pool, "patient.py:Patient"), answers)
    assert (sample.completion.text, ending(sample)) == ("print(2 * int(input()))\n", "submitted")
    assert len(requests) == 2
    assert "expected:\n2\nwritten:\n3" in requests[1].prompt[-1]["content"]  # type: ignore[index]
    (sample,), requests = samples(agent(pool, "patient.py:Patient", tries=3, explains=False), answers)
    assert (len(requests), ending(sample)) == (3, "submitted")
    assert len({str(request.prompt) for request in requests}) == 1


def test_the_experiment_fits_its_problems_and_its_agent() -> None:
    experiment = load(EXAMPLES / "agents" / "experiment.toml")
    section = experiment.sampling.agent
    assert section.loop == f"{EXAMPLES}/agents/patient.py:Patient"
    OwnAgent(section.loop, section.arguments)
    assert experiment.problems.file is not None
    assert all(problem.public_tests for problem in load_problems(experiment.problems.file))


@pytest.mark.slow
@pytest.mark.skipif(not CHECKPOINT.exists(), reason="examples/smollm2/prepare.py has not been run")
def test_the_patient_agent_works_with_a_real_model_in_the_embedded_engine(pool: WorkspacePool) -> None:
    engine = TransformersEngine.from_checkpoint(CHECKPOINT, EngineOptions(device="cpu"))
    (problem, *_) = load_problems(EXAMPLES / "smollm2" / "problems.jsonl")
    setting = agent(pool, "patient.py:Patient", tries=2)
    parameters = SamplingParameters(temperature=0.4, max_tokens=200)
    slots = [Slot(number, "smollm2", problem.id, number, number) for number in range(2)]
    with closing(engine), closing(engine.open_session()) as session:
        found = list(interleave(session, setting, slots, {problem.id: problem}, parameters, most_requests=8))
    for sample in found:
        assert isinstance(sample, Sample)
        assert sample.transcript is not None
        usage = sample.transcript.usage
        assert 0 < usage.completion_tokens <= 200
        assert usage.calls == (usage.turns if ending(sample) == "submitted" else usage.calls)
        assert usage.tool_seconds > 0


def command(text: str) -> str:
    return f"I will do this:\n```bash\n{text}\n```"


WORKING = [
    "I think first.",
    command("cat > a.py << 'END'\nprint(2 * int(input()))\nEND\nseq 3 | head -1 | python3 a.py; false"),
    command("submit a.py"),
]


@needs_mini
def test_mini_swe_agent_works_in_our_workspace_with_our_model(pool: WorkspacePool) -> None:
    (sample,), requests = samples(agent(pool, "mini.py:Mini"), WORKING)
    assert (sample.completion.text, ending(sample)) == ("print(2 * int(input()))\n", "submitted")
    told = [str(request.prompt[-1]["content"]) for request in requests[1:]]  # type: ignore[index]
    assert told[0].startswith("Write exactly one command in a ```bash block.")
    assert told[1] == "<returncode>1</returncode>\n<output>\n2\n</output>"
    assert sample.transcript is not None
    roles = [message["role"] for message in sample.transcript.messages]
    assert roles == ["system", *["user", "assistant"] * 3]


@needs_mini
def test_more_attempts_of_mini_swe_agent_than_threads_take_turns_and_leave_none(pool: WorkspacePool) -> None:
    found, _ = samples(agent(pool, "mini.py:Mini"), WORKING, count=100)
    assert {ending(sample) for sample in found} == {"submitted"}
    limited, _ = samples(agent(pool, "mini.py:Mini", AgentLimits(turns=2)), WORKING, count=80)
    assert {ending(sample) for sample in limited} == {"out_of_turns"}
    (gave_up,), _ = samples(agent(pool, "mini.py:Mini"), ["I do not know."])
    assert ending(gave_up) == "gave_up"
    names = [thread.name for thread in threading.enumerate()]
    assert sum(name.startswith("mini-swe-agent") for name in names) <= 3 * 64  # the pools of three imports
