"""Files in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from strawberry.file_uploads import Upload

import models.system as stored
from models.system import FilePurpose
from planner.mapping import Node, column, entity, enum_type, input_type, live, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount

enum_type(FilePurpose, "What a file is for, which decides of what types and how large it may be.")


@entity(
    stored.StoredFile,
    prefix="fil",
    filters=("name", "md5", "content_type", "purpose", "created_at"),
    sorts=("name", "size", "created_at"),
)
class StoredFile(Node):
    """A file of a tenant: sent by its staff, or made by the system."""

    name: str
    content_type: str
    size: int = column("In bytes.")
    purpose: FilePurpose
    sha256: str = column("Of the content, in hexadecimal.")
    md5: str | None = column("Of the content, in hexadecimal: what other systems name it by.")
    created_at: datetime
    account: StaffAccount | None = to_one("Who sent it; null where the system made it.")
    url: str = live("A link to the content, valid for ten minutes.", needs=())


@input_type
class UploadFileInput:
    """A file, sent by the GraphQL multipart request, and what it is for.

    SPREADSHEET: xlsx or csv, at most 20 MiB. IMAGE: png, jpg, gif or webp, at most 10 MiB. DOCUMENT: pdf or docx, at
    most 20 MiB.
    """

    file: Upload
    purpose: FilePurpose


@value
class StoredFilePayload:
    """The file as it is kept, or why it was refused."""

    stored_file: StoredFile | None
    errors: list[UserError]
