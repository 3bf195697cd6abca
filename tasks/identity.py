"""Identity, later: telling of API keys before they end."""

from __future__ import annotations

from authz.session import Database
from services.api_keys import tell_of_expiring as tell
from tasks.app import app, run, settings


@app.task(name="tasks.identity.tell_of_expiring", ignore_result=True)  # type: ignore[untyped-decorator]
def tell_of_expiring() -> None:
    """Writes an event for each key that ends soon (S0-54). A repeat finds them told."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            await tell(database)
        finally:
            await database.close()

    run(work)
