"""Tools for developers: the schema as a role sees it, and what becomes of an operation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from authz.access import ANYBODY
from authz.grants import Grants, compile_grants
from authz.policies import load_policies
from authz.principal import ROOT_PATH, Principal, PrincipalKind
from planner.compile import compile_plan
from planner.explain import analyze, explain
from planner.introspection import print_visible
from planner.operation import DocumentLimits, Documents
from planner.pool import Pool
from server.app import POLICIES, the_catalog, the_graph
from server.doors import load_doors
from server.embedded import StateFolder
from server.embedded.postgres import APPLICATION, Postgres
from server.embedded.processes import CannotRunError
from server.settings import Settings

SDL = Path(__file__).resolve().parent.parent / "schema" / "schema.graphql"
SOME_CUSTOMER = f"{ROOT_PATH}0001."


def role_grants(role: str, path: str) -> Grants:
    return compile_grants(load_policies(POLICIES), the_catalog(), [ANYBODY, role], path)


def home_of(role: str) -> str:
    """A place in the tree where a built-in role holds: the platform for its own staff, some customer otherwise."""
    return ROOT_PATH if role.startswith("platform") else SOME_CUSTOMER


def sdl(door: str | None, role: str | None) -> str:
    """The whole schema, or the part that a role, or all roles of a door together, can reach."""
    if role is not None:
        return print_visible(the_graph(), role_grants(role, home_of(role)))
    if door is not None:
        roles = load_doors()[door].rules.admission.roles
        reach: dict[Any, Any] = {}
        for each in sorted(roles):
            reach.update(role_grants(each, home_of(each)).reach)
        return print_visible(the_graph(), Grants(reach, f"door {door}"))
    return the_graph().sdl()


def caller(text: str, tenants_below: int) -> Principal:
    """``agent_admin@.0001.0AB2.`` as a principal; the end user and keys are left out."""
    role, _, path = text.partition("@")
    path = path or home_of(role)
    return Principal(
        PrincipalKind.STAFF,
        "admin",
        role_grants(role, path),
        tenant_id=0,
        path=path,
        tenants_below=tenants_below,
        account_id=0,
        roles=(role,),
    )


def explained(file: Path, as_: str, tenants_below: int, variables: dict[str, Any], settings: Settings | None) -> str:
    """What the planner makes of the operation in a file; with settings, what PostgreSQL makes of it too."""
    principal = caller(as_, tenants_below)
    limits = DocumentLimits(max_page=1_000, max_cost=10**9)
    operation = Documents(the_graph().schema, limits).get(file.read_text("utf-8")).operation(None)
    values = operation.coerce(variables)
    plan = compile_plan(the_graph(), operation, principal.grants, principal.shape, values, limits)
    told = explain(plan, principal)
    if settings is not None:
        told += "\n" + asyncio.run(_analyzed(plan, principal, values, settings))
    return told


def _running_here(state_dir: Path) -> str:
    port = StateFolder(state_dir).last_port("postgres")
    if port is None:
        raise CannotRunError("No database runs here: start one with make up, or name one by TRELLIS_DATABASE_URL.")
    return Postgres(state_dir, port).url(APPLICATION)


async def _analyzed(plan: Any, principal: Principal, variables: dict[str, Any], settings: Settings) -> str:
    pool = Pool(settings.database_url or _running_here(settings.state_dir), 1)
    await pool.start()
    try:
        return await analyze(plan, principal, variables, pool)
    finally:
        await pool.close()
