"""The command `alphamix`. Each subcommand is a module in `commands`, imported only when it is called (`lazy_group`)."""

import io
import os
import signal
import sqlite3
import sys
import threading
from keyword import iskeyword
from types import FrameType
from typing import Any, NoReturn

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup
from alphamix.ensemble.run.producer_threads import are_left_behind
from alphamix.errors import AlphamixError

COMMANDS = {
    "run": "Run an experiment: sample, grade and report; continue it if it was interrupted.",
    "resume": "Continue the run in a folder.",
    "status": "Show what a run has done and what it still owes.",
    "report": "Analyse a run again.",
    "regrade": "Grade a run's samples again, with other limits or checkers.",
    "import": "Add samples and verdicts from files to a run.",
    "export": "Write a run's samples, verdicts and outcomes to files.",
    "grade": "Judge a file of samples and write a file of verdicts.",
    "mix": "Choose the best α-mixture from outcomes, and estimate honestly what it gains.",
    "coverage": "Estimate coverage of an allocation, and pass@k, from outcomes.",
    "answers": "Run a run's programs on the inputs of their tests, and write a table of answers to vote on.",
    "vote": "Choose whose samples should vote where no verifier can pick, from a table of answers.",
    "rank": "Rank policies by their solve rate, and say which cannot be told from the best.",
    "diagnose": "Say at which budgets an ensemble gains, and why.",
    "power": "Say how large a gain a comparison could see, and what to buy next.",
    "next-alpha": "Propose the α to make next, or advise against another one.",
    "cost": "Estimate the GPU hours, disk space and grading time of a plan.",
    "problems": "Convert and check problems, and judge their reference solutions.",
    "policies": "List, check and make policies.",
    "serve": "Serve policies and mixtures behind an OpenAI-compatible endpoint.",
    "doctor": "Check what this machine can do, and print a fix for what it cannot.",
}


def _module(name: str) -> str:
    """Return the module of a command. `import` is a keyword, so its module is `import_`."""
    return f"alphamix.ensemble.cli.commands.{name.replace('-', '_')}{'_' if iskeyword(name) else ''}"


@click.group(
    cls=LazyGroup,
    commands_by_name={name: LazyCommand(_module(name), "command", summary) for name, summary in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="alphamix")
def alphamix() -> None:
    """Make policies along the line between two checkpoints, sample and grade them under one budget, and estimate
    honestly what the ensemble gains.

    Exit codes: 0 success, 1 failure, 2 usage error, 3 finished with work still owed, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line.

    What a stream cannot encode, as in a locale of ASCII, is written as a question mark.

    An error that the user can correct is printed as one line and exits with 2; a failure of the machine exits with 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _run(arguments)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end_interrupted()
    except AlphamixError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the program that read our output has ended, as `head` does
        sys.stderr.close()
        sys.exit(1)
    except (OSError, sqlite3.OperationalError) as error:
        click.echo(
            f"error: {error}: free some space or choose another folder, then repeat the command to continue", err=True
        )
        sys.exit(1)


def _run(arguments: list[str] | None) -> Any:
    """Run a command. Ctrl-C stays one where a library, such as numpy, turns it into an error of its own."""
    interrupted = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        return alphamix.main(arguments, prog_name="alphamix", standalone_mode=False)
    except Exception as error:
        if interrupted.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_interrupted() -> NoReturn:
    """End with 130, whatever else still runs. Everything that must be put in order has been by now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    click.echo("interrupted: repeat the command; a run continues where it stopped", err=True)
    if are_left_behind():
        sys.stdout.flush()
        os._exit(130)
    sys.exit(130)
