"""Statements of a test's code: what they use, which packages they need, and as text. Nothing is run."""

import ast
import sys
from collections.abc import Sequence


def source(statements: Sequence[ast.stmt]) -> str:
    """Return the text of statements."""
    return "\n".join(map(ast.unparse, statements))


def uses(statements: Sequence[ast.stmt], name: str) -> bool:
    """Check whether any statement uses a name."""
    return any(isinstance(node, ast.Name) and node.id == name for tree in statements for node in ast.walk(tree))


def without_unused_imports(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Drop what nothing uses, so that no problem needs a package in vain."""
    return [
        node
        for node in statements
        if not isinstance(node, ast.Import)
        or any(uses(statements, alias.asname or alias.name.partition(".")[0]) for alias in node.names)
    ]


def packages(code: str) -> tuple[str, ...]:
    """Return the packages that code imports."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module}
    return tuple(sorted({module.partition(".")[0] for module in modules} - sys.stdlib_module_names))
