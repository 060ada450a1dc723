"""A group of commands each of which is a module, imported only when it is called.

So that `--help` is quick, and a command whose extra is not installed says which, instead of breaking all others.
"""

import atexit
import gc
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

EXTRA_OF_MODULE = {
    "torch": "local",
    "transformers": "local",
    "matplotlib": "report",
    "jinja2": "report",
    "starlette": "serve",
    "uvicorn": "serve",
    "msgspec": "serve",
    "prometheus_client": "serve",
    "sklearn": "explore",
    "pyarrow": "parquet",
}


# A command keeps what it loads until it ends. To look for garbage in that after every 700 objects, and once more on
# leaving, takes as long as to load it.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


class LazyCommand(NamedTuple):
    """Where a command is, and what it is for."""

    module: str
    attribute: str
    help: str


class LazyGroup(click.Group):
    """A click group over `lazy`, the commands by name in the order of the help."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:
            UsageError: a package that it needs is not installed.
        """
        if cmd_name not in self._lazy:
            return None
        module, attribute, _ = self._lazy[cmd_name]
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            extra = EXTRA_OF_MODULE.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.UsageError(
                f"`alphamix {cmd_name}` needs the package {error.name}: pip install 'alphamix[{extra}]'"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self._lazy.items()])
