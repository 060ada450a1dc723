"""A click group whose commands are modules, each imported only when it is called.

That keeps `--help` fast. A command whose extra is not installed says which one it needs, and the others still work.
"""

import atexit
import gc
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

MODULES_OF_EXTRA = {
    "local": ("torch", "transformers"),
    "report": ("jinja2", "matplotlib"),
    "serve": ("starlette", "uvicorn", "msgspec", "prometheus_client"),
    "dask": ("distributed",),
    "ray": ("ray",),
    "vllm": ("vllm",),
    "explore": ("sklearn",),
    "parquet": ("pyarrow",),
}
"""Modules that each extra of the package installs."""

# A command keeps what it imports until it ends. Collecting garbage after every 700 new objects, and once more on exit,
# would take as long as the imports themselves.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


class LazyCommand(NamedTuple):
    """Where to import a command from, and its line in the help of the group."""

    module: str
    attribute: str
    help: str


class LazyGroup(click.Group):
    """A click group over `commands_by_name`, in the order in which the help lists them."""

    def __init__(self, *arguments: Any, commands_by_name: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._commands = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self._commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:
            UsageError: a package that the command needs is not installed.
        """
        if cmd_name not in self._commands:
            return None
        module, attribute, _ = self._commands[cmd_name]
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            root = (error.name or "").partition(".")[0]
            extra = next((extra for extra, modules in MODULES_OF_EXTRA.items() if root in modules), None)
            if extra is None:
                raise
            raise click.UsageError(
                f"`alphamix {cmd_name}` needs the package {error.name}: pip install 'alphamix[{extra}]'"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self._commands.items()])
