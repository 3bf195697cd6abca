"""Identity, later: telling of API keys before they end."""

from __future__ import annotations

from services.api_keys import tell_of_expiring as tell
from tasks.app import app, with_database


@app.task(name="tasks.identity.tell_of_expiring", ignore_result=True)  # type: ignore[untyped-decorator]
def tell_of_expiring() -> None:
    """Writes an event for each key that ends soon (S0-54). A repeat finds them told."""
    with_database(tell)
