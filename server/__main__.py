"""`python -m server`: the same as `trellis`."""

from server.cli import app

app()
