"""`alphamix serve`: policies and mixtures as one OpenAI-compatible endpoint."""

from pathlib import Path

import click

from ensemble.serve.app import serve


@click.command("serve")
@click.argument("policies_file", metavar="POLICIES", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
def command(policies_file: Path, host: str, port: int) -> None:
    """Serve the policies and mixtures of POLICIES (a TOML file) to any OpenAI client."""
    serve(policies_file, host, port)
