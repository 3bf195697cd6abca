"""Usage, later: taking sessions in, counting them, and pulling from suppliers what cards used."""

from __future__ import annotations

from datetime import UTC, datetime

from services.usage import counting, pulling
from services.usage import taking_in as session_files
from tasks.app import app, file_store, secret_keys, with_database


@app.task(name="tasks.usage.take_in", ignore_result=True)  # type: ignore[untyped-decorator]
def take_in(task: int) -> None:
    """Takes a file of session records in. A repeat finds the task done, or begins it again (S0-61)."""
    with_database(lambda database: session_files.take_in(database, file_store(), task))


@app.task(name="tasks.usage.count", ignore_result=True)  # type: ignore[untyped-decorator]
def count() -> None:
    """Counts the days of which sessions have come in (S0-63 to S0-65). A repeat finds them counted."""
    with_database(lambda database: counting.count_due(database, datetime.now(UTC)))


@app.task(name="tasks.usage.count_present", ignore_result=True)  # type: ignore[untyped-decorator]
def count_present() -> None:
    """Counts the last half hour (S0-63). A repeat counts the same."""
    with_database(lambda database: counting.count_present(database, datetime.now(UTC)))


@app.task(name="tasks.usage.pull", ignore_result=True)  # type: ignore[untyped-decorator]
def pull() -> None:
    """Pulls what cards used yesterday (S0-51). A repeat asks for what is missing."""
    with_database(lambda database: pulling.pull_due(database, secret_keys(), datetime.now(UTC)))
