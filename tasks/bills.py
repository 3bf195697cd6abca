"""Bills, later: the bill run, and documents."""

from __future__ import annotations

from datetime import UTC, datetime

from services import bills
from tasks.app import app, file_store, with_database


@app.task(name="tasks.bills.run", ignore_result=True)  # type: ignore[untyped-decorator]
def run_bills() -> None:
    """Makes the bills of the months that are over (S0-66). A repeat finds them made."""
    with_database(lambda database: bills.run(database, file_store(), datetime.now(UTC)))


@app.task(name="tasks.bills.document", ignore_result=True)  # type: ignore[untyped-decorator]
def document(statement: int) -> None:
    """Writes the documents of a settlement statement (S0-67). A repeat finds them written."""
    with_database(lambda database: bills.document_statement(database, file_store(), statement))
