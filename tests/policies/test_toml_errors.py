"""Each fault of a file is one line that names the place and the cure."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from alphamix.policies.policy_file.toml_errors import read_toml, validated


class FaultError(ValueError):
    pass


class Sampling(BaseModel):
    model_config = ConfigDict(extra="forbid")
    temperature: Annotated[float, Field(ge=0)] = 1.0
    max_tokens: int = 512


class Arm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weight: float


class Experiment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sampling: Sampling = Sampling()
    arms: dict[str, Arm] = Field(default_factory=dict)
    rounds: list[Arm] | None = None
    split: str | Arm = "equal"
    name: Annotated[str, Field(pattern="^[a-z]+$")] = "x"
    names: Annotated[list[str], Field(min_length=1)] | None = None
    pair: Annotated[tuple[int, ...], Field(min_length=2)] = (1, 2)
    text: Annotated[str, Field(min_length=1)] = "x"
    file: Path | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"sampling": {"temprature": 1}},
            "unknown key 'temprature' in [sampling] of x.toml: did you mean 'temperature'?",
        ),
        ({"smapling": {}}, "unknown key 'smapling' in x.toml: did you mean 'sampling'?"),
        (
            {"zzz": 1},
            "unknown key 'zzz' in x.toml: known are 'sampling', 'arms', 'rounds', 'split', 'name', 'names', 'pair', "
            "'text', 'file'.",
        ),
        # A key of a table may have the name of a field.
        (
            {"arms": {"weight": {"wieght": 1.0}}},
            "unknown key 'wieght' in [arms.weight] of x.toml: did you mean 'weight'?",
        ),
        ({"rounds": [{"wight": 1.0}]}, "unknown key 'wight' in [rounds.0] of x.toml: did you mean 'weight'?"),
        (
            {"split": {"weihgt": 1.0}},
            "unknown key 'weihgt' in [split.Arm] of x.toml: did you mean 'weight'?",
        ),
        ({"arms": {"a": {}}}, "key 'weight' is missing in [arms.a] of x.toml: add it."),
        (
            {"sampling": {"temperature": -1}},
            "sampling.temperature of x.toml is -1: it should be 0 or more.",
        ),
        ({"sampling": 3}, "sampling of x.toml is 3: it should be a table of keys and values."),
        ({"rounds": 3}, "rounds of x.toml is 3: it should be a list."),
        ({"name": "a b"}, "name of x.toml is 'a b': it should match the pattern ^[a-z]+$."),
        ({"names": []}, "names of x.toml is []: it should have at least 1 item."),
        ({"pair": [1]}, "pair of x.toml is [1]: it should have at least 2 items."),
        ({"text": ""}, "text of x.toml is '': it should have at least 1 character."),
        ({"file": 3}, "file of x.toml is 3: it should be the path of a file or a folder."),
        ({"sampling": {"max_tokens": 1.5}}, "sampling.max_tokens of x.toml is 1.5: it should be a whole number."),
        ({"sampling": {"temperature": "hot"}}, "sampling.temperature of x.toml is 'hot': it should be a number."),
        ({"arms": 3}, "arms of x.toml is 3: it should be a table of keys and values."),
    ],
)
def test_a_fault_is_told_in_one_line(data: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError) as told:
        validated(Experiment, data, "x.toml", FaultError)
    assert str(told.value) == message


def test_good_data_becomes_the_model() -> None:
    experiment = validated(Experiment, {"sampling": {"max_tokens": 7}}, "x.toml", FaultError)
    assert experiment.sampling == Sampling(temperature=1.0, max_tokens=7)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(FaultError) as told:
        validated(Experiment, {"arms": "x" * 10_000}, "x.toml", FaultError)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "there is no file"),
        (b"a = ", "is not valid TOML"),
        (b"[a]\n[a]\n", "is not valid TOML"),
        (b"a = '\xff'", "is not UTF-8"),
    ],
)
def test_an_unreadable_file_is_told(tmp_path: Path, content: bytes | None, part: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FaultError, match=part) as told:
        read_toml(path, FaultError)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)
