"""Files: what a tenant has, sending one, removing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import strawberry
from sqlalchemy import Select, select

import models.system as stored
from planner.ids import encode_id
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, key_of
from schema.files import StoredFile, StoredFilePayload, UploadFileInput
from schema.identity import DonePayload
from services.files import keeping
from services.refusal import Refusal


@query(Connection[StoredFile])
def stored_files() -> Select[stored.StoredFile]:
    """Files within reach; by their MD5 those whose content need not be sent again."""
    return select(stored.StoredFile)


@query(StoredFile, by=("id",))
def stored_file() -> Select[stored.StoredFile]:
    """One file."""
    return select(stored.StoredFile)


@loads(StoredFile, "url")
async def urls(ctx: Context, rows: Sequence[Any]) -> list[str]:
    files = ctx.runtime.files
    return [f"/files/{encode_id('fil', row.id)}?{files.sign(row.id)}" for row in rows]


@mutation
async def upload_file(ctx: Context, input: UploadFileInput) -> StoredFilePayload:
    """Keeps a file for a purpose. Its content decides what it is; name and declared type must agree with it."""
    file: Any = input.file
    if not hasattr(file, "read"):
        raise Refusal("FILE_REQUIRED", "file")
    made = await keeping.upload(ctx.now, file, input.purpose)
    return StoredFilePayload(stored_file=refer(made.id), errors=[])


@mutation
async def delete_stored_file(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a file that nothing refers to; links to it end at once."""
    await keeping.delete(ctx.now, key_of(id, "fil", "id"))
    return DonePayload(done=True, errors=[])
