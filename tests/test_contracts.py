"""The import contracts of pyproject.toml hold, and each kind of violation that a review has planted breaks one."""

import ast
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("policies", "grading", "ensemble")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, with links of its own."""
    copy = tmp_path_factory.mktemp("house")
    for name in ("alphamix", *PACKAGES):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken_contracts(house: Path) -> list[str]:
    lint = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint', '--no-cache']; "
    code = f"{lint} sys.path.insert(0, {str(house)!r}); lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=house, capture_output=True, text=True, check=False)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return [line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line]


def test_all_contracts_are_kept(house: Path) -> None:
    assert broken_contracts(house) == []


@pytest.mark.parametrize(
    ("module", "planted", "contract"),
    [
        ("policies/types.py", "from alphamix.policies.registry import Registry", "inside policies, data flows one way"),
        ("grading/types.py", "from alphamix.grading.judge.judge import Judge", "inside grading, data flows one way"),
        (
            "ensemble/serve/protocol/api_errors.py",
            "from alphamix.ensemble.serve.app import create_app",
            "inside the server, data flows one way",
        ),
        (
            "ensemble/statistics/pass_at_k.py",
            "import torch",
            "torch, transformers and vllm are imported by the engines that run on them",
        ),
        (
            "policies/types.py",
            "from alphamix.grading.types import Problem",
            "ensemble joins policies and grading, which do not know each other",
        ),
    ],
)
def test_a_planted_violation_breaks_a_contract(house: Path, module: str, planted: str, contract: str) -> None:
    file = house / module
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(f"{before}\n\n{planted}\n", encoding="utf-8")
        assert contract in broken_contracts(house)
    finally:
        file.write_text(before, encoding="utf-8")


def test_no_public_class_name_occurs_twice() -> None:
    names = Counter(
        node.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_wheel_has_one_top_level_name(tmp_path: Path) -> None:
    """Built without its isolated environment, since hatchling is among the tools of development."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    listed = subprocess.run([sys.executable, "-m", "zipfile", "--list", str(wheel)], capture_output=True, text=True)
    names = {line.split()[0].partition("/")[0] for line in listed.stdout.splitlines()[1:]}
    assert {name for name in names if not name.endswith(".dist-info")} == {"alphamix"}


def test_folders_of_the_same_names_beside_a_user_do_no_harm(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('this is not alphamix')\n")
    for arguments in (["-m", "alphamix", "--help"], ["-c", "import alphamix; alphamix.read_outcomes"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
