"""What `alphamix serve` hands over before it serves, and keys."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphamix.ensemble.cli import main
from alphamix.ensemble.cli.commands.serve import command
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve import server
from alphamix.ensemble.serve.accounts import ClientKey, read_keys
from alphamix.ensemble.serve.app import ServeOptions
from alphamix.policies.registry import Registry

POLICIES = '[policies.low]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
POLICIES += POLICIES.replace("low", "high")


def mixture(folder: Path, value: Any) -> Path:
    file = folder / "mixture.json"
    file.write_text(json.dumps(value))
    return file


def test_keys_come_by_the_names_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "k1")
    monkeypatch.setenv("EMPTY", " ")
    tables: dict[str, Any] = {"ann": {"env": "ONE", "models": ["low"], "tokens": 9}}
    assert read_keys(tables, Path("p.toml"), ["low"], []) == (ClientKey("ann", "k1", frozenset({"low"}), 9),)
    for name in ("EMPTY", "UNSET"):
        with pytest.raises(EnsembleError, match=f"export {name}="):
            read_keys({"ann": {"env": name}}, Path("p.toml"), ["low"], [])
    with pytest.raises(EnsembleError, match=r"\[keys.ann\] of p.toml allows 'hihg', which is not served"):
        read_keys({"ann": {"env": "ONE", "models": ["hihg"]}}, Path("p.toml"), ["low"], ["high"])
    (key,) = read_keys({"ann": {"env": "ONE", "models": ["low", "high"]}}, Path("p.toml"), ["low"], ["high"])
    assert key.models == {"low"}


def test_the_command_hands_all_of_it_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES)
    served: list[tuple[Registry, ServeOptions, dict[str, Any]]] = []
    monkeypatch.setattr(server, "create_app", lambda registry, options, _: (registry, options))
    monkeypatch.setattr(server.uvicorn, "run", lambda app, **how: served.append((*app, how)))
    monkeypatch.setenv("MY_KEY", "k1")
    path = mixture(tmp_path, {"allocation": {"low": 1, "high": 3}})
    arguments = [str(file), "--mixture", str(path), "--api-key-env", "MY_KEY", "--idle-timeout", "5", "--drain", "3"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, "")
    ((registry, options, how),) = served
    assert registry.mixtures == {"mixture": {"low": 1, "high": 3}}
    assert (options.keys, options.timeouts.idle_s) == ((ClientKey("MY_KEY", "k1"),), 5)
    assert (how["host"], how["timeout_graceful_shutdown"]) == ("127.0.0.1", 3)
    assert "k1" not in repr(options)


def test_serving_the_world_without_a_key_is_remarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES)
    monkeypatch.setattr(server.uvicorn, "run", lambda app, **how: None)
    result = CliRunner().invoke(command, [str(file), "--host", "0.0.0.0"], catch_exceptions=False)
    assert "no --api-key-env is given" in result.output


@pytest.mark.parametrize("secret", ["sk-abc", "sk_live_abc", "AKIAIOSFODNN7EXAMPLE", "MY_KEY=abc"])
def test_a_secret_in_place_of_its_variable_is_never_shown(
    secret: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policies.toml"
    for more, option in ((f'[keys.ann]\nenv = "{secret}"', []), ("", ["--api-key-env", secret])):
        file.write_text(POLICIES + more)
        with pytest.raises(SystemExit):
            main(["serve", str(file), "--port", "0", *option])
        told = capsys.readouterr().err
        assert "never the secret itself" in told
        assert secret not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_bad_input(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["serve", str(file), "--host", host, "--port", str(port)])
    assert ended.value.code == 2
    assert f"nothing can listen on {host}:{port} (Address already in use): give another" in capsys.readouterr().err


def test_policies_that_are_gone_are_left_out_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Registry] = []
    options: list[ServeOptions] = []
    monkeypatch.setattr(server, "create_app", lambda registry, given, _: options.append(given) or registry)
    monkeypatch.setattr(server.uvicorn, "run", lambda app, **how: served.append(app))
    file = tmp_path / "policies.toml"
    gone = '[policies.gone]\ncheckpoint = "./nowhere"\n[mixtures.all]\nweights = { low = 1, high = 2, gone = 3 }\n'
    file.write_text(POLICIES + gone)
    with pytest.raises(SystemExit):
        main(["serve", str(file), "--port", "0"])
    assert "there is no folder" in capsys.readouterr().err
    main(["serve", str(file), "--port", "0", "--missing", "drop-policies"])
    assert "'gone' is left out, also of mixtures (policy 'gone': there is no folder" in capsys.readouterr().err
    (registry,) = served
    monkeypatch.setenv("ANN", "a")
    monkeypatch.setenv("BOB", "b")
    file.write_text(f"""{POLICIES}{gone}[keys.ann]\nenv = "ANN"\nmodels = ["gone", "low"]\n
        [keys.bob]\nenv = "BOB"\nmodels = ["gone"]""")
    main(["serve", str(file), "--port", "0", "--missing", "drop-policies"])
    assert [key.models for key in options[-1].keys] == [{"low"}, set()]
    assert registry.names == ("low", "high")
    assert registry.mixtures == {"all": {"low": 1, "high": 2}}
    file.write_text(gone.partition("[mixtures")[0])
    with pytest.raises(SystemExit):
        main(["serve", str(file), "--port", "0", "--missing", "drop-policies"])
    assert "no policy of" in capsys.readouterr().err
