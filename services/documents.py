"""Documents that people open: a title, some facts and a table, as a workbook or as a page of PDF.

The PDF names a Chinese font that every reader knows and carries none, so that it stays small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from models.system import StoredFile
from models.tenancy import Tenant
from services.files import FileStore
from services.spreadsheets import CONTENT_TYPES, write_rows

FONT = "STSong-Light"
PDF = "application/pdf"
MARGIN = 18 * mm


@dataclass(frozen=True)
class Document:
    """What stands on it. Every cell is text; amounts are written as they are to be read."""

    title: str
    facts: Sequence[tuple[str, str]]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def keep(files: FileStore, owner: Tenant, document: Document, name: str) -> tuple[StoredFile, StoredFile]:
    """The document as a workbook and as a PDF, kept as the owner's files. It waits until that is done: for workers."""
    files.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=files.folder) as folder:
        workbook, page = Path(folder) / f"{name}.xlsx", Path(folder) / f"{name}.pdf"
        table = [[document.title], *([label, value] for label, value in document.facts), []]
        write_rows(workbook, "xlsx", list(document.headings), [*(list(row) for row in document.rows), [], *table])
        _write_pdf(page, document)
        return (
            _kept(files, owner, workbook, CONTENT_TYPES["xlsx"]),
            _kept(files, owner, page, PDF),
        )


def _kept(files: FileStore, owner: Tenant, path: Path, content_type: str) -> StoredFile:
    name = path.name
    stored = files.keep_file(path)
    return StoredFile(
        tenant_id=owner.id,
        tenant_path=owner.path,
        sha256=stored.sha256,
        md5=stored.md5,
        name=name,
        content_type=content_type,
        size=stored.size,
    )


def _write_pdf(path: Path, document: Document) -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    title = ParagraphStyle("title", fontName=FONT, fontSize=16, leading=22, spaceAfter=4 * mm, wordWrap="CJK")
    plain = ParagraphStyle("plain", fontName=FONT, fontSize=9, leading=13, wordWrap="CJK")
    parts: list[Flowable] = [Paragraph(escape(document.title), title)]
    parts += [Paragraph(f"{escape(label)}: {escape(value)}", plain) for label, value in document.facts]
    parts.append(Spacer(1, 5 * mm))
    cells = [[Paragraph(escape(cell), plain) for cell in row] for row in (document.headings, *document.rows)]
    width = (A4[0] - 2 * MARGIN) / len(document.headings)
    table = Table(cells, colWidths=[width] * len(document.headings), repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
                ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    parts.append(table)
    page = SimpleDocTemplate(
        str(path), pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, title=document.title, invariant=True
    )
    page.build(parts)
