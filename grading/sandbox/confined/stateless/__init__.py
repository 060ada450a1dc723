"""Proof that a program carries nothing from one test to the next, so that its tests may share a process.

The proof reads the syntax tree before anything runs. It is a list of what is allowed: any construct, name, attribute
or argument that is not listed here ends it, and then every test gets a process of its own. It rests on two facts.

*What a program makes dies with its test.* Every test executes the whole source in a fresh module, so its variables,
functions, classes, defaults, closures and caches are new. State survives only in what the interpreter keeps: modules
with their attributes, types, streams, files, threads, registries. A proven program cannot change these, because it
never holds them as a value. Modules, functions, types, iterators and streams are *opaque*: such an expression may only
be called, iterated over, compared by identity, or given to a listed argument (`key=`, `map(int, …)`). It is never
stored in a container or attribute, nor passed to a function of the program. A variable that is assigned an opaque value
is opaque wherever its name occurs. So what an assignment `x.name = …` changes can only be an object of the program.
Modules with state of their own are reset before the next test (`watching`). No code of the program runs after its test:
there is no `__del__`, and a generator that is collected later has no `try` or `with`.

*What a program sees does not depend on earlier tests.* The source runs with the same hash seed and limits each time.
Only two things differ in a process that has run other tests, and neither can be observed:

- Addresses. They show in the text and in the hash of an opaque object, which therefore is never converted or stored.
  Instances of the program's classes are ordinary values; if one is hashed or shown by its address, the class itself
  ends the process (`watching`), and its tests are run apart. The hash of a float NaN is an address as well, so in
  programs that may compute with floats sets are opaque too, and never iterated.
- Free memory and depth. They show only where an allocation or a call fails, and nothing that is allowed can catch a
  MemoryError or RecursionError. Such a test is run again in a process of its own.

Time is not part of the proof: `judge.run_tests` bounds what a used process may save. The proof relies on the
interpreter to be correct for the constructs that it allows.

`bindings` reads which names a program binds; `proof` reads every node, with the readers in `statements`, `definitions`,
`expressions` and `calls`, and gives each value one of the `kinds`; `vocabulary` lists what may be named.
"""

from alphamix.grading.sandbox.confined.stateless import calls, definitions, expressions, statements
from alphamix.grading.sandbox.confined.stateless.bindings import Bindings
from alphamix.grading.sandbox.confined.stateless.proof import Proof
from alphamix.grading.sandbox.confined.stateless.syntax import UnprovenError, parse
from alphamix.grading.sandbox.confined.stateless.watching import reset, watch

__all__ = ["MAX_SOURCE_BYTES", "prove", "reset", "watch"]

MAX_SOURCE_BYTES = 1 << 16
"""Longest source that is read. The interpreter learns while it runs code, and must not learn more than a test's worth
of time (see `judge.run_tests`)."""

_READERS = statements.reads | definitions.reads | expressions.reads | calls.reads


def prove(source: bytes, *, has_floats: bool) -> frozenset[str] | None:
    """Return the modules that a program imports if it is proven stateless, else None.

    Args:
        source: A program that compiles.
        has_floats: Whether a test calls the program with floats.
    """
    if len(source) > MAX_SOURCE_BYTES:
        return None
    try:
        tree = parse(source, "exec")
        program = Bindings(tree, has_floats)
        Proof(program, _READERS).complete(tree.body)
    except (UnprovenError, RecursionError, MemoryError):
        return None
    return program.modules
