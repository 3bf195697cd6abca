"""The operation log: one line for each mutation, whatever becomes of it (S1-30).

What was done is written in the transaction that did it, with what it changed, so that both are kept or neither. What
was refused or failed has changed nothing, and its line stands alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, PrincipalKind, system
from models.system import OperationRecord
from models.tenancy import Tenant
from planner.registry import MutationRoot
from resolvers.redaction import shown_arguments, shown_changes
from services.changes import Changes

if TYPE_CHECKING:
    from resolvers.context import Context

SUCCEEDED = "SUCCEEDED"


class OperationLog:
    """The line of one mutation that is being run."""

    def __init__(self, root: MutationRoot, context: Context, arguments: Mapping[str, Any]) -> None:
        self._root = root
        self._context = context
        self._arguments = arguments
        self._started = time.monotonic()
        self._changes: Changes | None = None
        self.kept = not root.logged
        """Whether nothing is left to be written."""

    def begin(self, session: AsyncSession) -> None:
        """Gathers what the session changes from now on."""
        if self._root.logged and self._context.principal.tenant_id is not None:
            self._changes = Changes.gathered(session)

    async def end(self, session: AsyncSession) -> None:
        """Writes the line with the changes; it is kept once they are committed."""
        if self._changes is None:
            return
        await session.flush()
        principal = self._context.principal
        work = self._context.work
        # what has been erased must not live on as what it was before
        erased = work is not None and work.person_erased
        changes = [] if erased else await shown_changes(session, self._changes)
        assert principal.tenant_id is not None
        session.add(
            self._line(principal.tenant_id, SUCCEEDED, changes=changes, changes_cut=self._changes.cut),
        )

    def committed(self) -> None:
        self.kept = self.kept or self._changes is not None

    async def write_alone(self, outcome: str) -> None:
        """Writes the line of a mutation that changed nothing, or was the visitor's own."""
        principal, runtime = self._context.principal, self._context.runtime
        if outcome == "TOO_MANY_ATTEMPTS" and principal.kind is PrincipalKind.ANONYMOUS:
            # the log must not grow by what a limit keeps out
            return
        scope = principal if principal.path else system("operation log")
        async with runtime.database.transaction(scope) as session:
            tenant_id = principal.tenant_id
            if tenant_id is None:
                tenant_id = await session.scalar(select(Tenant.id).where(Tenant.path == ROOT_PATH))
            assert tenant_id is not None
            session.add(self._line(tenant_id, outcome))

    def _line(self, tenant_id: int, outcome: str, **more: Any) -> OperationRecord:
        context, principal = self._context, self._context.principal
        acting = principal.impersonation
        return OperationRecord(
            tenant_id=tenant_id,
            tenant_path=principal.path or principal.home or ROOT_PATH,
            request_id=context.origin.request_id,
            door=context.door.name,
            account_id=principal.account_id,
            real_account_id=None if acting is None else acting.account_id,
            reason=None if acting is None else acting.reason,
            api_key_id=principal.api_key_id,
            end_user_id=principal.end_user_id,
            mutation=self._root.function.__name__,
            arguments=shown_arguments(self._arguments),
            outcome=outcome,
            duration_ms=int((time.monotonic() - self._started) * 1000),
            ip=None if context.work is not None and context.work.person_erased else context.origin.ip,
            **more,
        )
