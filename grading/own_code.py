"""The code that a problem brings along: whether it can work at all. Nothing is run."""

import ast
import sys
import warnings
from collections.abc import Iterator


def fault_in(source: str, *, has_packages: bool) -> str | None:
    """Return why Python code cannot work, and what to do, or None.

    It must compile, and import only the standard library unless the problem names packages. Imports in a `try` may
    fail.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(source)
            compile(module, "main.py", "exec", dont_inherit=True)  # refuses `return` outside functions, for example
    except SyntaxError as error:
        return f"does not compile (line {error.lineno}: {error.msg}): correct it"
    except (ValueError, MemoryError, RecursionError) as error:
        return f"does not compile ({error}): correct it"
    foreign = next((name for name in _imported(module) if name not in sys.stdlib_module_names), None)
    if foreign is None or has_packages:
        return None
    return f"imports {foreign}, which is not in the standard library: name its package in the problem's packages"


def _imported(module: ast.Module) -> Iterator[str]:
    """Yield the top-level names of the modules that code imports outside of `try`."""
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        match node:
            case ast.Try():
                continue
            case ast.Import(names=aliases):
                yield from (alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=str(name), level=0):
                yield name.partition(".")[0]
            case _:
                pending.extend(ast.iter_child_nodes(node))
