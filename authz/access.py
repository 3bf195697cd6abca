"""From an account or a key to a principal: policies of files and database, compiled grants, kept in memory.

Every process keeps principals and grants and hears of changes on one Redis channel, so that a changed policy, a
revoked session or a disabled account acts within a second. While the channel is silent because the connection
is lost, nothing is kept: each request asks the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio as redis
import structlog
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import ANY, Act, Catalog, Coordinate
from authz.grants import Grants, GrantsCache
from authz.policies import Effect, Policies, PolicyError, PolicyLine, domain_patterns, load_policies
from authz.principal import ROOT_PATH, Impersonation, Principal, PrincipalKind, system, visitor
from authz.scopes import Rows, Scope, named_by
from authz.session import Database
from authz.standing import (
    TENANT_MADE,
    Admission,
    in_business,
    in_service,
    served,
)
from models.identity import (
    AccountStatus,
    ApiKey,
    ApiKeyStatus,
    Department,
    EndUser,
    LoginSession,
    Role,
    RoleAssignment,
    RolePolicy,
    StaffAccount,
)
from models.permissions import MenuItem, MenuPermission, RoleDepartment, TenantModule
from models.tenancy import Language, Tenant

CHANNEL = "trellis:access"
KEPT_SECONDS = 60
RETRY_SECONDS = 0.5
KEPT_PRINCIPALS = 50_000
ANYBODY = "anybody"
"""The built-in role of everyone, logged in or not."""
STAFF = "staff"
"""The built-in role of every member of staff, which the others include."""
KEY_HOLDER = "key_holder"
"""What no limit of a key's scopes takes away: that it knows itself."""
END_USER = "end_user"
"""The built-in role of every end user, whoever serves them."""
IMPERSONATE = ("Mutation", "impersonate", Act.CALL)
"""What allows to act as somebody else, reading."""
IMPERSONATE_TO_WRITE = ("ImpersonateInput", "write", Act.WRITE)
"""What allows to change things as somebody else; granted by its full name only."""

log = structlog.get_logger()


@dataclass(frozen=True)
class KnownKey:
    """An API key that is valid now: whom it lets in, what a request may be signed with, and from where."""

    principal: Principal
    secrets: tuple[bytes, ...]
    """Encrypted; the newest first."""
    networks: tuple[str, ...]
    """Empty: from anywhere."""


@dataclass(frozen=True)
class Holder:
    """Whose session it is: a staff account's or an end user's."""

    account_id: int | None = None
    end_user_id: int | None = None


def _alive(session_key: str, door: str) -> ColumnElement[bool]:
    return and_(
        LoginSession.key == uuid.UUID(session_key),
        LoginSession.door == door,
        LoginSession.revoked_at.is_(None),
        LoginSession.expires_at > func.now(),
    )


class Access:
    def __init__(self, database: Database, server: redis.Redis, folder: Path, catalog: Catalog) -> None:
        self.catalog = catalog
        self._database = database
        self._redis = server
        self._built_in = load_policies(folder)
        self.grants = GrantsCache(self._built_in, catalog)
        self._made: list[PolicyLine] = []
        self._principals: dict[str, tuple[float, Principal]] = {}
        self._listening = False
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self.generation = 0
        """Grows with every change of access; what was remembered before is asked for again."""

    # -- policies -----------------------------------------------------------------------------------------

    @property
    def built_in(self) -> Policies:
        return self._built_in

    async def load(self) -> None:
        """Reads tenant-made roles; their policies hold in their own tenant's branch only."""
        async with self._database.transaction(system("policies")) as session:
            rows = await session.execute(
                select(
                    Role.id, RolePolicy.tenant_path, RolePolicy.obj, RolePolicy.act, RolePolicy.scope, RolePolicy.eft
                )
                .join(RolePolicy, RolePolicy.role_id == Role.id)
                .where(Role.status == AccountStatus.ACTIVE)
            )
            made = [line for row in rows if (line := self._made_line(*row)) is not None]
            made += await self._withheld(session)
        if made != self._made:
            self._made = made
            self.grants.replace(Policies((*self._built_in.lines, *made), self._built_in.roles))
            self._forget()

    async def _catch_up(self) -> None:
        """Reads the policies themselves while nobody could say that they have changed."""
        if not self._listening:
            await self.load()

    def _made_line(self, role: int, path: str, obj: str, act: str, scope: str, eft: str) -> PolicyLine | None:
        """A line of a tenant-made role, held within its tenant's branch and away from what is confidential.

        One that cannot be read, or asks for more, grants nothing, and does not harm the others.
        """
        name = f"{TENANT_MADE}{role}"
        below = path != ROOT_PATH
        if below and eft == "allow" and scope == Scope.ALL:
            scope = Scope.SUBTREE
        named = self.catalog.find(obj)
        try:
            if below and named is not None and named.confidential and eft == "allow":
                raise PolicyError(f"{obj} is confidential")
            return PolicyLine.parse([name, f"{path}*", obj, act, scope, eft], source=name)
        except PolicyError as error:
            log.error("a policy of a tenant-made role is not valid", role=name, error=str(error))
            return None

    async def _withheld(self, session: AsyncSession) -> list[PolicyLine]:
        """What a branch may not do because its module is switched off: denied to everybody in it."""
        off = await session.execute(
            select(TenantModule.tenant_path, TenantModule.module).where(TenantModule.enabled.is_(False))
        )
        branches = [(path, module) for path, module in off]
        if not branches:
            return []
        uses: dict[str, set[str | None]] = {}
        for coordinate, module in await session.execute(
            select(MenuPermission.coordinate, MenuItem.module).join(MenuItem, MenuItem.id == MenuPermission.menu_id)
        ):
            uses.setdefault(coordinate, set()).add(module)
        return [
            PolicyLine(ANYBODY, f"{path}*", coordinate, ANY, Scope.ALL, Effect.DENY, source=f"module {module}")
            for path, module in branches
            for coordinate, modules in uses.items()
            if modules == {module}
        ]

    def grants_of(self, roles: Iterable[str], path: str) -> Grants:
        return self.grants.grants_of([ANYBODY, *roles], path or ROOT_PATH)

    def withheld(self, path: str) -> frozenset[Coordinate]:
        """What a tenant's modules that are switched off keep from everybody in it."""
        here = domain_patterns(path)
        return frozenset(
            coordinate
            for line in self._made
            if line.eft is Effect.DENY and line.dom in here
            for coordinate in self.catalog.expand(line.obj, line.act)
        )

    def visitor(self, door: str, language: str) -> Principal:
        return visitor(door, self.grants_of([], ROOT_PATH), language)

    # -- principals ---------------------------------------------------------------------------------------

    async def principal_of_session(
        self,
        session_key: str,
        holder: Holder,
        door: str,
        expires_at: float,
        admission: Admission,
        language: str,
    ) -> Principal | None:
        """Who is behind an access token; None when the session, its holder or the holder's tenant has ended."""
        await self._catch_up()
        generation = self.generation
        key = f"session:{session_key}:{language}"
        if (kept := self._kept(key)) is not None:
            known = (kept.door, kept.account_id, kept.end_user_id)
            if known != (door, holder.account_id, holder.end_user_id):
                return None
            # it was kept for an earlier token of the session
            return dataclasses.replace(kept, expires_at=expires_at)
        find = self._person if holder.account_id is None else self._logged_in
        async with self._database.transaction(system("authentication")) as session:
            found = await find(session, session_key, holder, door, admission)
        if found is None:
            return None
        # what somebody has chosen goes before the header, which browsers send whether anybody chose it or not
        chosen = found.language or language
        principal = dataclasses.replace(found, session_key=session_key, expires_at=expires_at, language=chosen)
        self._keep(key, principal, generation)
        return principal

    async def principal_of_account(
        self, account_id: int, door: str, admission: Admission, language: str
    ) -> Principal | None:
        """A member of staff whose work goes on without a session; None when the account or its tenant has ended."""
        await self._catch_up()
        async with self._database.transaction(system("authentication")) as session:
            found = await self._member(session, door, admission, StaffAccount.id == account_id)
        return None if found is None else dataclasses.replace(found, language=language)

    async def _logged_in(
        self, session: AsyncSession, session_key: str, holder: Holder, door: str, admission: Admission
    ) -> Principal | None:
        own = await session.scalar(
            select(LoginSession).where(_alive(session_key, door), LoginSession.account_id == holder.account_id)
        )
        if own is None:
            return None
        found = await self._member(session, door, admission, StaffAccount.id == holder.account_id)
        if found is None or own.real_account_id is None:
            return found
        impersonation = await self._impersonation(session, own)
        return None if impersonation is None else dataclasses.replace(found, impersonation=impersonation)

    async def _member(
        self, session: AsyncSession, door: str, admission: Admission, which: ColumnElement[bool]
    ) -> Principal | None:
        found = (
            await session.execute(
                select(StaffAccount, Tenant.path, Tenant.kind, Tenant.requests_per_minute)
                .join(Tenant, Tenant.id == StaffAccount.tenant_id)
                .where(which, in_service())
            )
        ).one_or_none()
        if found is None:
            return None
        account, path, kind, requests_per_minute = found
        roles = await session.scalars(select(RoleAssignment.role).where(RoleAssignment.account_id == account.id))
        held = admission.of(roles, kind.name)
        return Principal(
            kind=PrincipalKind.STAFF,
            tenant_kind=kind.name,
            door=door,
            grants=self.grants_of([STAFF, *held] if held else [], path),
            tenant_id=account.tenant_id,
            path=path,
            tenants_below=await self._tenants_below(session, path),
            tenant_requests_per_minute=requests_per_minute,
            account_id=account.id,
            roles=held,
            departments=await _departments(session, account, held),
            language=_tag(account.language),
        )

    async def _impersonation(self, session: AsyncSession, opened: LoginSession) -> Impersonation | None:
        """Who really acts in a session; None once they may no longer: their own session has ended, their account is
        out of service, or their roles do not allow it any more."""
        found = (
            await session.execute(
                select(StaffAccount, Tenant.path)
                .join(LoginSession, LoginSession.account_id == StaffAccount.id)
                .join(Tenant, Tenant.id == StaffAccount.tenant_id)
                .where(
                    LoginSession.key == opened.real_session_key,
                    LoginSession.revoked_at.is_(None),
                    LoginSession.expires_at > func.now(),
                    StaffAccount.id == opened.real_account_id,
                    in_service(),
                )
            )
        ).one_or_none()
        if found is None:
            return None
        account, path = found
        roles = await session.scalars(select(RoleAssignment.role).where(RoleAssignment.account_id == account.id))
        grants = self.grants_of([STAFF, *roles], path)
        if not grants.allows(*IMPERSONATE) or (opened.may_write and not grants.allows(*IMPERSONATE_TO_WRITE)):
            return None
        return Impersonation(account.id, account.name, opened.reason or "", bool(opened.may_write))

    async def _person(
        self, session: AsyncSession, session_key: str, holder: Holder, door: str, admission: Admission
    ) -> Principal | None:
        found = (
            await session.execute(
                select(EndUser.tenant_id, EndUser.language, Tenant.path, Tenant.kind)
                .join(LoginSession, LoginSession.end_user_id == EndUser.id)
                .join(Tenant, Tenant.id == EndUser.tenant_id)
                .where(_alive(session_key, door), EndUser.id == holder.end_user_id, served())
            )
        ).one_or_none()
        if found is None:
            return None
        tenant_id, chosen, path, kind = found
        held = admission.of([END_USER], kind.name)
        # no path: a person reaches what is theirs, wherever it stands, and nothing of the tenant that serves them
        return Principal(
            kind=PrincipalKind.END_USER,
            tenant_kind=kind.name,
            door=door,
            grants=self.grants_of(held, ROOT_PATH),
            tenant_id=tenant_id,
            home=path,
            end_user_id=holder.end_user_id,
            roles=held,
            language=_tag(chosen),
        )

    async def principal_of_key(self, key: str, door: str, admission: Admission, language: str) -> KnownKey | None:
        """The partner behind an API key, with what its scopes leave of its roles; None for a key that is not valid
        now."""
        return await self._known_key(ApiKey.key == key, door, admission, language)

    async def principal_of_key_id(
        self, key_id: int, door: str, admission: Admission, language: str
    ) -> Principal | None:
        """The partner behind an API key whose work goes on after its request; None for a key that is not valid now."""
        found = await self._known_key(ApiKey.id == key_id, door, admission, language)
        return None if found is None else found.principal

    async def _known_key(
        self, which: ColumnElement[bool], door: str, admission: Admission, language: str
    ) -> KnownKey | None:
        await self._catch_up()
        async with self._database.transaction(system("authentication")) as session:
            found = (
                await session.execute(
                    select(
                        ApiKey,
                        Tenant.path,
                        Tenant.kind,
                        Tenant.requests_per_minute,
                        ApiKey.previous_secret_until > func.now(),
                    )
                    .join(Tenant, Tenant.id == ApiKey.tenant_id)
                    .where(
                        which,
                        ApiKey.status == ApiKeyStatus.ACTIVE,
                        ApiKey.expires_at > func.now(),
                        in_business(ApiKey.tenant_id),
                    )
                )
            ).one_or_none()
            if found is None:
                return None
            api_key, path, kind, requests_per_minute, overlaps = found
            below = await self._tenants_below(session, path)
        held = admission.of(api_key.roles, kind.name)
        grants = self.grants_of(held, path)
        if api_key.scopes:
            grants = self.grants.narrowed(grants, frozenset(api_key.scopes), self.grants_of([KEY_HOLDER], path))
        principal = Principal(
            kind=PrincipalKind.API_KEY,
            tenant_kind=kind.name,
            door=door,
            grants=grants,
            tenant_id=api_key.tenant_id,
            path=path,
            tenants_below=below,
            tenant_requests_per_minute=requests_per_minute,
            api_key_id=api_key.id,
            roles=held,
            language=language,
        )
        secrets = [api_key.secret_encrypted]
        if overlaps and api_key.previous_secret_encrypted is not None:
            secrets.append(api_key.previous_secret_encrypted)
        return KnownKey(principal, tuple(secrets), tuple(api_key.allowed_networks))

    async def _tenants_below(self, session: Any, path: str) -> int:
        end = path.rstrip(".") + "/"
        counted = select(func.count()).select_from(Tenant).where(Tenant.path >= path, Tenant.path < end)
        return int(await session.scalar(counted))

    @property
    def listening(self) -> bool:
        return self._listening

    def _forget(self) -> None:
        self.generation += 1
        self._principals.clear()
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self, generation: int) -> None:
        """Returns when something about access has changed since that generation; and, while no change is heard of,
        after a moment, since one may have happened."""
        if self.generation == generation:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), None if self._listening else RETRY_SECONDS)

    # -- what is kept, and when it is forgotten ------------------------------------------------------------

    def _kept(self, key: str) -> Principal | None:
        found = self._principals.get(key)
        if found is None or not self._listening or found[0] < time.monotonic():
            return None
        return found[1]

    def _keep(self, key: str, principal: Principal, generation: int) -> None:
        """Keeps what was read, unless something changed while it was being read."""
        if generation != self.generation:
            return
        if len(self._principals) >= KEPT_PRINCIPALS:
            self._principals.clear()
        self._principals[key] = (time.monotonic() + KEPT_SECONDS, principal)

    async def changed(self, *, policies: bool = False) -> None:
        """Tells every process, this one first, that principals (and policies) are to be read again."""
        self._forget()
        if policies:
            await self.load()
        try:
            await self._publish(policies=policies)
        except (redis.RedisError, OSError) as error:
            # what has changed is committed: the caller's work is done, and the others are told when they can be
            log.warning("a change of access could not be told; trying again", error=str(error))
            self._telling = asyncio.create_task(self._tell_later(policies=policies), name="telling of access changes")

    async def _publish(self, *, policies: bool) -> None:
        await self._redis.publish(CHANNEL, "policies" if policies else "principals")

    async def _tell_later(self, *, policies: bool) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with contextlib.suppress(redis.RedisError, OSError):
                await self._publish(policies=policies)
                return

    async def start(self) -> None:
        await self.load()
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._listen(ready), name="access changes")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), 5)

    async def stop(self) -> None:
        for task in (self._task, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _listen(self, ready: asyncio.Event) -> None:
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    async for message in channel.listen():
                        self._forget()
                        # also the client's own reconnection is told as a subscription: what was said before is missed
                        if message["type"] == "subscribe" or message["data"] in (b"policies", "policies"):
                            await self.load()
                        self._listening = True
                        ready.set()
            except (redis.RedisError, OSError, SQLAlchemyError) as error:
                log.warning("access changes are not heard; asking the database each time", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._listening = False
                self._forget()


def _tag(chosen: Language | None) -> str:
    """The tag of the language that somebody has chosen; empty where nobody has."""
    return "" if chosen is None else chosen.value


async def _departments(
    session: AsyncSession, account: StaffAccount, roles: Iterable[str]
) -> dict[Rows, tuple[int, ...]]:
    """The departments that each scope of departments means for a member of staff."""
    found: dict[Rows, tuple[int, ...]] = {}
    if account.department_id is not None:
        tree = select(Department.id).where(Department.id == account.department_id).cte("below", recursive=True)
        tree = tree.union(select(Department.id).join(tree, Department.parent_id == tree.c.id))
        found[Scope.DEPARTMENT] = (account.department_id,)
        found[Scope.DEPARTMENT_TREE] = tuple(await session.scalars(select(tree.c.id)))
    made = [int(role.removeprefix(TENANT_MADE)) for role in roles if role.startswith(TENANT_MADE)]
    if made:
        named = select(RoleDepartment.role_id, RoleDepartment.department_id).where(RoleDepartment.role_id.in_(made))
        for role, department in await session.execute(named):
            rows = named_by(f"{TENANT_MADE}{role}")
            found[rows] = (*found.get(rows, ()), department)
    return found
