"""How the tests of the planner ask it past HTTP: callers without a login, doors of any limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from authz.principal import Principal, PrincipalKind
from planner.assemble import Graph
from planner.operation import DocumentLimits, Operation
from planner.pool import Pool
from resolvers.context import Context
from server.doors import Door
from server.engine import Engine, Request
from services.runtime import Origin
from tests.support.world import ACTORS, World

WIDE_TENANTS = 1_000
GENEROUS = DocumentLimits(max_tokens=20_000, max_depth=60, max_aliases=1_000, max_cost=10**9, max_page=50)


async def principal(world: World, account: str) -> Principal:
    """An account as it comes in at its door, without a login."""
    actor = ACTORS[account]
    tenant = world.tenants[actor.tenant]
    ((account_id,),) = await world.sql("SELECT id FROM staff_account WHERE login = $1", account)
    return Principal(
        PrincipalKind.STAFF,
        actor.door,
        world.client.application.runtime.access.grants_of([actor.role], tenant.path),
        tenant_id=tenant.id,
        path=tenant.path,
        tenants_below=len(world.below(actor.tenant)),
        account_id=account_id,
        roles=(actor.role,),
        language="en",
    )


def wide(caller: Principal) -> Principal:
    """The same caller as if very many tenants stood below it."""
    return replace(caller, tenants_below=WIDE_TENANTS)


class Planner:
    """The graph's engine with doors of any limits, asked without HTTP; ``reader`` in place of the application's."""

    def __init__(
        self, world: World, graph: Graph, limits: DocumentLimits = GENEROUS, reader: Pool | None = None
    ) -> None:
        self.world = world
        self.reader = reader or world.client.application.reader
        doors = world.client.application.doors
        self.doors: dict[str, Door] = {
            name: replace(door, limits=replace(door.limits, document=limits)) for name, door in doors.items()
        }
        self.engine = Engine(graph, self.doors)

    def operation(self, caller: Principal, text: str) -> Operation:
        """The operation of a document; raises GraphRefusals for one that is not valid."""
        return self.engine.documents[caller.door].get(text).operation(None)

    async def answer(self, caller: Principal, text: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response; refusals of the whole operation are raised."""
        application = self.world.client.application
        document = self.engine.documents[caller.door].get(text)
        context = Context(
            application.runtime,
            caller,
            self.doors[caller.door].rules,
            Origin(ip=None, request_id="test"),
            self.reader,
            application.endpoint.nudge,
        )
        return await self.engine.answer(Request(document, document.operation(None), variables or {}), context)
