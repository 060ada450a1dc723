"""Checkers that are programs of a problem. Each runs in a sandbox, apart from the program whose answer it checks.

A checker reads three documents from standard input: the input, the expected output, and the answer. Each document is
its length in bytes on a line by itself, then that many bytes, then a newline. For functions, the documents are JSON.
Exit code 0 accepts and 1 rejects. Any other end is a fault of the problem and says nothing about the answer. Checkers
that were written for another judge run by its own conventions (`interfaces`).
"""

from collections.abc import Collection, Sequence

from alphamix.grading.checkers.interfaces import INTERFACES, runnable_source
from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox.controller import ProcessLimits
from alphamix.grading.sandbox.packages import packages_for
from alphamix.grading.sandbox.thread_sandboxes import ThreadSandboxes
from alphamix.grading.types import ProgramChecker, Verdict

LIMITS = ProcessLimits(cpu_s=10.0, memory_bytes=1 << 30)


def accepts(
    sandboxes: ThreadSandboxes,
    checker: ProgramChecker,
    packages: Sequence[str],
    given: bytes,
    expected: bytes,
    answer: bytes,
) -> bool:
    """Run the checker, which may import `packages`, on one answer.

    Raises GradingError if the checker fails, ZygoteDiedError if the sandbox does.
    """
    documents = b"".join(b"%d\n%s\n" % (len(document), document) for document in (given, expected, answer))
    language, interface = checker.program.language, INTERFACES[checker.interface]
    source = runnable_source(checker).encode(errors="surrogatepass")
    zygote = sandboxes.checkers(packages_for(source, packages if language == "python" else ()))
    process, outcome = sandboxes.start(zygote, language, source, None, LIMITS)
    try:
        if process is not None and outcome.verdict is None:
            outcome = process.run_test(documents)
    finally:
        if process is not None:
            process.end()
    if outcome.verdict is None or (outcome.verdict is Verdict.RE and outcome.exit_code is not None):
        exit_code = outcome.exit_code or 0
        if exit_code in interface.accepts or exit_code in interface.rejects:
            return exit_code in interface.accepts
    needs = _NEEDS_FILES if interface.arguments else ""
    raise GradingError(
        f"the problem's checker ended with {outcome.verdict or 'exit code 0'}"
        f"{outcome.message and f' ({outcome.message})'}: "
        f"let it exit with {_words(interface.accepts)} to accept, or {_words(interface.rejects)} to reject{needs}"
    )


_NEEDS_FILES = "; it writes files, which only the sandbox `namespaces` allows (`alphamix doctor`)"


def _words(codes: Collection[int]) -> str:
    return " or ".join(map(str, codes))
