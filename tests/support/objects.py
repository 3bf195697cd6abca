"""A bucket of an S3-compatible store, over real HTTP, and files of all sorts to put into it."""

from __future__ import annotations

import io
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from services.files import FileSettings


@contextmanager
def bucket() -> Iterator[FileSettings]:
    """How to reach a new and empty bucket, in a folder of it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        name = f"files-{uuid.uuid4().hex}"
        httpx.put(f"http://{host}:{port}/{name}").raise_for_status()
        yield FileSettings(
            url=f"s3://{name}/trellis",
            endpoint=f"http://{host}:{port}",
            access_key_id="tester",
            secret_access_key=SecretStr("the tester's secret"),
        )
    finally:
        server.stop()


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(comment: bytes = b"") -> bytes:
    """One black pixel, and whatever else is to stand in it."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = _chunk(b"tEXt", b"Comment\x00" + comment) if comment else b""
    return b"\x89PNG\r\n\x1a\n" + header + text + _chunk(b"IDAT", zlib.compress(b"\x00\x00")) + _chunk(b"IEND")


def package(parts: Mapping[str, bytes]) -> bytes:
    """A zip of these parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return made.getvalue()


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9"
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"
TYPES = b'<?xml version="1.0"?><Types/>'
XLSX = package({"[Content_Types].xml": TYPES, "xl/workbook.xml": b"<workbook/>"})
DOCX = package({"[Content_Types].xml": TYPES, "word/document.xml": b"<document/>"})
CSV = "ICCID,运营商\n1,移动\n".encode()
