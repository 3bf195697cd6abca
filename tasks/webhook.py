"""Webhooks, later: sending what is due."""

from __future__ import annotations

from authz.session import Database
from services.keys import Keys
from services.webhook.delivery import deliver_due
from tasks.app import app, run, settings


@app.task(name="tasks.webhook.deliver", ignore_result=True)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Sends deliveries that are due. A repeat finds them taken; one that died leaves them due again."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            keys = Keys(settings.secret_key.get_secret_value())
            await deliver_due(database, keys, inside=settings.webhooks_inside)
        finally:
            await database.close()

    run(work)
