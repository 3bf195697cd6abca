"""The two walls between tenants: sessions that add the caller's predicates, and row-level security behind them.

What SQLAlchemy's global criteria do not cover has a test each: it is refused by the first wall, or finds and changes
nothing because of the second. The second is tested alone as well, table by table, as PostgreSQL holds it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Table, delete, exists, func, insert, select, text, union, update
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, joinedload, selectinload

from authz.principal import Principal, system, visitor
from authz.session import Database, ScopedSession, ScopeError
from models.base import AppendOnly, Entrusted, Personal, Published
from models.catalog import DataPackage
from models.identity import StaffAccount
from models.security import ANCESTORS_SETTING, APPLICATION_ROLE, END_USER_SETTING, PATH_SETTING, mapped_tables
from models.sim import SimAllocation, SimCard
from models.tenancy import Tenant
from tests.conftest import Place
from tests.support.marks import mark_the_rest
from tests.support.world import CARDS_PER_TENANT, World

NORTH = {"north", "north-east", "coast"}
OWN_CARDS = CARDS_PER_TENANT * len(NORTH)
REFUSED = (ScopeError, DBAPIError, InvalidRequestError)
TABLES = {table.name: (mapper.class_, table) for mapper, table in mapped_tables()}
CARD = TABLES["sim_card"][1]


def north(world: World) -> Principal:
    tenant = world.tenants["north"]
    return system("test", tenant.path, tenant.id)


def database(world: World) -> Database:
    return world.client.application.runtime.database


async def cards(world: World) -> list[tuple[Any, ...]]:
    """All cards as they are stored, whoever holds them."""
    return [tuple(row) for row in await world.sql("SELECT * FROM sim_card ORDER BY id")]


# -- the first wall alone: a database that would show everything -----------------------------------------------------


@asynccontextmanager
async def without_the_second_wall(world: World) -> AsyncIterator[AsyncSession]:
    """A session of ``north`` on a connection that row-level security does not bind."""
    unbound = Database(world.superuser_url, pooled=False)
    try:
        async with unbound.transaction(north(world)) as session:
            yield session
    finally:
        await unbound.close()


COUNTED: dict[str, Callable[[], Any]] = {
    "entity": lambda: select(SimCard),
    "column": lambda: select(SimCard.id),
    "alias": lambda: select(aliased(SimCard)),
    "join": lambda: select(SimCard.id).join(SimCard.tenant),
    "explicit join": lambda: select(SimCard.id).join(SimAllocation, SimAllocation.sim_card_id == SimCard.id).distinct(),
    "subquery": lambda: select(select(SimCard.id).subquery().c.id),
    "common table expression": lambda: select(select(SimCard.id).cte().c.id),
    "in": lambda: select(SimCard.id).where(SimCard.id.in_(select(SimCard.id))),
    "union": lambda: union(select(SimCard.id), select(SimCard.id).where(SimCard.id > 0)),
    "from statement": lambda: select(SimCard.id).where(exists().where(SimAllocation.sim_card_id == SimCard.id)),
}


async def test_transactions_within_transactions_wait_for_none_outside(shared_world: World) -> None:
    """However many are as far, each can go on."""
    base = database(shared_world)

    async def nested() -> int:
        async with base.transaction(system("outer")) as outer:
            await outer.execute(select(1))
            async with base.transaction(system("inner")) as inner:
                found: int = (await inner.execute(select(1))).scalar_one()
                return found

    assert await asyncio.wait_for(asyncio.gather(*(nested() for _ in range(48))), 20) == [1] * 48


async def test_the_first_wall_narrows_every_select_of_the_orm(shared_world: World) -> None:
    assert len(await cards(shared_world)) == CARDS_PER_TENANT * len(shared_world.tenants)
    async with without_the_second_wall(shared_world) as session:
        for name, statement in COUNTED.items():
            found = (await session.execute(statement())).all()
            assert len(found) == OWN_CARDS, name
        assert await session.scalar(select(func.count()).select_from(SimCard)) == OWN_CARDS
        assert await session.scalar(select(func.count(SimCard.id))) == OWN_CARDS
        assert await session.get(SimCard, shared_world.cards["south"][0].id) is None
        assert {tenant.name for tenant in await session.scalars(select(Tenant))} == {
            f"Agency «{name}»" for name in NORTH
        }
        # what the first wall cannot see, and why there is a second
        assert len((await session.execute(select(CARD))).all()) == len(await cards(shared_world))


async def test_the_first_wall_narrows_updates_and_deletes(world: World) -> None:
    before = await cards(world)
    async with without_the_second_wall(world) as session:
        foreign = [card.id for name in ("south", "platform") for card in world.cards[name]]
        for statement in (
            update(SimCard).where(SimCard.id.in_(foreign)).values(remark="taken"),
            delete(SimCard).where(SimCard.id.in_(foreign)),
            delete(DataPackage),
            update(DataPackage).values(name="cheaper"),
        ):
            touched: Any = await session.execute(statement.execution_options(synchronize_session=False))
            assert touched.rowcount == 0
    assert await cards(world) == before


async def test_a_session_without_a_principal_refuses_to_work(shared_world: World) -> None:
    async with AsyncSession(database(shared_world).engine, sync_session_class=ScopedSession) as session:
        with pytest.raises(ScopeError):
            await session.execute(select(SimCard))
        session.add(_card(shared_world, "north"))
        with pytest.raises(ScopeError):
            await session.flush()


# -- the holes of global criteria ------------------------------------------------------------------------------------


def _card(world: World, tenant: str) -> SimCard:
    own, twin = world.tenants[tenant], world.cards["platform"][0]
    return SimCard(
        tenant_id=own.id, tenant_path=own.path, iccid="8986001234567890123", carrier=twin.carrier,
        sim_type=twin.sim_type, entry_mode=twin.entry_mode, status=twin.status, supplier_id=twin.supplier_id,
    )  # fmt: skip


def _values(world: World, tenant: str) -> dict[str, Any]:
    made = _card(world, tenant)
    return {name: value for name, value in vars(made).items() if not name.startswith("_")}


async def test_get_finds_what_is_in_the_identity_map_but_nothing_foreign_can_be_done_with_it(world: World) -> None:
    before = await cards(world)
    foreign = world.cards["south"][0]
    async with database(world).transaction(north(world)) as session:
        assert await session.get(SimCard, foreign.id) is None
        held = await session.merge(foreign, load=False)
        assert await session.get(SimCard, foreign.id) is held
        with pytest.raises(InvalidRequestError):
            await session.refresh(held)
    async with database(world).transaction(north(world)) as session:
        held = await session.merge(foreign, load=False)
        held.remark = "taken"
        with pytest.raises(ScopeError):
            await session.flush()
        await session.rollback()
    async with database(world).transaction(north(world)) as session:
        await session.delete(await session.merge(foreign, load=False))
        with pytest.raises(ScopeError):
            await session.flush()
        await session.rollback()
    assert await cards(world) == before


async def test_core_selects_and_text_find_own_rows_only(shared_world: World) -> None:
    async with database(shared_world).transaction(north(shared_world)) as session:
        paths = (await session.scalars(select(CARD.c.tenant_path))).all()
        assert len(paths) == OWN_CARDS
        assert set(paths) == {shared_world.tenants[name].path for name in NORTH}
        assert (await session.scalars(text("SELECT tenant_path FROM sim_card"))).all() == paths
        assert await session.scalar(text("SELECT count(*) FROM tenant")) == len(NORTH)


async def test_loaded_relations_find_own_rows_only(shared_world: World) -> None:
    """Relationship loads pass the first wall by; the tenant above stays out of sight all the same."""
    for loading in (selectinload, joinedload):
        async with database(shared_world).transaction(north(shared_world)) as session:
            allocations = (
                await session.scalars(select(SimAllocation).options(loading(SimAllocation.from_tenant)))
            ).all()
            names = {None if one.from_tenant is None else one.from_tenant.name for one in allocations}
            assert names == {None, "Agency «north»", "Agency «north-east»"}


Attempt = Callable[[AsyncSession, World], Awaitable[Any]]


async def _orm_insert(session: AsyncSession, world: World) -> None:
    session.add(_card(world, "south"))
    await session.flush()


async def _orm_insert_above(session: AsyncSession, world: World) -> None:
    session.add(_card(world, "platform"))
    await session.flush()


async def _orm_bulk_insert(session: AsyncSession, world: World) -> None:
    await session.execute(insert(SimCard), [_values(world, "south")])


async def _orm_bulk_insert_of_own(session: AsyncSession, world: World) -> None:
    await session.execute(insert(SimCard), [_values(world, "north")])


async def _orm_bulk_insert_values(session: AsyncSession, world: World) -> None:
    await session.execute(insert(SimCard).values(**_values(world, "south")))


async def _core_insert(session: AsyncSession, world: World) -> None:
    await session.execute(insert(CARD).values(**_values(world, "south")))


async def _legacy_bulk_insert(session: AsyncSession, world: World) -> None:
    await session.run_sync(lambda s: s.bulk_insert_mappings(SimCard.__mapper__, [_values(world, "south")]))


async def _legacy_bulk_save(session: AsyncSession, world: World) -> None:
    await session.run_sync(lambda s: s.bulk_save_objects([_card(world, "south")]))


def _owner(world: World, tenant: str) -> dict[str, Any]:
    return {"tenant_id": world.tenants[tenant].id, "tenant_path": world.tenants[tenant].path}


async def _move_by_bulk_update(session: AsyncSession, world: World) -> None:
    await session.execute(update(SimCard).values(**_owner(world, "south")))


async def _move_by_bulk_update_of_the_path(session: AsyncSession, world: World) -> None:
    await session.execute(update(SimCard).values({SimCard.tenant_path: world.tenants["south"].path}))


async def _move_by_ordered_values(session: AsyncSession, world: World) -> None:
    owner = world.tenants["south"]
    await session.execute(
        update(SimCard).ordered_values((SimCard.tenant_id, owner.id), (SimCard.tenant_path, owner.path))
    )


async def _move_by_bulk_update_by_key(session: AsyncSession, world: World) -> None:
    await session.execute(update(SimCard), [{"id": world.cards["north"][0].id, **_owner(world, "south")}])


async def _move_by_core_update(session: AsyncSession, world: World) -> None:
    await session.execute(update(CARD).values(**_owner(world, "south")))


async def _move_by_text(session: AsyncSession, world: World) -> None:
    await session.execute(
        text("UPDATE sim_card SET tenant_id = :tenant_id, tenant_path = :tenant_path"), _owner(world, "south")
    )


async def _move_by_flush(session: AsyncSession, world: World) -> None:
    card = await session.get(SimCard, world.cards["north"][0].id)
    assert card is not None
    card.tenant_id, card.tenant_path = world.tenants["south"].id, world.tenants["south"].path
    await session.flush()


async def _move_within_by_bulk_update(session: AsyncSession, world: World) -> None:
    await session.execute(update(SimCard).values(**_owner(world, "coast")))


FIRST_WALL: list[Attempt] = [
    _orm_insert,
    _orm_insert_above,
    _orm_bulk_insert,
    _orm_bulk_insert_of_own,
    _orm_bulk_insert_values,
    _move_by_bulk_update,
    _move_by_bulk_update_of_the_path,
    _move_by_core_update,
    _move_by_flush,
    _move_within_by_bulk_update,
]
SECOND_WALL: list[Attempt] = [
    _core_insert,
    _legacy_bulk_insert,
    _legacy_bulk_save,
    _move_by_ordered_values,
    _move_by_bulk_update_by_key,
    _move_by_text,
]


async def test_writes_that_leave_the_branch_are_refused(world: World) -> None:
    before = await cards(world)
    for refusals, attempts in (((ScopeError,), FIRST_WALL), (REFUSED, SECOND_WALL)):
        for attempt in attempts:
            with pytest.raises(refusals):
                async with database(world).transaction(north(world)) as session:
                    await attempt(session, world)
            assert await cards(world) == before, attempt.__name__


async def test_statements_past_the_first_wall_change_nothing_foreign(world: World) -> None:
    before = await cards(world)
    foreign = world.cards["south"][0].id
    async with database(world).transaction(north(world)) as session:
        for statement in (
            update(CARD).where(CARD.c.id == foreign).values(remark="taken"),
            delete(CARD).where(CARD.c.id == foreign),
            text(f"UPDATE sim_card SET remark = 'taken' WHERE id = {foreign}"),
            text(f"DELETE FROM sim_card WHERE id = {foreign}"),
            update(SimCard).where(SimCard.id == foreign).values(remark="taken"),
            delete(SimCard).where(SimCard.id == foreign),
            text("DELETE FROM data_package"),
            text("UPDATE data_package SET name = 'cheaper'"),
        ):
            touched: Any = await session.execute(statement)
            assert touched.rowcount == 0, str(statement)
    assert await cards(world) == before


async def test_a_visitor_reads_and_writes_nothing(world: World) -> None:
    async with database(world).transaction(visitor("agent")) as session:
        assert (await session.scalars(select(StaffAccount))).all() == []
        assert (await session.scalars(text("SELECT id FROM staff_account"))).all() == []
        assert (await session.scalars(text("SELECT id FROM tenant"))).all() == []
    with pytest.raises(ScopeError):
        async with database(world).transaction(visitor("agent")) as session:
            session.add(_card(world, "north"))


# -- the second wall, table by table ---------------------------------------------------------------------------------


@pytest.fixture
async def full(world: World) -> World:
    """Every table has rows of every tenant; the catalogue too, which only the platform publishes otherwise."""
    await mark_the_rest(world)
    for tenant in world.tenants.values():
        await world.sql(
            "INSERT INTO data_package (tenant_id, tenant_path, code, name, carrier, period_type, data_volume_mb, "
            "channel_price, sale_price, currency, supplier_id, status) SELECT $1, $2, 'own', name, carrier, "
            "period_type, data_volume_mb, channel_price, sale_price, currency, supplier_id, status "
            "FROM data_package WHERE code = 'CM-M-1G'",
            tenant.id,
            tenant.path,
        )
    return world


@asynccontextmanager
async def application(place: Place, settings: Mapping[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of the application's own role, with these settings and nothing of ours in between."""
    connection = await asyncpg.connect(place.settings.database_url, ssl=False)
    try:
        transaction = connection.transaction()
        await transaction.start()
        for name, value in settings.items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


def context(world: World, tenant: str) -> dict[str, str]:
    path, ancestors, end_user = system("test", world.tenants[tenant].path).row_context
    return {PATH_SETTING: path, ANCESTORS_SETTING: ancestors, END_USER_SETTING: end_user}


def path_column(name: str) -> str:
    return "path" if name == "tenant" else "tenant_path"


async def test_a_tenant_reads_its_branch_of_every_table(full: World, place: Place) -> None:
    above = full.tenants["platform"].path
    async with application(place, context(full, "north")) as connection:
        for name, (model, _) in TABLES.items():
            column = path_column(name)
            stored = {row[0] for row in await full.sql(f"SELECT DISTINCT {column} FROM {name}")}
            assert {tenant.path for tenant in full.tenants.values()} <= stored | {above}, f"{name} has too few rows"
            expected = {full.tenants[tenant].path for tenant in NORTH} | (
                {above} if issubclass(model, Published) else set()
            )
            if issubclass(model, Entrusted):
                expected = set()
            seen = {row[0] for row in await connection.fetch(f"SELECT {column} FROM {name}")}
            assert seen == expected & stored, name
            counted = await full.sql(f"SELECT count(*) FROM {name} WHERE {column} = ANY($1)", sorted(expected))
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") == counted[0][0], name


async def _attempt(connection: asyncpg.Connection, statement: str, *arguments: Any) -> str:
    """What PostgreSQL answers, ``UPDATE 0`` or the name of its refusal, and nothing stays of it."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        return str(await connection.execute(statement, *arguments))
    except asyncpg.PostgresError as error:
        return type(error).__name__
    finally:
        await savepoint.rollback()


DENIED = "InsufficientPrivilegeError"


async def test_a_tenant_writes_nothing_foreign_in_any_table(full: World, place: Place) -> None:
    south = full.tenants["south"]
    async with application(place, context(full, "north")) as connection:
        for name, (model, table) in TABLES.items():
            kept = issubclass(model, AppendOnly)
            for owner in ("south", "platform"):
                foreign = await _row(full, table, owner)
                assert await _attempt(connection, _copy(table), json.dumps(foreign)) == DENIED, name
                changed = await _attempt(connection, f"UPDATE {name} SET id = id WHERE id = $1", foreign["id"])
                assert changed == (DENIED if kept else "UPDATE 0"), (name, owner)
                removed = await _attempt(connection, f"DELETE FROM {name} WHERE id = $1", foreign["id"])
                assert removed == (DENIED if kept else "DELETE 0"), (name, owner)
            own = await _row(full, table, "north")
            moved = "path = $1" if name == "tenant" else f"tenant_path = $1, tenant_id = {south.id}"
            path = f"{south.path}00ZZ." if name == "tenant" else south.path
            path = path.replace("ZZ", "0V")
            answer = await _attempt(connection, f"UPDATE {name} SET {moved} WHERE id = {own['id']}", path)
            assert answer == ("UPDATE 0" if issubclass(model, Entrusted) else DENIED), name
            if not kept and not issubclass(model, Entrusted):
                touched = await _attempt(connection, f"UPDATE {name} SET {path_column(name)} = {path_column(name)}")
                assert touched != "UPDATE 0", name
                assert touched.startswith("UPDATE "), name


async def test_history_is_never_changed_or_removed(full: World, place: Place) -> None:
    """Not even by the platform, which reaches every row."""
    histories = {name for name, (model, _) in TABLES.items() if issubclass(model, AppendOnly)}
    assert histories == {
        "agreement", "agreement_consent", "behaviour_event", "carrier_request", "commission_entry",
        "commission_settlement", "contract", "coupon", "coupon_application", "daily_statistic", "daily_usage",
        "deposit_movement", "direct_order", "exchange_rate", "first_session", "interval_statistic", "item_order_line",
        "ledger_account", "ledger_entry", "ledger_transfer", "login_record", "membership_grant",
        "monthly_bill", "monthly_statistic", "monthly_usage", "operation_record", "order_component",
        "order_level_price", "order_line", "payment", "payment_difference", "payment_refund", "real_name_record",
        "sales_order", "session_record", "sim_status_change", "task_refusal", "top_up", "webhook_attempt", "withdrawal",
    }  # fmt: skip
    async with application(place, context(full, "platform")) as connection:
        for name in histories:
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") >= len(full.tenants)
            assert await _attempt(connection, f"UPDATE {name} SET id = id") == DENIED, name
            assert await _attempt(connection, f"DELETE FROM {name}") == DENIED, name
        for name in TABLES:
            assert await _attempt(connection, f"TRUNCATE {name}") == DENIED, name


async def _row(world: World, table: Table, tenant: str) -> dict[str, Any]:
    column = "id" if table.name == "tenant" else "tenant_id"
    found = await world.sql(
        f"SELECT to_jsonb(t)::text FROM {table.name} t WHERE {column} = $1 LIMIT 1", world.tenants[tenant].id
    )
    if not found:
        # the platform holds no allocations: any row of another branch will do
        found = await world.sql(
            f"SELECT to_jsonb(t)::text FROM {table.name} t WHERE {column} = $1 LIMIT 1", world.tenants["south"].id
        )
    row: dict[str, Any] = json.loads(found[0][0])
    return row


def _copy(table: Table) -> str:
    columns = ", ".join(c.name for c in table.columns if c.computed is None and c.name != "id")
    return (
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} "
        f"FROM jsonb_populate_record(NULL::{table.name}, $1::jsonb)"
    )


async def _visible(connection: asyncpg.Connection) -> dict[str, int]:
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in TABLES}


async def test_without_a_context_nothing_is_visible(full: World, place: Place) -> None:
    nothing = dict.fromkeys(TABLES, 0)
    connection = await asyncpg.connect(place.settings.database_url, ssl=False)
    try:
        assert await _visible(connection) == nothing
        async with connection.transaction():
            for name, value in context(full, "north").items():
                await connection.execute("SELECT set_config($1, $2, true)", name, value)
            seen = await _visible(connection)
            assert {name for name, rows in seen.items() if not rows} == {"outbox_event"}
        # a setting that was local to a transaction is the empty text afterwards, not null
        assert await connection.fetchval(f"SELECT current_setting('{PATH_SETTING}', true)") == ""
        assert await _visible(connection) == nothing
        for name in context(full, "north"):
            await connection.execute("SELECT set_config($1, '', false)", name)
        assert await _visible(connection) == nothing
        for name in context(full, "north"):
            await connection.execute(f"RESET {name}")
        assert await _visible(connection) == nothing
        assert (
            await _attempt(
                connection,
                _copy(TABLES["department"][1]),
                json.dumps(await _row(full, TABLES["department"][1], "north")),
            )
            == DENIED
        )
    finally:
        await connection.close()


async def test_an_end_user_reaches_personal_rows_alone(full: World, place: Place) -> None:
    person = full.end_users["north"].id
    settings = {PATH_SETTING: "", ANCESTORS_SETTING: "", END_USER_SETTING: str(person)}
    async with application(place, settings) as connection:
        seen = {name: count for name, count in (await _visible(connection)).items() if count}
        assert seen == dict.fromkeys(
            (
                "agreement_consent", "daily_usage", "end_user", "monthly_usage", "payment", "payment_refund",
                "real_name_record", "sales_order", "sim_card", "sim_end_user_binding",
            ),
            1,
        )  # fmt: skip
        assert await connection.fetchval("SELECT end_user_id FROM sim_card") == person
        assert await connection.fetchval("SELECT id FROM end_user") == person


async def test_an_end_user_gives_no_row_away(full: World, place: Place) -> None:
    """Neither to another tenant nor to another person, in any table whose rows an end user may change."""
    person, other = full.end_users["north"], full.end_users["south"]
    south = full.tenants["south"]
    await full.sql(
        "INSERT INTO login_session (tenant_id, tenant_path, key, end_user_id, door, refresh_hash, expires_at) "
        "VALUES ($1, $2, gen_random_uuid(), $3, 'wechat', '', now() + interval '1 day')",
        person.tenant_id,
        person.tenant_path,
        person.id,
    )
    changeable = {
        name: "id" if name == "end_user" else "end_user_id"
        for name, (model, _) in TABLES.items()
        if (issubclass(model, Personal) and not issubclass(model, AppendOnly)) or name == "end_user"
    }
    assert set(changeable) == {
        "end_user", "idempotent_result", "login_session", "notification", "sim_card", "sim_end_user_binding",
    }  # fmt: skip
    for name in ("idempotent_result", "notification"):
        one = f"SELECT min(id) FROM {name} WHERE tenant_id = $2"
        await full.sql(f"UPDATE {name} SET end_user_id = $1 WHERE id = ({one})", person.id, person.tenant_id)
    before = {name: await full.sql(f"SELECT * FROM {name} ORDER BY id") for name in changeable}
    settings = {PATH_SETTING: "", ANCESTORS_SETTING: "", END_USER_SETTING: str(person.id)}
    async with application(place, settings) as connection:
        for name, column in changeable.items():
            assert await _attempt(connection, f"UPDATE {name} SET {column} = {column}") == "UPDATE 1", name
            for change in (
                f"tenant_id = {south.id}, tenant_path = '{south.path}'",
                f"tenant_id = {south.id}",
                f"tenant_path = '{south.path}'",
                f"{column} = {other.id if column != 'id' else 999_999}",
                f"{column} = NULL",
            ):
                assert await _attempt(connection, f"UPDATE {name} SET {change}") == DENIED, (name, change)
            foreign = await _attempt(
                connection, f"UPDATE {name} SET {column} = {person.id} WHERE {column} = {other.id}"
            )
            assert foreign == "UPDATE 0", name
    for name, rows in before.items():
        assert await full.sql(f"SELECT * FROM {name} ORDER BY id") == rows
    # who holds the tenant may still move its rows within its branch
    async with application(place, context(full, "north")) as connection:
        coast = full.tenants["coast"]
        moved = (
            f"UPDATE sim_card SET tenant_id = {coast.id}, tenant_path = '{coast.path}' WHERE end_user_id = {person.id}"
        )
        assert await _attempt(connection, moved) == "UPDATE 1"


# -- how the wall is built -------------------------------------------------------------------------------------------


async def test_every_table_stands_behind_the_wall(shared_world: World) -> None:
    rows = await shared_world.sql(
        "SELECT relname, relrowsecurity FROM pg_class WHERE relkind IN ('r', 'p') "
        "AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
    )
    assert {row["relname"]: row["relrowsecurity"] for row in rows} == dict.fromkeys(TABLES, True)


async def test_the_application_role_owns_nothing_and_passes_no_wall(shared_world: World) -> None:
    (role,) = await shared_world.sql(
        "SELECT oid, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles "
        "WHERE rolname = $1",
        APPLICATION_ROLE,
    )
    assert not any((role["rolsuper"], role["rolbypassrls"], role["rolcreaterole"], role["rolcreatedb"]))
    assert not role["rolreplication"]
    owned = await shared_world.sql(
        "SELECT classid::regclass, objid FROM pg_shdepend WHERE refobjid = $1 AND deptype = 'o'", role["oid"]
    )
    assert owned == []
    member_of = await shared_world.sql(
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = $1", role["oid"]
    )
    assert member_of == []
    rights = await shared_world.sql(
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) AS rights "
        "FROM information_schema.role_table_grants WHERE grantee = $1 GROUP BY table_name",
        APPLICATION_ROLE,
    )
    assert {row["table_name"]: row["rights"] for row in rights} == {
        name: "INSERT SELECT" if issubclass(model, AppendOnly) else "DELETE INSERT SELECT UPDATE"
        for name, (model, _) in TABLES.items()
    }
