"""A checker program of the problem's own, run confined and apart from the program whose answer it checks.

On standard input it reads three documents: the input, the expected output, and the answer. Each is its length in bytes
on a line by itself, then that many bytes, then a line end. It accepts by leaving with exit code 0 and rejects with 1.
Anything else is a failure of the problem and says nothing about the answer. For functions, the documents are JSON.
"""

from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox.controller import ProcessLimits
from alphamix.grading.sandbox.workbench import Bench
from alphamix.grading.types import ProgramChecker, Verdict

LIMITS = ProcessLimits(cpu_s=10.0, memory_bytes=1 << 30)
_REJECT = 1


def accepts(bench: Bench, checker: ProgramChecker, given: bytes, expected: bytes, answer: bytes) -> bool:
    """Ask the checker. Raises GradingError where it fails, ZygoteDiedError where the sandbox does."""
    documents = b"".join(b"%d\n%s\n" % (len(document), document) for document in (given, expected, answer))
    program = checker.program
    source = program.source.encode(errors="surrogatepass")
    process, outcome = bench.start(bench.checkers, program.language, source, None, LIMITS, num_tests=1)
    try:
        if process is not None and outcome.verdict is None:
            outcome = process.run_test(documents)
    finally:
        if process is not None:
            process.end()
    if outcome.verdict is None:
        return True
    if outcome.verdict is Verdict.RE and outcome.exit_code == _REJECT:
        return False
    raise GradingError(
        f"the problem's checker ended with {outcome.verdict} ({outcome.message}): "
        "correct it to leave with 0 to accept, or 1 to reject"
    )
