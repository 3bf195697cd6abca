"""Files: content by its sha256 in a folder or a bucket, what an upload may be, and who keeps which."""

from services.files.settings import FileSettings, open_store
from services.files.store import (
    CHUNK,
    Content,
    FileStore,
    Incoming,
    Stored,
    TooLargeError,
    pieces_of,
)

__all__ = [
    "CHUNK",
    "Content",
    "FileSettings",
    "FileStore",
    "Incoming",
    "Stored",
    "TooLargeError",
    "open_store",
    "pieces_of",
]
