"""The command `trellis`."""

from contextlib import ExitStack

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
