"""Webhooks, later: sending what is due."""

from __future__ import annotations

from services.webhook.delivery import deliver_due
from tasks.app import app, secret_keys, settings, with_database


@app.task(name="tasks.webhook.deliver", ignore_result=True)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Sends deliveries that are due. A repeat finds them taken; one that died leaves them due again."""
    with_database(lambda database: deliver_due(database, secret_keys(), inside=settings.webhooks_inside))
