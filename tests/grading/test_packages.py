"""Packages in the sandbox: what programs may import, at which price, and what hostile use of them gains."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import alphamix
from alphamix.ensemble.cli import main
from alphamix.ensemble.run.regrade import Changes, name_of_set
from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge, check_packages
from alphamix.grading.parallel.batch import JudgeOptions
from alphamix.grading.sandbox import packages as packages_module
from alphamix.grading.sandbox.confined.confinement import SCRATCH
from alphamix.grading.sandbox.packages import NO_PACKAGES, find_packages
from alphamix.grading.types import Judgement, Problem, Program, Verdict

MakeProblem = Callable[..., Problem]
NUMPY = "import numpy as np\n"


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def numeric(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """A judge in one tier whose programs may import numpy and networkx."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setitem(judge_module._TIERS, "strict", (request.param,))
        yield stack.enter_context(_judge_or_skip(["numpy", "networkx"]))


def _judge_or_skip(packages: list[str]) -> Judge:
    try:
        return Judge(packages=packages)
    except GradingError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("code", "verdict", "message"),
    [
        (NUMPY + "print(np.arange(4).sum())", "AC", ""),
        (NUMPY + "print(int(np.linalg.det(np.diag([2, 3])) + 0.5))", "AC", ""),
        ("import networkx as nx\nprint(len(nx.path_graph(6)))", "AC", ""),
        ("import numpy.fft, numpy.random, numpy.polynomial\nprint(6)", "AC", ""),
        ("print(6)  # numpy", "AC", ""),
        ("import pandas", "RE", "ModuleNotFoundError: No module named 'pandas'"),
        ("import yaml, numpy", "RE", "ModuleNotFoundError: No module named 'yaml'"),
        ("import pydantic, numpy", "RE", "ModuleNotFoundError"),
        ("import alphamix, numpy", "RE", "ModuleNotFoundError"),
        (NUMPY + "np.zeros(10**13)", "MLE", "MemoryError"),
        (NUMPY + "x = np.ones(10**8)\nprint(6)", "MLE", "limit 256 MB"),
    ],
)
def test_programs_import_the_packages_and_no_others(
    numeric: Judge, make_problem: MakeProblem, code: str, verdict: str, message: str
) -> None:
    judgement = numeric.submit(make_problem(("", "6"), time_limit_s=5.0), Program(code)).result()
    assert judgement.verdict == verdict, judgement
    assert message in judgement.message


HOSTILE = {
    "reads_a_file_of_the_host": "print(np.fromfile('/etc/passwd', dtype='u1').tobytes())",
    "maps_a_file_of_the_host": "np.memmap('/etc/passwd', dtype='u1', mode='r')",
    "reads_its_memory_through_proc": "np.fromfile('/proc/self/mem', dtype='u1', count=1)",
    "saves_into_the_package": "np.save(np.__path__[0] + '/x.npy', np.ones(1))",
    "overwrites_the_package": "open(np.__file__, 'r+')",
    "reads_another_package": "open(np.__path__[0] + '/../pydantic/main.py')",
    "loads_a_library_of_the_host": "np.ctypeslib.load_library('libsystemd', '/etc')",
    "compiles_with_f2py": "import numpy.f2py, sys\nsys.exit(numpy.f2py.compile('end') or 1)",
    "forks_from_a_pickle": (
        "import io, os, pickle\n"
        "class Fork:\n    def __reduce__(self): return os.fork, ()\n"
        "file = io.BytesIO()\nnp.save(file, np.array([Fork()], dtype=object), allow_pickle=True)\nfile.seek(0)\n"
        "np.load(file, allow_pickle=True)"
    ),
    "opens_a_url": "from numpy.lib._datasource import DataSource\nDataSource(None).open('http://127.0.0.1/x')",
    "writes_behind_an_array": "np.lib.stride_tricks.as_strided(np.ones(1), (1 << 40,))[1 << 39] = 1",
    "spins_in_c": "x = np.ones((700, 700))\nwhile True: x = x @ x",
    "writes_where_no_memory_is": "import ctypes\nctypes.memmove(np.ones(1).ctypes.data + (1 << 40), b'x', 1)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_use_of_numpy_gains_nothing(numeric: Judge, make_problem: MakeProblem, name: str) -> None:
    attack = numeric.submit(make_problem(("", "secret"), time_limit_s=0.5), Program(NUMPY + HOSTILE[name])).result()
    assert attack.verdict in ("RE", "TLE", "MLE"), attack
    assert "root:" not in attack.message
    after = numeric.submit(make_problem(("", "6")), Program(NUMPY + f"print(np.int64(6))  # after {name}")).result()
    assert after.verdict == "AC", after


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("np.arange(3)", [0, 1, 2]),
        ("np.eye(2, dtype=int)", [[1, 0], [0, 1]]),
        ("np.int64(3)", 3),
        ("np.float32(0.5)", 0.5),
        ("np.bool_(True)", True),
        ("[np.int32(1), {'a': np.array([2.0])}]", [1, {"a": [2.0]}]),
        ("{np.int64(2), np.int64(1)}", [1, 2]),
        ("np.array(7)", 7),
    ],
)
def test_arrays_and_scalars_are_compared_by_what_they_hold(
    numeric: Judge, make_problem: MakeProblem, expression: str, result: Any
) -> None:
    problem = make_problem(([], result), entry_point="f")
    judgement = numeric.submit(problem, Program(f"{NUMPY}def f(): return {expression}")).result()
    assert judgement.verdict == "AC", judgement


def test_imports_cost_a_program_nothing_and_are_not_inherited_by_others(
    numeric: Judge, make_problem: MakeProblem
) -> None:
    loads = "import sys\nprint('num' + 'py' in sys.modules)"
    assert numeric.submit(make_problem(("", "False")), Program(loads)).result().verdict == "AC"
    imported = numeric.submit(make_problem(("", "6")), Program(NUMPY + "print(6)")).result()
    assert imported.verdict == "AC"
    assert imported.cpu_s < 0.05  # importing numpy takes 0.1 s


def test_packages_of_one_problem(judge: Judge, make_problem: MakeProblem) -> None:
    program = Program("from sortedcontainers import SortedList\nprint(SortedList([2, 1])[0])")
    assert judge.submit(make_problem(("", "1")), program).result().verdict == "RE"
    assert judge.submit(make_problem(("", "1"), packages=["sortedcontainers"]), program).result().verdict == "AC"


SORTED = "from sortedcontainers import SortedList\n"


@pytest.mark.parametrize(("packages", "verdict"), [(["sortedcontainers"], "AC"), ([], "RE")])
def test_packages_where_no_file_names_them(packages: list[str], verdict: str) -> None:
    problem = alphamix.Problem(id="p", statement="", tests=[{"input": "", "output": "1"}])
    (judgement,) = alphamix.judge(problem, [SORTED + "print(SortedList([2, 1])[0])"], packages=packages)
    assert judgement.verdict == verdict, judgement


def test_a_checker_imports_the_packages_of_its_problem(judge: Judge, make_problem: MakeProblem) -> None:
    source = SORTED + "import sys\nlines = sys.stdin.read().split()\nsys.exit(SortedList(lines[1::2])[-1] != '6')"
    checker = {"program": {"source": source}}
    problem = make_problem(("1", "2"), ("3", "4"), checker=checker, packages=["sortedcontainers"])
    assert judge.submit(problem, Program("print(6)")).result().verdict == "AC"
    assert judge.submit(problem, Program(SORTED + "print(5)")).result().verdict == "WA"
    with pytest.raises(GradingError, match="the checker of 'p' imports sortedcontainers, which is not in the standard"):
        make_problem(("1", "2"), checker=checker)


def test_verify_takes_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = SORTED + "print(SortedList([2, 1])[0])"
    problem = {"id": "p", "statement": "", "tests": [{"input": "", "output": "1"}], "reference": reference}
    (tmp_path / "p.jsonl").write_text(json.dumps(problem))
    arguments = ["problems", "verify", str(tmp_path / "p.jsonl"), "--workers", "1"]
    main([*arguments, "--packages", "sortedcontainers"])
    assert capsys.readouterr().out == "p: fine\n"
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    assert "No module named 'sortedcontainers'" in capsys.readouterr().out


def test_dependencies_come_along_and_nothing_else() -> None:
    found = find_packages(["pandas"])
    assert found is not None
    assert {"pandas", "numpy", "dateutil"} <= set(found.location_of_name)
    assert not {"pydantic", "click", "alphamix"} & set(found.location_of_name)
    assert found.names == ("pandas",)
    assert find_packages([]) == NO_PACKAGES


def test_a_package_that_is_not_installed_is_named_with_its_problem(make_problem: MakeProblem) -> None:
    with pytest.raises(GradingError, match=r"the package 'no-such' is not installed: pip install no-such, or leave"):
        Judge(packages=["no-such"])
    with pytest.raises(GradingError, match=r"problem 'q': the package 'no-such' is not installed"):
        check_packages([make_problem(("", "")), make_problem(("", ""), id="q", packages=["no-such"])], ())
    with pytest.raises(GradingError, match=r"'click\.testing' is not installed"):
        find_packages(["click.testing"])


def test_the_import_name_of_a_package_leads_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages_module.metadata, "packages_distributions", lambda: {"cv2": ["opencv-python"]})
    with pytest.raises(GradingError, match="'cv2' is not installed: give opencv-python, which provides it"):
        find_packages(["cv2"])


def test_versions_are_part_of_the_description() -> None:
    with Judge(packages=["sortedcontainers"]) as judge:
        assert list(judge.describe()["limits"]["packages"]) == ["sortedcontainers"]


@pytest.mark.parametrize(
    ("verdict", "message", "module"),
    [
        ("RE", "ModuleNotFoundError: No module named 'numpy'", "numpy"),
        ("RE", "ModuleNotFoundError: No module named 'scipy.optimize'", "scipy"),
        ("RE", "ModuleNotFoundError: No module named '\x1b[31m'", None),
        ("RE", "ImportError: numpy", None),
        ("WA", "ModuleNotFoundError: No module named 'numpy'", None),
    ],
)
def test_the_module_that_a_program_lacked(verdict: str, message: str, module: str | None) -> None:
    assert Judgement.without_tests(Verdict(verdict), 1, message).missing_module == module


def test_grade_counts_programs_that_lack_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"id": "p", "statement": "", "tests": [{"input": "", "output": "6"}]}
    codes = [NUMPY + "print(np.int64(6))", NUMPY + "print(6)", "import no_such_module", "print(6)"]
    samples = [{"problem_id": "p", "policy": "a", "index": n, "code": code} for n, code in enumerate(codes)]
    (tmp_path / "p.jsonl").write_text(json.dumps(problem))
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    files = ["--problems", tmp_path / "p.jsonl", "--samples", tmp_path / "s.jsonl", "--workers", "1"]
    arguments = list(map(str, ["grade", *files, "--output", tmp_path / "v.jsonl"]))
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--packages", "numpy,no-such"])
    assert "error: the package 'no-such' is not installed" in capsys.readouterr().err
    main(arguments)
    said = capsys.readouterr().err
    assert "2 programs failed because they import numpy, which is not in the sandbox: --packages numpy." in said
    assert "1 program failed because it imports no_such_module, which is not installed here." in said
    (tmp_path / "v.jsonl").unlink()
    main([*arguments, "--packages", "numpy", "--json"])
    counted = json.loads(capsys.readouterr().out)
    assert counted["policies"]["a"]["verdicts"] == {"AC": 3, "RE": 1}
    assert counted["missing_modules"] == {"no_such_module": 1}


def test_packages_of_an_environment_in_the_directory_for_temporary_files(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs have a /tmp of their own, in which a package of the host's /tmp must neither be hidden nor in reach."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as environment:
        package = Path(environment, "lib", "pack")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "part.py").write_text("six = 6")
        info = Path(environment, "lib", "pack-1.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1\n")
        (info / "RECORD").write_text("pack/__init__.py,,\npack/part.py,,\npack-1.dist-info/METADATA,,\n")
        Path(environment).chmod(0o755)
        monkeypatch.syspath_prepend(package.parent)
        moves = f"os.rename('{environment}', '/tmp/elsewhere')", f"os.rename('{package}', '/tmp/elsewhere')"
        writes = f"open('{environment}/x', 'w')", f"open('{package}/x', 'w')", f"os.unlink('{package}/part.py')"
        monkeypatch.setitem(judge_module._TIERS, "strict", ("namespaces",))
        with _judge_or_skip(["pack"]) as judge:
            problem = make_problem(("", "6"))
            for attack in (*moves, *writes):
                code = f"import os\nopen('/tmp/own', 'w')\n{attack}\nimport pack"
                assert judge.submit(problem, Program(code)).result().verdict == "RE", attack
            code = f"import os\nfrom pack.part import six\nassert os.listdir('/tmp') == [{package.parts[2]!r}]"
            judgement = judge.submit(problem, Program(f"{code}\nprint(six)")).result()
    assert judgement.verdict == "AC", judgement


def test_single_modules_and_names_of_dependencies_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of one file, which needs another one whose name is written differently, but not its extra."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, requires in (("One.Thing", ["two_things>1"]), ("two-things", ["absent; extra == 'x'"]), ("absent", [])):
        module = name.lower().replace(".", "_").replace("-", "_")
        (tmp_path / f"{module}.py").write_text("")
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1", *(f"Requires-Dist: {each}" for each in requires)]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n")
    found = find_packages(["one-thing"])
    assert found is not None
    assert found.names == ("one_thing",)
    assert found.location_of_name == {name: str(tmp_path / f"{name}.py") for name in ("one_thing", "two_things")}


def test_packages_are_part_of_what_a_regrading_depends_on(make_problem: MakeProblem) -> None:
    problems = [make_problem(("", ""))]
    plain = Changes().describe(problems, JudgeOptions())
    numeric = Changes().describe(problems, JudgeOptions(packages=("numpy", "scipy")))
    assert name_of_set(numeric, "strict") == name_of_set(plain, "strict") + ",packages=numpy+scipy"
    assert plain["packages"] is None
