"""What vLLM is told of a family: members for each way of serving it. No server is started."""

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.family import Member
from alphamix.policies.engines.vllm.members import PolicyFileFamily
from alphamix.policies.merging.affine_form import AdaptedForm, AffineForm, LogitPair, PolicyForm, WholeForm
from alphamix.policies.policy_file.recipes import EngineChoice, Serve
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

LOW, HIGH, OTHER, LORA = map(Path, ("/low", "/high", "/other", "/lora"))
ONE = Fraction(1)


def made(name: str) -> Path:
    return Path("/made") / name


def members(serve: str, forms: dict[str, PolicyForm], folder_of: Callable[[str], Path] = made) -> dict[str, Member]:
    table = EngineChoice("vllm", serve)  # pyright: ignore[reportArgumentType]
    return PolicyFileFamily(table, forms, folder_of, EngineOptions())._members


def test_weights_are_switched_around_one_base() -> None:
    forms: dict[str, PolicyForm] = {
        "low": AffineForm({LOW: ONE}),
        "beyond": AffineForm({HIGH: Fraction(3, 2), LOW: Fraction(-1, 2)}),
        "three": AffineForm({LOW: Fraction(1, 4), HIGH: Fraction(1, 2), OTHER: Fraction(1, 4)}),
        "high": AffineForm({HIGH: ONE}),
    }
    assert members("switch", forms) == {
        "low": Member(LOW),
        "beyond": Member(LOW, ((HIGH, 1.5),)),
        "three": Member(LOW, ((HIGH, 0.5), (OTHER, 0.25))),
        "high": Member(LOW, ((HIGH, 1.0),)),
    }


def test_every_policy_has_a_server_and_every_pair_one_for_all_alphas() -> None:
    forms: dict[str, PolicyForm] = {
        "low": AffineForm({LOW: ONE}),
        "made": WholeForm(made("made")),
        "sharper": LogitPair(LOW, HIGH, 1.5),
    }
    assert members("servers", forms) == {
        "low": Member(made("low")),
        "made": Member(made("made")),
        "sharper": Member(LOW, mixed=(HIGH, 1.5)),
    }


def test_adapters_share_the_server_of_their_base() -> None:
    forms: dict[str, PolicyForm] = {"low": AffineForm({LOW: ONE}), "tuned": AdaptedForm(LOW, LORA)}
    assert members("adapters", forms) == {"low": Member(LOW), "tuned": Member(LOW, adapter=LORA)}


@pytest.mark.parametrize(
    ("serve", "one"),
    [("switch", AdaptedForm(LOW, LORA)), ("switch", WholeForm(LOW)), ("adapters", LogitPair(LOW, HIGH, 1.5))],
)
def test_what_cannot_be_served_this_way_is_named(serve: str, one: PolicyForm) -> None:
    with pytest.raises(PolicyError, match=f"policy 'odd' cannot be served with serve = \"{serve}\""):
        members(serve, {"odd": one})


LADDER = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"


def test_an_interpreter_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the log is kept
    file = tmp_path / "policies.toml"
    engine = '[engine]\nname = "vllm"\ninterpreter = "false"\n'
    file.write_text(f'{engine}[policies.low]\ncheckpoint = "{LADDER / "low"}"\n')
    with Registry.load(file) as registry, pytest.raises(PolicyError, match="ended with status 1 before it was ready"):
        registry.open("low", EngineOptions())


def test_a_member_joins_a_family_that_runs() -> None:
    at_half: PolicyForm = AffineForm({LOW: Fraction(1, 2), HIGH: Fraction(1, 2)})
    pair = LogitPair(LOW, HIGH, 0.5)
    cases: list[tuple[Serve, PolicyForm, PolicyForm, Member]] = [
        ("switch", AffineForm({LOW: ONE}), at_half, Member(LOW, ((HIGH, 0.5),))),
        ("adapters", AffineForm({LOW: ONE}), AdaptedForm(LOW, LORA), Member(LOW, adapter=LORA)),
        ("servers", LogitPair(LOW, HIGH, 1.5), pair, Member(LOW, mixed=(HIGH, 0.5))),
    ]
    for serve, first, joining, member in cases:
        family = PolicyFileFamily(EngineChoice("vllm", serve), {"first": first}, made, EngineOptions())
        family.join("new", joining)
        assert family.names == ("first", "new")
        assert family._members["new"] == member
    with pytest.raises(PolicyError, match=r"policy 'new' cannot be served with serve = \"servers\""):
        family.join("new", at_half)
