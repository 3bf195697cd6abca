"""Content kept by its sha256, in a folder or in a bucket of an S3-compatible store, and short-lived links to files.

An upload is written to the folder first: its name is not known before its last byte, and nothing reaches the store
that has not been judged. Equal content is stored once, whoever sends it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from obstore.store import LocalStore, S3Store

from services.keys import Keys

CHUNK = 1 << 20
LINK_SECONDS = 600
PASSING = "passing-"
"""How files begin that lie in the folder only for as long as they are sent or read."""
PAGE = 1_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TooLargeError(Exception):
    """An upload exceeded its limit; nothing of it was kept."""


class Readable(Protocol):
    """An upload as a server hands it over."""

    async def seek(self, offset: int) -> None: ...

    async def read(self, size: int) -> bytes: ...


@dataclass(frozen=True)
class Stored:
    """Content by its digests. Of MD5 nothing is expected but that other systems name files by it."""

    sha256: str
    size: int
    md5: str


@dataclass(frozen=True)
class Incoming:
    """Content that has arrived whole and is not in the store yet."""

    path: Path
    stored: Stored


@dataclass(frozen=True)
class Content:
    size: int
    pieces: AsyncIterator[bytes]


async def pieces_of(upload: Readable) -> AsyncIterator[bytes]:
    """An upload from its beginning, also where an earlier attempt has read it already."""
    await upload.seek(0)
    while piece := await upload.read(CHUNK):
        yield piece


class FileStore:
    """Files named by the sha256 of their content, in ``folder`` or, where there is one, in ``bucket``."""

    def __init__(self, folder: Path, keys: Keys, bucket: S3Store | None = None) -> None:
        self.folder = folder
        self._key = keys.derive("file links")
        self._bucket = bucket
        self._objects = LocalStore(folder, mkdir=True) if bucket is None else bucket

    # -- taking in ----------------------------------------------------------------------------------------

    async def keep(self, chunks: AsyncIterator[bytes], limit: int) -> Stored:
        """Takes in an upload as it is; raises TooLargeError beyond ``limit`` bytes."""
        async with self.received(chunks, limit) as incoming:
            return await self.place(incoming)

    @asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[Incoming]:
        """An upload on disk, to be judged and then placed; gone at the end unless it was."""
        path = self._passing()
        try:
            digests, size = _Digests(), 0
            with path.open("wb") as out:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLargeError
                    digests.update(chunk)
                    out.write(chunk)
            yield Incoming(path, digests.of(size))
        finally:
            path.unlink(missing_ok=True)

    async def place(self, incoming: Incoming) -> Stored:
        """Puts content into the store, anew where it is there already: it then counts as just used."""
        if self._bucket is None:
            self._move(incoming.path, incoming.stored.sha256)
        else:
            await self._bucket.put_async(_key_of(incoming.stored.sha256), incoming.path)
        return incoming.stored

    def keep_file(self, made: Path) -> Stored:
        """Moves a file that the system itself has made into the store. It waits until that is done: for workers."""
        digests = _Digests()
        with made.open("rb") as source:
            while chunk := source.read(CHUNK):
                digests.update(chunk)
        stored = digests.of(made.stat().st_size)
        if self._bucket is None:
            self._move(made, stored.sha256)
        else:
            self._bucket.put(_key_of(stored.sha256), made)
            made.unlink()
        return stored

    def _move(self, made: Path, sha256: str) -> None:
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)

    def _passing(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PASSING, dir=self.folder)
        os.close(handle)
        return Path(name)

    # -- giving out ---------------------------------------------------------------------------------------

    def path(self, sha256: str) -> Path:
        """Where content lies in the folder. A bucket has no paths: see ``local``."""
        if self._bucket is not None:
            raise RuntimeError("content in a bucket has no path")
        return self.folder / _key_of(sha256)

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        """A path at which content can be read for as long as the context lasts; FileNotFoundError without it."""
        if self._bucket is None:
            yield self.path(sha256)
            return
        path = self._passing()
        try:
            found = await self._bucket.get_async(_key_of(sha256))
            with path.open("wb") as out:
                async for piece in found.stream(CHUNK):
                    out.write(piece)
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def content(self, sha256: str) -> Content | None:
        """Content as a stream; None where the store has it not."""
        try:
            found = await self._objects.get_async(_key_of(sha256))
        except FileNotFoundError:
            return None
        return Content(found.meta["size"], found.stream(CHUNK))

    async def placed_at(self, sha256: str) -> datetime | None:
        """When content was last put into the store; None where the store has it not."""
        try:
            found = await self._objects.head_async(_key_of(sha256))
        except FileNotFoundError:
            return None
        return found["last_modified"]

    # -- clearing -----------------------------------------------------------------------------------------

    async def placed_before(self, before: datetime) -> AsyncIterator[list[str]]:
        """All content that was put into the store before a time, in pages."""
        async for page in self._objects.list(chunk_size=PAGE):
            names = [one["path"].rpartition("/")[2] for one in page if one["last_modified"] < before]
            yield [name for name in names if _SHA256.fullmatch(name)]

    async def remove(self, sha256: str) -> None:
        await self._objects.delete_async(_key_of(sha256))

    def remove_passing(self, before: datetime) -> int:
        """Removes what processes that died have left on its way; tells how many files that were."""
        left = [path for path in self.folder.glob(f"{PASSING}*") if path.stat().st_mtime < before.timestamp()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    # -- links --------------------------------------------------------------------------------------------

    def sign(self, file_id: int, now: float | None = None) -> str:
        """The query of a link to a file, valid for ten minutes."""
        expires = int((now or time.time()) + LINK_SECONDS)
        return f"expires={expires}&signature={self._signature(file_id, expires)}"

    def verify(self, file_id: int, expires: int, signature: str) -> bool:
        return expires > time.time() and hmac.compare_digest(self._signature(file_id, expires), signature)

    def _signature(self, file_id: int, expires: int) -> str:
        return hmac.new(self._key, f"{file_id}:{expires}".encode(), hashlib.sha256).hexdigest()


class _Digests:
    """Both digests of content that is read once."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._md5.update(chunk)

    def of(self, size: int) -> Stored:
        return Stored(self._sha256.hexdigest(), size, self._md5.hexdigest())


def _key_of(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
