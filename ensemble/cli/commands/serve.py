"""`alphamix serve`: policies and mixtures as one OpenAI-compatible endpoint."""

from ipaddress import ip_address
from pathlib import Path

import click

from alphamix.ensemble.serve.app import RequestLimits, ServeOptions
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.best_of.request import BestOfLimits
from alphamix.ensemble.serve.routing.alpha_on_request import AlphaLimits
from alphamix.ensemble.serve.server import read_keys, serve

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command("serve", context_settings={"show_default": True})
@click.argument("source", metavar="EXPERIMENT|POLICIES", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--mixture",
    "mixtures",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What 'alphamix mix --json' prints, or a finished run's folder; may be repeated.",
)
@click.option(
    "--api-key-env",
    "key_variables",
    multiple=True,
    metavar="NAME",
    help="Variable that holds a key which clients must have; may be repeated.",
)
@click.option(
    "--max-choices", default=RequestLimits().choices, type=click.IntRange(min=1), help="Choices of a request."
)
@click.option("--max-body-mb", default=RequestLimits().body_bytes / 2**20, type=_POSITIVE, help="Size of a request.")
@click.option(
    "--max-in-flight", default=RequestLimits().in_flight, type=click.IntRange(min=1), help="Calls of a policy."
)
@click.option("--max-budget", default=BestOfLimits().budget, type=click.IntRange(min=1), help="Draws of a best-of.")
@click.option("--judge-workers", default=1, type=click.IntRange(min=0), help="Programs judged at once; 0: no best-of.")
@click.option("--max-alphas", default=AlphaLimits().held, type=click.IntRange(min=0), help="Unlisted α held at once.")
@click.option("--connect-timeout", default=Timeouts().connect_s, type=_POSITIVE, help="Seconds, of a URL.")
@click.option("--first-byte-timeout", default=Timeouts().first_byte_s, type=_POSITIVE, help="Seconds, of a URL.")
@click.option("--idle-timeout", default=Timeouts().idle_s, type=_POSITIVE, help="Seconds, of a URL or a client.")
@click.option("--total-timeout", default=Timeouts().total_s, type=_POSITIVE, help="Seconds, of an answer.")
@click.option("--drain", default=30, type=click.IntRange(min=0), help="Seconds for what is under way at SIGTERM.")
def command(
    source: Path,
    host: str,
    port: int,
    mixtures: tuple[Path, ...],
    key_variables: tuple[str, ...],
    max_choices: int,
    max_body_mb: float,
    max_in_flight: int,
    max_budget: int,
    judge_workers: int,
    max_alphas: int,
    connect_timeout: float,
    first_byte_timeout: float,
    idle_timeout: float,
    total_timeout: float,
    drain: int,
) -> None:
    """Serve the policies and mixtures of a TOML file to any OpenAI client.

    An experiment's allocation is served as one model under the experiment's name.
    """
    keys = read_keys(key_variables)
    if not keys and not _is_loopback(host):
        click.echo(f"no --api-key-env is given: whoever reaches {host}:{port} can use these policies", err=True)
    options = ServeOptions(
        limits=RequestLimits(max_choices, int(max_body_mb * 2**20), max_in_flight),
        timeouts=Timeouts(connect_timeout, first_byte_timeout, idle_timeout, total_timeout),
        best_of=BestOfLimits(budget=max_budget),
        alphas=AlphaLimits(held=max_alphas),
        judge_workers=judge_workers,
        keys=keys,
    )
    serve(source, host, port, options=options, mixture_paths=mixtures, drain_s=drain)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
