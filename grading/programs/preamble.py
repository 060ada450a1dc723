"""Putting the preamble of a problem, such as imports and helper classes, before a program."""

import ast

from alphamix.grading.programs.prologue import parse


def with_preamble(preamble: str, source: str) -> str:
    """Return the program with the preamble before it, or after its `from __future__` imports, which must come first.

    A program that does not parse is joined all the same: the judge says why.
    """
    module = parse(source) if "__future__" in source else None
    ends = [
        node.end_lineno
        for node in (module.body if module else ())
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.end_lineno
    ]
    lines = source.split("\n")
    first = ends[-1] if ends else 0
    return "\n".join((*lines[:first], preamble.rstrip("\n"), *lines[first:]))
