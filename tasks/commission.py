"""Commission, later: settling the months that are over."""

from __future__ import annotations

from datetime import UTC, datetime

from authz.session import Database
from services import settlement
from tasks.app import app, run, settings


@app.task(name="tasks.commission.settle", ignore_result=True)  # type: ignore[untyped-decorator]
def settle() -> None:
    """Settles what agents earned in each month that is over (S0-49). A repeat finds it settled."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            await settlement.settle_due(database, datetime.now(UTC))
        finally:
            await database.close()

    run(work)
