"""The texts that a workbook keeps apart from its sheets, on disk instead of in memory."""

from array import array
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self

from services.spreadsheets.xml_stream import XmlStream, broken, unescaped

BLOCK_STRINGS: Final = 64
CACHE_BYTES: Final = 8 << 20
# What a cached block takes beside its text.
BLOCK_OVERHEAD_BYTES: Final = 5_000


class SharedStrings(XmlStream):
    """A list of texts in a temporary file, in blocks of 64.

    A million rows of unique numbers would take some 250 MB as Python strings. Sheets ask for the texts nearly
    in order, so that few blocks are read twice.
    """

    def __init__(self, max_characters: int) -> None:
        super().__init__(max_characters)
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed by the context manager
        self._offsets = array("Q", [0])
        self._block: list[str] = []
        self._cache: dict[int, list[str]] = {}
        self._cached_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def load(self, stream: IO[bytes]) -> None:
        for _ in self.parse(stream):
            pass
        if self._block:
            self._write_block()

    def __getitem__(self, index: int) -> str:
        number, place = divmod(index, BLOCK_STRINGS)
        try:
            block = self._cache.get(number) or self._read_block(number)
            return block[place]
        except IndexError:
            raise broken(f"shared text {index} is missing") from None

    def begin(self, prefix: str) -> None:
        self._item, self._text, self._phonetic = f"{prefix}si", f"{prefix}t", f"{prefix}rPh"

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - expat passes them
        if name == self._text:
            self.open_text(wanted=True)
        else:
            self.descend(phonetic=name == self._phonetic)
            if name == self._item:
                self.clear()

    def end(self, name: str) -> None:
        if name == self._text:
            self.close_text()
            return
        self.ascend(phonetic=name == self._phonetic)
        if name == self._item:
            self._block.append(unescaped(self.text()))
            if len(self._block) == BLOCK_STRINGS:
                self._write_block()

    def _write_block(self) -> None:
        # XML text never holds a NUL.
        written = self._file.write("\0".join(self._block).encode())
        self._offsets.append(self._offsets[-1] + written)
        self._block = []

    def _read_block(self, number: int) -> list[str]:
        if not 0 <= number < len(self._offsets) - 1:
            raise IndexError(number)
        start, stop = self._offsets[number], self._offsets[number + 1]
        self._file.seek(start)
        block = self._file.read(stop - start).decode().split("\0")
        if self._cached_bytes > CACHE_BYTES:
            self._cache.clear()
            self._cached_bytes = 0
        self._cache[number] = block
        self._cached_bytes += stop - start + BLOCK_OVERHEAD_BYTES
        return block
