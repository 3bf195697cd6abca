"""Files kept by content, and short-lived links to them."""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from services.keys import Keys

CHUNK = 1 << 20
LINK_SECONDS = 600


class TooLargeError(Exception):
    """An upload exceeded its limit; nothing of it was kept."""


@dataclass(frozen=True)
class Stored:
    sha256: str
    size: int


class FileStore:
    """A folder of files named by the sha256 of their content."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self._key = keys.derive("file links")

    def path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    async def keep(self, chunks: AsyncIterator[bytes], limit: int) -> Stored:
        """Streams an upload to disk; raises TooLargeError beyond ``limit`` bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as out:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLargeError
                    digest.update(chunk)
                    out.write(chunk)
            return self._place(Path(name), digest.hexdigest(), size)
        except BaseException:
            os.unlink(name)
            raise

    def keep_file(self, made: Path) -> Stored:
        """Moves a file that the system itself has made into the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with made.open("rb") as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
        return self._place(made, digest.hexdigest(), made.stat().st_size)

    def _place(self, made: Path, sha256: str, size: int) -> Stored:
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        made.replace(target)
        return Stored(sha256, size)

    def sign(self, file_id: int, now: float | None = None) -> str:
        """The query of a link to a file, valid for ten minutes."""
        expires = int((now or time.time()) + LINK_SECONDS)
        return f"expires={expires}&signature={self._signature(file_id, expires)}"

    def verify(self, file_id: int, expires: int, signature: str) -> bool:
        return expires > time.time() and hmac.compare_digest(self._signature(file_id, expires), signature)

    def _signature(self, file_id: int, expires: int) -> str:
        return hmac.new(self._key, f"{file_id}:{expires}".encode(), hashlib.sha256).hexdigest()
