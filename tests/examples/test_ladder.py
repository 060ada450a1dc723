"""The ladder: its grammar agrees with itself, its limits and rewards come from running programs, its files
load.
"""

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import load_problems
from alphamix.grading.programs.extract import extract_program
from alphamix.grading.types import Problem, Verdict
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, Message, Request, SamplingParameters

LADDER = Path(__file__).parents[2] / "examples" / "ladder"
sys.path.insert(0, str(LADDER))

from language import EOS_ID, render_prompt, train_tokenizer, untrained_model  # noqa: E402
from make_problems import find_misfits, held_out_problems  # noqa: E402
from reinforcement import Attempt, Reinforcement, grade_attempts, group_advantages, update  # noqa: E402
from supervised import IGNORED, answer_loss, batch_tokens  # noqa: E402
from train import make_reinforced  # noqa: E402
from world.corpus import Corpus, answer_with  # noqa: E402
from world.efficient import efficient  # noqa: E402
from world.grammar import Constants, Kind, Part, draw_part, kinds, sentence  # noqa: E402
from world.inputs import NUM_TESTS, draw_input, largest_work  # noqa: E402
from world.literal import literal  # noqa: E402
from world.problems import draw_problem, reference, run_trusted, split_kinds  # noqa: E402
from world.program import write  # noqa: E402

CHECKPOINTS = ("init", "low", "high")


def parts_of_every_kind(seed: int) -> Iterator[Part]:
    rng = random.Random(seed)
    for kind in kinds():
        yield draw_part(kind, rng)


def small_inputs(part: Part, count: int = 4) -> list[str]:
    return [draw_input(part, False, 1, test, random.Random(test)) for test in range(count)]


def outputs(source: str, inputs: list[str]) -> list[str]:
    printed: list[str] = []
    for text in inputs:
        try:
            printed.append(run_trusted(source, text))
        except (ArithmeticError, LookupError, ValueError) as error:  # some bugs crash
            printed.append(repr(error))
    return printed


# --- the world ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Kind("integers", "divisible", "sum"), "10\n", "18"),  # 3 + 6 + 9
        (Kind("integers", "or", "number"), "10\n", "5"),  # 3 4 6 8 9
        (Kind("integers", "remainder", "sum of squares"), "8\n", "93"),  # 2² + 5² + 8²
        (Kind("divisors", "but not", "number"), "36\n", "4"),  # 3 6 9 18
        (Kind("ranges", "divisible", "sum"), "4 2\n3 1 6 9\n1 3\n2 2\n", "9\n0"),
        (Kind("largest window", "not divisible", "number"), "4 2\n3 1 2 9\n", "2"),  # the window 1 2
        (Kind("pairs", "sum", "count"), "4\n1 4 1 4\n", "4"),  # four ways to 5
        (Kind("pairs", "equal", "max"), "4\n1 4 1 4\n", "2"),
        (Kind("subarrays", "sum", "min"), "5\n1 1 1 2 3\n", "2"),  # 2 3
        (Kind("subarrays", "sum", "max"), "2\n1 1\n", "-1"),
    ],
    ids=str,
)
def test_meaning_of_kinds(kind: Kind, text: str, expected: str) -> None:
    part = Part(kind, Constants(a=3, b=4, r=2, k=5))
    for program in (*literal(part), *efficient(part)):
        assert run_trusted(program.source(), text).split() == expected.split()


@pytest.mark.parametrize("seed", [0, 1])
def test_literal_and_efficient_programs_agree(seed: int) -> None:
    for part in parts_of_every_kind(seed):
        inputs = small_inputs(part)
        answers = {tuple(outputs(program.source(), inputs)) for program in (*literal(part), *efficient(part))}
        assert len(answers) == 1, part


def bug_shows(part: Part) -> bool:
    inputs = small_inputs(part)
    right = outputs(reference((part,)), inputs)
    return any(outputs(program.source(bug), inputs) != right for program in efficient(part) for bug in program.bugs)


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_every_kind_has_bugs_that_show(kind: Kind) -> None:
    assert any(bug_shows(draw_part(kind, random.Random(seed))) for seed in range(10))


def test_statement_determines_the_problem() -> None:
    rng = random.Random(0)
    meaning: dict[str, str] = {}
    for _ in range(30):
        for kind in kinds():
            part = draw_part(kind, rng)
            for wording in (0, 1):
                assert meaning.setdefault(sentence(part, wording), reference((part,))) == reference((part,))


def test_kinds_are_split_without_overlap() -> None:
    split = split_kinds()
    assert sorted(split.train + split.rare + split.novel) == sorted(kinds())
    assert {kind.family for kind in split.novel} == {kind.family for kind in split.train}


@pytest.mark.parametrize("strict", [False, True])
def test_tests_are_nested_and_grow(strict: bool) -> None:
    for kind in split_kinds().novel:
        problem = draw_problem(str(kind), (kind,), 1, strict)
        few = draw_problem(str(kind), (kind,), 1, strict, num_tests=2)
        assert len(problem.tests) == NUM_TESTS
        assert few.tests == problem.tests[:2]
        sizes = [int(test.input.split()[0]) for test in problem.tests]
        assert sizes == sorted(set(sizes))


def test_strict_tests_ask_for_much_more_work_than_lenient_ones() -> None:
    for part in parts_of_every_kind(0):
        assert largest_work(part, True, 1) > 20 * largest_work(part, False, 1)


def test_programs_are_buggy_at_the_rate_asked() -> None:
    rng = random.Random(0)
    programs = efficient(draw_part(Kind("ranges", "divisible", "sum"), rng))
    right = [write(programs, 0, 0.5, rng) == programs[0].source() for _ in range(1000)]
    assert 450 < sum(right) < 550


def test_efficient_programs_are_less_reliable_than_literal_ones_and_least_for_rare_kinds() -> None:
    corpus, split, rng = Corpus(), split_kinds(), random.Random(0)
    rare, common = (corpus.efficient_rate(draw_part(kinds[0], rng)) for kinds in (split.rare, split.train))
    assert corpus.literal_buggy < common < rare


# --- the problems of the quickstart -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load_problems(LADDER / "problems.jsonl")


def test_problems_file_is_what_its_command_makes(problems: list[Problem]) -> None:
    assert problems == held_out_problems()


def test_problems_are_held_out_and_mixed(problems: list[Problem]) -> None:
    train = {str(kind) for kind in split_kinds().train}
    for problem in problems:
        for part in problem.metadata["parts"]:
            assert str(Kind(**part["kind"])) not in train
    forms = {(problem.difficulty, problem.metadata["regime"]) for problem in problems}
    assert len(forms) == 6


def test_limits_and_rewards_come_from_running_programs() -> None:
    """A literal program passes the small strict tests and not all; an efficient one passes all; so do the
    rewards.
    """
    kind = Kind("pairs", "sum", "count")
    whole = draw_problem("strict", (kind,), 1, strict=True)
    few = draw_problem("strict", (kind,), 1, strict=True, num_tests=2)
    part = Part(kind, Constants(**whole.metadata["parts"][0]["constants"]))
    slow, fast = (answer_with(approach(part)[0].source()) for approach in (literal, efficient))
    broken = "```python\nprint(\n```"
    attempts = [Attempt(problem, "", answer, True) for problem in (0, 1) for answer in (slow, fast, broken)]
    with Judge() as judge:
        assert grade_attempts(judge, [few, whole], attempts).tolist() == [1, 1, 0, 0, 1, 0]
        assert judge.submit(whole, extract_program(slow)).result().verdict is Verdict.TLE
        assert not list(find_misfits(judge, whole))


# --- learning -----------------------------------------------------------------------------------------------


def test_advantages_compare_within_groups_and_skip_what_was_not_judged() -> None:
    rewards_N = np.array([1, 0, 1, 1, 1, 0, np.nan])
    groups_N = np.array([0, 0, 1, 1, 2, 2, 2])
    assert group_advantages(rewards_N, groups_N).tolist() == [1, -1, 0, 0, 1, -1, 0]


def test_update_makes_good_answers_likelier_and_bad_ones_less_likely() -> None:
    rng = random.Random(0)
    examples = [Corpus().draw(rng) for _ in range(50)]
    tokenizer = train_tokenizer(example.answer for example in examples)
    model = untrained_model(seed=0)
    attempts = [Attempt(0, "Q:\n?\nA:\n", examples[n].answer, True) for n in (0, 1)]

    def likelihoods() -> list[float]:
        tokens_NL, targets_NL = batch_tokens(
            tokenizer, [a.prompt for a in attempts], [a.answer for a in attempts], [True, True]
        )
        with torch.no_grad():
            return (-answer_loss(model, tokens_NL, targets_NL).sum(1)).tolist()

    before = likelihoods()
    update(model, tokenizer, torch.optim.SGD(model.parameters(), lr=0.1), attempts, np.array([1.0, -1.0]))
    after = likelihoods()
    assert after[0] - after[1] > before[0] - before[1]


def test_an_answer_that_was_cut_off_is_not_taught_to_end() -> None:
    tokenizer = train_tokenizer(["print(1)\n"])
    _, targets_NL = batch_tokens(tokenizer, ["Q", "Q"], ["print(1)", "print(1)"], ended=[True, False])
    ends = torch.eq(targets_NL, EOS_ID).sum(1).tolist()
    assert ends == [1, 0]
    assert (targets_NL[:, 0] == IGNORED).all()


def test_reinforcement_starts_from_init_and_writes_a_whole_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(LADDER / "checkpoints" / "init", tmp_path / "init")
    plan = Reinforcement(coverage=0.25, steps=1, problems_per_step=2, samples_per_problem=8)
    make_reinforced(tmp_path, "low", plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["init", "low"]
    start, learnt = (load_file(tmp_path / name / "model.safetensors") for name in ("init", "low"))
    assert any(not torch.equal(start[key], learnt[key]) for key in start)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "low" / file).read_bytes() == (tmp_path / "init" / file).read_bytes()


# --- the checkpoints ----------------------------------------------------------------------------------------


def test_checkpoints_are_three_points_of_one_shape() -> None:
    weights = {name: load_file(LADDER / "checkpoints" / name / "model.safetensors") for name in CHECKPOINTS}
    shapes = [{key: (value.shape, value.dtype) for key, value in one.items()} for one in weights.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    key = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(weights["low"][key], weights["high"][key])
    assert not torch.equal(weights["init"][key], weights["low"][key])


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_loads_in_transformers_and_writes_programs(name: str, problems: list[Problem]) -> None:
    folder = LADDER / "checkpoints" / name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages: list[Message] = [{"role": "user", "content": problems[0].statement}]
    request = Request(messages, 0, SamplingParameters(temperature=0.0, max_tokens=192))
    (reply,) = TransformersEngine(model, tokenizer).sample([request])
    assert isinstance(reply.outcome, Completion)
    assert reply.outcome.finish_reason == "stop"
    program = extract_program(reply.outcome.text)
    assert program is not None
    compile(program.source, "main.py", "exec")


def test_tokenizer_gives_the_prompt_of_training_and_round_trips() -> None:
    tokenizer = AutoTokenizer.from_pretrained(LADDER / "checkpoints" / "init")
    messages = [{"role": "system", "content": "ignored"}, {"role": "user", "content": "Given n."}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == render_prompt(tokenizer, "Given n.") == "Q:\nGiven n.\nA:\n"
    rng = random.Random(1)
    for text in [*(Corpus().draw(rng).answer for _ in range(100)), "çà ≠ \t\n\n  x"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
