"""XML of an uploaded workbook, parsed as a stream that nothing in it can make grow."""

import re
from collections.abc import Iterator
from typing import IO, Final
from xml.parsers import expat

from services.spreadsheets.errors import SpreadsheetError

CHUNK_BYTES: Final = 1 << 16
# expat keeps an unfinished tag, every name it ever met, and every open element.
MAX_TAG_BYTES: Final = 1 << 20
MAX_NAMES: Final = 4_000
MAX_DEPTH: Final = 64
# Excel's escape for what XML cannot hold. NUL and lone surrogates stay escaped: no database takes them.
ESCAPED: Final = re.compile(r"_x(?!0000|[dD][89a-fA-F])([0-9A-Fa-f]{4})_")


def broken(reason: str) -> SpreadsheetError:
    return SpreadsheetError("BROKEN_FILE", reason=reason)


def unescaped(text: str) -> str:
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


class XmlStream:
    """A parser whose subclass is told of elements (`start`, `end`) and says which text it wants.

    No document type is allowed, hence no entities. Text far beyond `max_characters` is dropped; what is kept
    is long enough to be noticed.
    """

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._pieces: list[str] = []
        self._characters = 0
        self._in_text = False
        self._collecting = False
        self._depth = 0
        self._phonetic_depth = 0
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type
        self._parser.StartElementHandler = self._root

    def begin(self, prefix: str) -> None:
        """The root element was met; the sheet's own elements have this prefix."""
        raise NotImplementedError

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def parse(self, stream: IO[bytes]) -> Iterator[None]:
        """Parse in pieces; stops after each, so that the caller can take what was found."""
        parser = self._parser
        fed = 0
        try:
            while chunk := stream.read(CHUNK_BYTES):
                parser.Parse(chunk, False)
                fed += len(chunk)
                if fed - parser.CurrentByteIndex > MAX_TAG_BYTES:
                    raise broken("an endless tag")
                if len(parser.intern) > MAX_NAMES:
                    raise broken("too many names")
                yield
            parser.Parse(b"", True)
            yield
        except ValueError as error:
            raise broken(str(error)) from error

    def open_text(self, *, wanted: bool) -> None:
        """Text that follows is part of the value if it is wanted; phonetic guides to it never are."""
        if self._in_text:
            raise broken("text inside text")
        self._in_text = True
        self._collecting = wanted and not self._phonetic_depth

    def close_text(self) -> None:
        self._in_text = self._collecting = False

    def clear(self) -> None:
        self._pieces = []
        self._characters = 0

    def text(self) -> str:
        return "".join(self._pieces)

    def descend(self, *, phonetic: bool) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise broken("elements nested too deeply")
        if phonetic:
            self._phonetic_depth += 1

    def ascend(self, *, phonetic: bool) -> None:
        self._depth -= 1
        if phonetic:
            self._phonetic_depth -= 1

    def _root(self, name: str, _attributes: dict[str, str]) -> None:
        prefix, colon, _ = name.rpartition(":")
        self.begin(prefix + colon)
        self.descend(phonetic=False)
        self._parser.StartElementHandler = self.start
        self._parser.EndElementHandler = self.end
        self._parser.CharacterDataHandler = self._data

    def _data(self, data: str) -> None:
        if self._collecting and self._characters <= self._max_characters:
            self._pieces.append(data)
            self._characters += len(data)

    def _refuse_document_type(self, *_: object) -> None:
        raise broken("a document type declaration")
