"""Checkers written for another judge: how they are given what they check, and what their exit codes mean.

Such a checker opens files that its arguments name, and reads the rest from standard input. It runs here from one
document stream like any other checker; code put around it writes the files, and then calls it. That needs the sandbox
`namespaces`, in which programs have a temporary directory (16 MiB).

- `kattis` (output validators of Kattis and ICPC): `INPUT ANSWER FEEDBACK_DIR ARGUMENTS… < OUTPUT`; 42 accepts, 43
  rejects.
- `testlib` (checkers of Codeforces): `INPUT OUTPUT ANSWER ARGUMENTS…`; 0 accepts, 1 and 2 reject.
"""

from collections.abc import Collection
from dataclasses import dataclass

from alphamix.grading.errors import GradingError
from alphamix.grading.programs.prologue import with_preamble
from alphamix.grading.types import ProgramChecker

_FOLDER = "/tmp/checker"


@dataclass(frozen=True, slots=True)
class Interface:
    """The conventions of one judge."""

    accepts: Collection[int]
    """Exit codes that accept; any code in neither set is a fault of the checker."""
    rejects: Collection[int]
    arguments: tuple[str, ...] = ()
    """Names of files in `_FOLDER`, in the order of the command's arguments."""
    stdin: str | None = None
    """The file that is read as standard input."""


INTERFACES = {
    "documents": Interface((0,), (1,)),
    "kattis": Interface((42,), (43,), ("input", "expected", "feedback/"), "answer"),
    "testlib": Interface((0,), (1, 2), ("input", "answer", "expected")),
}


def runnable_source(checker: ProgramChecker) -> str:
    """Return the source of a checker that reads the document stream. Raises GradingError for other languages."""
    interface, program = INTERFACES[checker.interface], checker.program
    if not interface.arguments:
        return program.source
    arguments = [*(f"{_FOLDER}/{name}" for name in interface.arguments), *checker.arguments]
    stdin = f"{_FOLDER}/{interface.stdin or 'input'}"
    if program.language == "python":
        return with_preamble(_PYTHON.format(folder=_FOLDER, arguments=arguments, stdin=stdin), program.source)
    if program.language == "cpp":
        words = ", ".join(map(_quoted, ["checker", *arguments]))
        before, after = _CPP.split("// The checker")
        return (
            before + program.source + after.replace("FOLDER", _FOLDER).replace("WORDS", words).replace("STDIN", stdin)
        )
    raise GradingError(
        f"a checker of {checker.interface} in {program.language} cannot be run: write it in Python or C++"
    )


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\{ord(letter):03o}" if letter in '"\\\n' else letter for letter in word) + '"'


_PYTHON = """
def _prepare_checker():
    import os, sys
    os.makedirs({folder!r} + "/feedback")
    stream = sys.stdin.buffer
    for name in ("input", "expected", "answer"):
        with open({folder!r} + "/" + name, "wb") as file:
            file.write(stream.read(int(stream.readline())))
        stream.readline()
    os.dup2(os.open({stdin!r}, os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.argv[1:] = {arguments!r}
_prepare_checker()
del _prepare_checker
"""

_CPP = """#define main checker_main
// The checker
#undef main
#include <cstdio>
#include <cstdlib>
#include <sys/stat.h>

namespace checker_adapter {
void copy_document(const char *path) {
    long left = 0;
    FILE *file = fopen(path, "wb");
    if (!file || scanf("%ld", &left) != 1) exit(70);
    getchar();
    static char buffer[1 << 16];
    while (left > 0) {
        size_t part = fread(buffer, 1, left < (long)sizeof buffer ? left : sizeof buffer, stdin);
        if (part == 0 || fwrite(buffer, 1, part, file) != part) exit(70);
        left -= part;
    }
    getchar();
    if (fclose(file)) exit(70);
}
int call(int (*checker)(int, char **), int argc, char **argv) { return checker(argc, argv); }
int call(int (*checker)(int, const char **), int argc, char **argv) { return checker(argc, (const char **)argv); }
int call(int (*checker)(), int, char **) { return checker(); }
}

int main() {
    mkdir("FOLDER", 0700);
    mkdir("FOLDER/feedback", 0700);
    checker_adapter::copy_document("FOLDER/input");
    checker_adapter::copy_document("FOLDER/expected");
    checker_adapter::copy_document("FOLDER/answer");
    if (!freopen("STDIN", "r", stdin)) return 70;
    static const char *words[] = {WORDS, nullptr};
    return checker_adapter::call(checker_main, sizeof words / sizeof *words - 1, (char **)words);
}
"""
