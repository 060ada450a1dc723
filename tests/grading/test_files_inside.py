"""Files inside the sandbox: a temporary directory of limited size, from which nothing passes to the next program."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge
from alphamix.grading.sandbox.confined.confinement import remove_contents
from alphamix.grading.types import Problem, Program

MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="module")
def namespaces() -> Iterator[Judge]:
    """A judge in the tier whose programs have a temporary directory; it runs them one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(judge_module._TIERS, "strict", ("namespaces",))
        try:
            with Judge() as judge:
                yield judge
        except GradingError as error:
            pytest.skip(str(error))


TEMPORARY = """
import os, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "a"), "w") as file:
        file.write("1")
    os.mkdir(os.path.join(folder, "b"))
    os.rename(os.path.join(folder, "a"), os.path.join(folder, "b", "c"))
    assert os.listdir(os.path.join(folder, "b")) == ["c"]
with tempfile.NamedTemporaryFile("w+") as named, tempfile.TemporaryFile() as unnamed:
    unnamed.write(b"2")
    assert os.path.exists(named.name)
assert os.listdir("/tmp") == []
print(1)
"""


def test_temporary_files_work(namespaces: Judge, make_problem: MakeProblem) -> None:
    judgement = namespaces.submit(make_problem(("", "1")), Program(TEMPORARY)).result()
    assert judgement.verdict == "AC", judgement


LEAVES = """
import os
assert os.listdir("/tmp") == []
os.mkdir("/tmp/closed", 0)
os.makedirs("/tmp/" + "/".join("d" * 100))
os.mkdir("/tmp/blind")
open("/tmp/blind/x", "w").write("left behind")
os.mkdir(b"/tmp/odd\\n\\xff", 0o300)
print(1)  # {}
"""


def test_nothing_is_left_for_the_next_process(namespaces: Judge, make_problem: MakeProblem) -> None:
    for n in range(3):
        judgement = namespaces.submit(make_problem(("", "1")), Program(LEAVES.format(n))).result()
        assert judgement.verdict == "AC", judgement


FILLS = """
import os
written = 0
try:
    for n in range(1000):
        with open(f"/tmp/{n}", "wb", buffering=0) as file:
            written += file.write(bytes(1 << 20))
except OSError:
    pass
print(written >> 20)
"""


def test_the_temporary_directory_has_a_limited_size(namespaces: Judge, make_problem: MakeProblem) -> None:
    judgement = namespaces.submit(make_problem(("", "16")), Program(FILLS)).result()
    assert judgement.verdict == "AC", judgement
    few = "n = 0\ntry:\n  while True:\n    open(f'/tmp/{n}', 'w')\n    n += 1\nexcept OSError: print(n < 256)"
    assert namespaces.submit(make_problem(("", "True")), Program(few)).result().verdict == "AC"


def test_standard_input_has_a_name_on_every_test(namespaces: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(*((f"{n}" * n, f"{n}" * n) for n in range(1, 6)))
    judgement = namespaces.submit(problem, Program("print(open('/dev/stdin').read())")).result()
    assert judgement.verdict == "AC", judgement


def test_a_directory_is_emptied_however_deep_and_closed_it_is(tmp_path: Path) -> None:
    closed = tmp_path / "a" / "b"
    (closed / "c").mkdir(parents=True)
    (closed / "c" / "file").write_text("x")
    (tmp_path / "-rf").write_text("x")
    (tmp_path / "outside").symlink_to(tmp_path.parent)
    closed.chmod(0)
    remove_contents(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.parent.exists()
