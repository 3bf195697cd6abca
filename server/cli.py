"""The command `trellis`."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from server import up as launcher
from server.embedded import StateFolder
from server.embedded.processes import CannotRunError
from server.settings import get_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback()
def trellis() -> None:
    """Trellis: one graph for operators who sell connectivity and commerce through many hands."""


@app.command()
def up() -> None:
    """Start everything on this machine, with demo tenants, until Ctrl-C."""
    raise typer.Exit(launcher.up(get_settings()))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = get_settings()
    if settings.database_url:
        launcher.migrate(settings)
        return
    state = StateFolder(settings.state_dir)
    try:
        with state.exclusively(), ExitStack() as stopping:
            launcher.migrate(launcher.Children(state, stopping).start_services(settings))
    except CannotRunError as failure:
        typer.echo(failure, err=True)
        raise typer.Exit(1) from None


@app.command()
def schema(door: str | None = None, role: str | None = None, write: bool = False) -> None:
    """Print the schema, or the part that a door's roles or one role can reach; --write keeps the whole one."""
    from server import developer

    text = developer.sdl(door, role)
    if write:
        developer.SDL.write_text(developer.sdl(None, None), encoding="utf-8")
    else:
        typer.echo(text, nl=False)


@app.command()
def explain(
    operation: Path,
    as_: Annotated[str, typer.Option("--as", help="role@path, such as agent_admin@.0001.0AB2.")] = "platform_admin",
    below: Annotated[int, typer.Option(help="How many tenants stand below the caller.")] = 10,
    variables: str = "{}",
    analyze: bool = False,
) -> None:
    """Print what the planner makes of an operation: grants, cost, statements, builder; --analyze runs it."""
    from server import developer

    settings = get_settings() if analyze else None
    try:
        typer.echo(developer.explained(operation, as_, below, json.loads(variables), settings))
    except CannotRunError as failure:
        typer.echo(failure, err=True)
        raise typer.Exit(1) from None
