"""Whose a file is: rows beside the content, which are a tenant's own while content is shared.

Content without rows is removed by a job. It holds the content's lock while it looks and removes; who writes a row
holds it from before the row until the commit, and looks whether the content is still there.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError

from authz.principal import system
from authz.session import Database
from models.system import FilePurpose, StoredFile
from services.files import FileStore, Stored, TooLargeError, pieces_of
from services.files.judging import ACCEPTED, FIELD, judged, name_of
from services.files.store import Readable
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work

CONTENT_LOCK = 0x46494C45


class Upload(Readable, Protocol):
    """A file as somebody sends it: with a name and a type, both of which are claims."""

    filename: str | None
    content_type: str | None


def _lock_number(sha256: str) -> int:
    return int.from_bytes(bytes.fromhex(sha256[:8]), "big", signed=True)


def held(sha256: str) -> Select[Any]:
    """Waits for the lock of content, and keeps it to the end of the transaction."""
    return select(func.pg_advisory_xact_lock(CONTENT_LOCK, _lock_number(sha256)))


async def record(work: Work, stored: Stored, name: str, content_type: str, purpose: FilePurpose) -> StoredFile:
    """A row of the caller's tenant for content that has just been put into the store."""
    tenant = await tenant_for(work, None)
    await work.session.execute(held(stored.sha256))
    if await work.runtime.files.placed_at(stored.sha256) is None:
        raise Refusal("INTERRUPTED", FIELD)
    made = StoredFile(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        sha256=stored.sha256,
        md5=stored.md5,
        name=name,
        content_type=content_type,
        size=stored.size,
        purpose=purpose,
        account_id=work.principal.account_id,
    )
    work.session.add(made)
    await work.session.flush()
    return made


async def upload(work: Work, file: Upload, purpose: FilePurpose) -> StoredFile:
    """Takes in a file for a purpose. FILE_TOO_LARGE, EMPTY_FILE, or what ``judged`` says; then nothing is kept."""
    files, limit = work.runtime.files, ACCEPTED[purpose].max_bytes
    name = name_of(file.filename)
    try:
        async with files.received(pieces_of(file), limit) as incoming:
            if incoming.stored.size == 0:
                raise Refusal("EMPTY_FILE", FIELD)
            found = await asyncio.to_thread(judged, incoming.path, purpose, name, file.content_type)
            return await record(work, await files.place(incoming), name, found.content_type, purpose)
    except TooLargeError:
        raise Refusal("FILE_TOO_LARGE", FIELD, limit=limit) from None


async def delete(work: Work, key: int) -> None:
    """Removes a file of the caller's own tenant; IN_USE while anything refers to it. Its content is left to the job:
    somebody else may have the same."""
    found = await work.held(StoredFile, key, StoredFile.tenant_id == work.principal.tenant_id)
    await work.session.delete(found)
    try:
        await work.session.flush()
    except IntegrityError:
        await work.session.rollback()
        raise Refusal("IN_USE", "id") from None


async def sweep(database: Database, files: FileStore, before: datetime) -> int:
    """Removes content that no row of any tenant names and that was put into the store before a time; tells how much."""
    removed = files.remove_passing(before)
    async for page in files.placed_before(before):
        async with database.transaction(system("sweep files")) as session:
            known = set(await session.scalars(select(StoredFile.sha256).where(StoredFile.sha256.in_(page))))
        for sha256 in page:
            if sha256 not in known and await _removed(database, files, sha256, before):
                removed += 1
    return removed


async def _removed(database: Database, files: FileStore, sha256: str, before: datetime) -> bool:
    async with database.transaction(system("sweep files")) as session:
        await session.execute(held(sha256))
        if await session.scalar(select(StoredFile.id).where(StoredFile.sha256 == sha256).limit(1)) is not None:
            return False
        placed_at = await files.placed_at(sha256)
        if placed_at is None or placed_at >= before:
            return False
        await files.remove(sha256)
        return True
