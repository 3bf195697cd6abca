"""The graph at work: from a request to bytes. Everything above running the statements is a dictionary look-up on
the second call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from graphql import GraphQLSchema, OperationType

from authz.grants import Grants
from authz.principal import Impersonation, Principal, PrincipalKind
from planner.assemble import Graph
from planner.compile import compile_plan
from planner.errors import FieldFailure, GraphRefusal, GraphRefusals
from planner.execute import Execution
from planner.introspection import introspect, visible_schema
from planner.operation import Document, Documents, Operation
from planner.plan import NullPropagatesError, Plan, State
from planner.registry import MutationRoot
from resolvers.context import Context, run_mutation
from resolvers.redaction import handles_secrets
from server.doors import Door
from services.messages import saying
from services.refusal import Refusal

log = structlog.get_logger()

KEPT_PLANS = 200
KEPT_SCHEMAS = 64


@dataclass(frozen=True)
class Request:
    """One operation to run, however it travelled."""

    document: Document
    operation: Operation
    variables: Mapping[str, Any]


class Engine:
    """Answers operations at all doors of one process."""

    def __init__(self, graph: Graph, doors: Mapping[str, Door]) -> None:
        self.graph = graph
        self.doors = doors
        self.documents = {name: Documents(graph.schema, door.limits.document) for name, door in doors.items()}
        self._schemas: OrderedDict[str, GraphQLSchema] = OrderedDict()

    def plan(self, door: Door, principal: Principal, operation: Operation, variables: Mapping[str, Any]) -> Plan:
        """The compiled plan for this caller; raises GraphRefusal(s)."""
        key = (principal.plan_key, operation.baked(variables))
        plans = operation.plans
        plan: Plan | None = plans.get(key)
        if plan is None:
            plan = plans[key] = compile_plan(
                self.graph, operation, principal.grants, principal.shape, variables, door.limits.document
            )
            if len(plans) > KEPT_PLANS:
                plans.popitem(last=False)
        return plan

    async def answer(self, request: Request, context: Context) -> dict[str, Any]:
        """The response of a query or a mutation. Refusals of the whole operation are raised."""
        door = self.doors[context.door.name]
        operation = request.operation
        variables = operation.coerce(request.variables)
        plan = self.plan(door, context.principal, operation, variables)
        if context.principal.impersonation is not None and operation.kind is OperationType.MUTATION:
            _refuse_impersonator(plan, context.principal.impersonation)
        if plan.introspection and context.principal.kind is PrincipalKind.ANONYMOUS:
            raise GraphRefusal("UNAUTHENTICATED", "LOG_IN_FOR_SCHEMA")
        execution = Execution(plan, variables, context, context.reader)
        try:
            if operation.kind is OperationType.QUERY:
                data: dict[str, Any] | None = await execution.query()
            else:
                data = await execution.mutate(lambda root, arguments: run_mutation(root, context, arguments))
        except NullPropagatesError:
            data = None
        if plan.introspection:
            schema = self.visible(context.principal.grants)
            found = introspect(
                schema, operation.document, operation.node, list(plan.introspection), dict(request.variables)
            )
            data = {**(data or {}), **found}
        return _response(data, execution.state, context)

    async def subscribe(
        self, request: Request, context: Context, refresh: Callable[[], Awaitable[Principal]]
    ) -> AsyncIterator[dict[str, Any]]:
        """The responses of a subscription, each planned anew for what the caller may see at that moment."""
        door = self.doors[context.door.name]
        operation = request.operation
        variables = operation.coerce(request.variables)
        plan = self.plan(door, context.principal, operation, variables)
        root = plan.roots[0]
        assert root.root is not None
        events = root.root.function(context, **(root.arguments(variables) if root.arguments else {}))
        try:
            async for value in events:
                context.principal = await refresh()
                plan = self.plan(door, context.principal, operation, variables)
                execution = Execution(plan, variables, context, context.reader)
                yield _response(await execution.answer({root.key: value}), execution.state, context)
        except Refusal as refusal:
            raise GraphRefusal(refusal.code, refusal.message(context.principal.language)) from None
        except NullPropagatesError:
            # what is told of has gone out of the caller's reach meanwhile
            gone = Refusal("NOT_FOUND")
            raise GraphRefusal(gone.code, gone.message(context.principal.language)) from None
        finally:
            await events.aclose()

    def visible(self, grants: Grants) -> GraphQLSchema:
        found = self._schemas.get(grants.key)
        if found is None:
            found = self._schemas[grants.key] = visible_schema(self.graph, grants)
            if len(self._schemas) > KEPT_SCHEMAS:
                self._schemas.popitem(last=False)
        return found


def _refuse_impersonator(plan: Plan, impersonation: Impersonation) -> None:
    """Whoever acts as somebody else changes nothing without the right to write, and touches no secret with it."""
    refused = []
    for planned in plan.roots:
        root = planned.root
        if not isinstance(root, MutationRoot) or planned.name == "endImpersonation":
            continue
        code = "IMPERSONATION_KEEPS_SECRETS" if impersonation.may_write else "IMPERSONATION_READS_ONLY"
        if not impersonation.may_write or handles_secrets(root):
            refused.append(GraphRefusal(code, code, path=planned.path))
    if refused:
        raise GraphRefusals(refused)


def _response(data: Any, state: State, context: Context) -> dict[str, Any]:
    if not state.errors:
        return {"data": data}
    return {"errors": [_field_error(path, error, context) for path, error in state.errors], "data": data}


def _field_error(path: tuple[str | int, ...], error: Exception, context: Context) -> dict[str, Any]:
    say = saying(context.principal.language)
    if isinstance(error, FieldFailure):
        return {"message": say(error.text, error.params), "path": list(path), "extensions": {"code": error.code}}
    if isinstance(error, Refusal):
        message = error.message(context.principal.language)
        return {"message": message, "path": list(path), "extensions": {"code": error.code}}
    if (code := getattr(error, "code", None)) is not None:
        return {"message": str(error), "path": list(path), "extensions": {"code": code}}
    log.error("a live field failed", path=path, request_id=context.origin.request_id, exc_info=error)
    return {"message": say("INTERNAL", {}), "path": list(path), "extensions": {"code": "INTERNAL"}}


def refusals_of(error: Exception, request_id: str, language: str) -> list[dict[str, Any]]:
    """Any failure of a whole operation as GraphQL errors in the caller's language; a bug is masked, and logged under
    the request's id."""
    say = saying(language)
    if isinstance(error, GraphRefusals):
        return [refusal.formatted(say) for refusal in error.refusals]
    if isinstance(error, GraphRefusal):
        return [error.formatted(say)]
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return [GraphRefusal("TIMEOUT", "TIMEOUT").formatted(say)]
    log.error("an operation failed", request_id=request_id, exc_info=error)
    return [GraphRefusal("INTERNAL", "INTERNAL", extensions={"requestId": request_id}).formatted(say)]
