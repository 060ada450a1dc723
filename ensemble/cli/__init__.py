"""The command `alphamix`. Each subcommand is a module here, imported only when it is called (`lazy`)."""

import sqlite3
import sys
from keyword import iskeyword
from typing import Any

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup
from alphamix.errors import AlphamixError

COMMANDS = {
    "run": "Run an experiment, or go on with it: sample, grade, report.",
    "resume": "Go on with the run in a folder.",
    "status": "Show what a run has done and what it owes.",
    "report": "Analyse a finished run again.",
    "regrade": "Grade a run's samples anew, with other limits or checkers.",
    "import": "Put samples and verdicts from files into a run's folder.",
    "export": "Write a run's samples, verdicts and outcomes as files.",
    "grade": "Judge a file of samples; write a file of verdicts.",
    "mix": "Choose the best α-mixture from outcomes, and say what it honestly gains.",
    "coverage": "Estimate what an allocation covers, and pass@k, from outcomes.",
    "next-alpha": "Say which α is worth making next, or that more would not pay.",
    "cost": "Estimate what a plan needs in GPU hours, disk and grading, from a run.",
    "policies": "List, check and make policies.",
    "serve": "Serve policies and mixtures as one OpenAI-compatible endpoint.",
    "doctor": "Say what this machine can do, and the exact fix for what it cannot.",
}


def _module(name: str) -> str:
    """Return the module of a command, named as Python lets modules be named."""
    return f"alphamix.ensemble.cli.commands.{name.replace('-', '_')}{'_' if iskeyword(name) else ''}"


@click.group(
    cls=LazyGroup,
    lazy={name: LazyCommand(_module(name), "command", what) for name, what in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="alphamix")
def alphamix() -> None:
    """Make policies by moving along the line between checkpoints, sample and grade them under one budget, and say
    honestly what the ensemble gains.

    Exit codes: 0 done, 1 failed, 2 usage, 3 finished with work still owed, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line. Errors of the user's making are one line and exit code 2, those of the machine 1."""
    try:
        return alphamix.main(arguments, prog_name="alphamix", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: run the same command again, and a run goes on where it stopped", err=True)
        sys.exit(130)
    except AlphamixError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        sys.stderr.close()
        sys.exit(1)
    except (OSError, sqlite3.OperationalError) as error:
        click.echo(f"error: {error}: make room or give another folder; the same command then goes on", err=True)
        sys.exit(1)
