"""`alphamix serve`: serves policies and mixtures behind one OpenAI-compatible endpoint."""

from ipaddress import ip_address
from pathlib import Path

import click

from alphamix.ensemble.cli.options import COUNT, PATH
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve.accounts import ClientKey
from alphamix.ensemble.serve.app import RequestLimits, ServeOptions
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.best_of.request import BestOfLimits
from alphamix.ensemble.serve.http_protocol import ConnectionLimits
from alphamix.ensemble.serve.routing.alpha_on_request import AlphaLimits
from alphamix.ensemble.serve.server import open_tracer, serve
from alphamix.environment import read_secret

_COUNT_OR_0 = click.IntRange(min=0)
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command("serve", context_settings={"show_default": True})
@click.argument("source", metavar="EXPERIMENT|POLICIES", type=PATH)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option(
    "--mixture",
    "mixtures",
    multiple=True,
    type=PATH,
    metavar="PATH",
    help="Mixture to serve: the output of `alphamix mix --json`, or the folder of a finished run. May be repeated.",
)
@click.option(
    "--api-key-env",
    "key_variables",
    multiple=True,
    metavar="NAME",
    help="Environment variable with an API key that clients must send. May be repeated. [keys] of the file adds more.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name of this server that clients without a key may use, beside addresses and localhost. May be repeated.",
)
@click.option(
    "--cors-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web page, such as https://chat.example.org, that may use this server; * for all. May be repeated.",
)
@click.option("--request-log", type=PATH, metavar="FILE", help="File to which a line of JSON is added per request.")
@click.option("--otel", is_flag=True, help="Send spans by OpenTelemetry to where OTEL_EXPORTER_OTLP_ENDPOINT says.")
@click.option(
    "--max-choices", default=RequestLimits().choices, type=COUNT, help="Maximum number of choices per request."
)
@click.option(
    "--max-body-mb",
    default=RequestLimits().body_bytes / 2**20,
    type=_POSITIVE,
    help="Maximum size of a request in MiB.",
)
@click.option(
    "--max-connections", default=ConnectionLimits().connections, type=COUNT, help="Maximum number of connections."
)
@click.option(
    "--head-timeout",
    default=ConnectionLimits().head_timeout_s,
    type=_POSITIVE,
    help="Seconds for the head of a request to arrive.",
)
@click.option(
    "--max-in-flight", default=RequestLimits().in_flight, type=COUNT, help="Maximum concurrent calls per policy."
)
@click.option(
    "--max-budget", default=BestOfLimits().budget, type=COUNT, help="Maximum number of draws per best-of request."
)
@click.option(
    "--judge-workers", default=1, type=_COUNT_OR_0, help="Programs judged at the same time; 0 turns best-of off."
)
@click.option(
    "--max-alphas", default=AlphaLimits().held, type=_COUNT_OR_0, help="Maximum number of unlisted α held at once."
)
@click.option("--connect-timeout", default=Timeouts().connect_s, type=_POSITIVE, help="Seconds to reach a server.")
@click.option(
    "--first-byte-timeout",
    default=Timeouts().first_byte_s,
    type=_POSITIVE,
    help="Seconds until a server begins to answer.",
)
@click.option(
    "--idle-timeout", default=Timeouts().idle_s, type=_POSITIVE, help="Seconds without data from either side."
)
@click.option("--total-timeout", default=Timeouts().total_s, type=_POSITIVE, help="Seconds for a whole answer.")
@click.option(
    "--missing",
    type=click.Choice(["error", "drop-policies"]),
    default="error",
    help="What to do about policies whose weights or keys are not there: refuse to start, or leave them out.",
)
@click.option("--drain", default=30, type=_COUNT_OR_0, help="Seconds to finish open requests after SIGTERM.")
def command(
    source: Path,
    host: str,
    port: int,
    mixtures: tuple[Path, ...],
    key_variables: tuple[str, ...],
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    request_log: Path | None,
    otel: bool,
    max_choices: int,
    max_body_mb: float,
    max_connections: int,
    head_timeout: float,
    max_in_flight: int,
    max_budget: int,
    judge_workers: int,
    max_alphas: int,
    connect_timeout: float,
    first_byte_timeout: float,
    idle_timeout: float,
    total_timeout: float,
    missing: str,
    drain: int,
) -> None:
    """Serve the policies and mixtures of a TOML file to any OpenAI client.

    The file is an experiment or a file of policies. The allocation of an experiment is served as one model under the
    experiment's name.
    """
    keys = tuple(
        ClientKey(variable, read_secret(variable, "--api-key-env needs an API key", EnsembleError))
        for variable in key_variables
    )
    if not keys and not _is_loopback(host):
        click.echo(f"no --api-key-env is given: anyone who can reach {host}:{port} can use these policies", err=True)
    options = ServeOptions(
        limits=RequestLimits(max_choices, int(max_body_mb * 2**20), max_in_flight),
        timeouts=Timeouts(connect_timeout, first_byte_timeout, idle_timeout, total_timeout),
        best_of=BestOfLimits(budget=max_budget),
        alphas=AlphaLimits(held=max_alphas),
        judge_workers=judge_workers,
        keys=keys,
        hosts=hosts,
        origins=origins,
        request_log=request_log,
        tracer=open_tracer() if otel else None,
    )
    serve(
        source,
        host,
        port,
        options=options,
        mixture_paths=mixtures,
        connections=ConnectionLimits(head_timeout_s=head_timeout, connections=max_connections),
        drain_s=drain,
        drops_missing=missing == "drop-policies",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
