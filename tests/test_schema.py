"""What is committed is what is: the SDL, the migrations, the messages."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from models.base import Base
from models.security import statements
from models.tenancy import Language
from planner.mapping import registry
from server.app import the_graph
from server.developer import SDL
from server.settings import PROJECT
from services.messages import CODES, MESSAGES
from tests.conftest import Place

GRAPH_REFUSAL = re.compile(
    r"(?:bad_input|bad_request|unauthenticated|(?:GraphRefusal|FieldFailure)\(\s*\"[A-Z_]+\",)[\s(]*\"([^\"]+)\""
)
"""What is said of a refusal of the graph."""


def test_the_committed_sdl_is_the_schema() -> None:
    """Regenerate with ``trellis schema --write``; a change to the graph shows in the diff."""
    assert SDL.read_text("utf-8") == the_graph().sdl()


async def test_the_migrations_make_the_tables_of_the_models(place: Place) -> None:
    engine = create_async_engine(
        place.owner_url.replace("postgresql://", "postgresql+asyncpg://"), connect_args={"ssl": False}
    )
    async with engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    await engine.dispose()
    assert found == []


async def test_the_migrations_raise_the_wall_that_the_models_declare(place: Place) -> None:
    asked = """SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"""
    rights = """SELECT table_name, privilege_type FROM information_schema.role_table_grants
                WHERE grantee = 'trellis_app' AND table_schema = 'public' ORDER BY 1, 2"""
    columns = """SELECT table_name, column_name FROM information_schema.role_column_grants
                 WHERE grantee = 'trellis_app' AND privilege_type = 'UPDATE' ORDER BY 1, 2"""
    kept = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    connection = await asyncpg.connect(place.owner_url, ssl=False)
    migrated = [await connection.fetch(question) for question in (asked, rights, columns, kept)]
    for statement in statements():
        await connection.execute(statement)
    declared = [await connection.fetch(question) for question in (asked, rights, columns, kept)]
    await connection.close()
    assert migrated == declared


def test_every_refusal_has_a_message_in_every_language() -> None:
    folders = ("services", "resolvers", "server", "planner")
    sources = [p.read_text("utf-8") for folder in folders for p in sorted((PROJECT / folder).rglob("*.py"))]
    codes = {code for source in sources for code in re.findall(r'(?<![a-zA-Z])Refusal\(\s*"([A-Z_]+)"', source)}
    raised = {code for source in sources for code in re.findall(r'SpreadsheetError\(\s*"([A-Z_]+)"', source)}
    assert len(codes) > 20
    assert codes | raised <= CODES
    said = {code for source in sources for code in re.findall(GRAPH_REFUSAL, source)}
    assert len(said) > 35
    assert said - {"PersistedQueryNotFound"} <= CODES
    assert set(MESSAGES) == {language.value for language in Language}
    placeholders = {
        tag: {code: sorted(name for _, name, _, _ in Formatter().parse(text) if name) for code, text in texts.items()}
        for tag, texts in MESSAGES.items()
    }
    assert placeholders["zh-CN"] == placeholders["en"]
    assert placeholders["zh-TW"] == placeholders["en"]
    assert all(text.strip() for texts in MESSAGES.values() for text in texts.values())
    # traditional characters, and Taiwan's words: documents are 文件 there, and 數據 is 資料
    told = "".join(MESSAGES["zh-TW"].values())
    assert [
        word for word in ("账", "号", "码", "网", "软件", "信息", "短信", "數據", "網絡", "默認") if word in told
    ] == []


def test_every_declared_filter_and_sort_can_be_searched() -> None:
    """What can be filtered or sorted by in a list of mass data begins an index."""
    card = registry.entities["SimCard"]
    table = card.table
    indexed = {tuple(c.name for c in index.columns) for index in table.indexes}
    leading = {columns[0] for columns in indexed} | {
        next(iter(constraint.columns)).name for constraint in table.constraints if len(constraint.columns)
    }
    sorts = {name for name in card.sorts if (name, "id") not in indexed}
    assert sorts == set()
    searchable = {"id", "iccid", "display_iccid", "imsi", "msisdn", "package_id", "supplier_id", "activated_at"}
    assert searchable <= leading


def test_the_project_names_no_place_outside_itself() -> None:
    paths = [p for p in Path(PROJECT).rglob("*.md") if ".venv" not in p.parts]
    assert paths
    for path in paths:
        assert "/wo" + "rk/" not in path.read_text("utf-8"), path
