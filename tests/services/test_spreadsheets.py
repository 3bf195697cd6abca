"""Operators' spreadsheets: what is read from them, and what is refused."""

import csv
import io
import json
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import openpyxl
import pytest
import xlsxwriter

from services.spreadsheets import Column, Limits, Row, SpreadsheetError, read, row_writer, write_rows

DATA = Path(__file__).parents[1] / "data"
ICCID = Column("iccid", ("ICCID", "卡号"), required=True, compact=True)
PLAN = Column("plan", ("套餐编码", "Plan"))
NOTE = Column("note", ("备注",))
COLUMNS = (ICCID, PLAN, NOTE)
SHEET = "xl/worksheets/sheet1.xml"
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
HEADER_XML = '<row r="1"><c r="A1" t="inlineStr"><is><t>ICCID</t></is></c></row>'


def rows_of(path: Path, limits: Limits | None = None) -> list[Row]:
    return list(read(path, "upload", COLUMNS, limits))


def refusal(path: Path, limits: Limits | None = None) -> tuple[str, dict[str, object]]:
    """The code and params of an error that comes before any row."""
    with pytest.raises(SpreadsheetError) as caught:
        read(path, "upload", COLUMNS, limits)
    assert caught.value.params.pop("filename") == "upload"
    return caught.value.code, caught.value.params


def late_refusal(path: Path, limits: Limits | None = None) -> tuple[str, dict[str, object]]:
    """The code and params of an error that may come behind rows."""
    with pytest.raises(SpreadsheetError) as caught:
        rows_of(path, limits)
    assert caught.value.params.pop("filename") == "upload"
    return caught.value.code, caught.value.params


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return tmp_path / "upload"


def write_workbook(path: Path, rows: list[list[object]]) -> Path:
    with xlsxwriter.Workbook(str(path)) as workbook:
        workbook.set_properties({"created": datetime(2024, 1, 31, tzinfo=UTC)})
        sheet = workbook.add_worksheet()
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                sheet.write(number, place, value)
    return path


def replace_parts(path: Path, parts: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A workbook whose parts are these instead of what a program wrote."""
    write_workbook(path, [["ICCID"]])
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (whole | parts).items():
            archive.writestr(name, content)
    return path


def sheet_of(path: Path, rows: str, before: str = "", after: str = "") -> Path:
    content = f"{before}<worksheet {MAIN}><sheetData>{rows}</sheetData>{after}</worksheet>"
    return replace_parts(path, {SHEET: content})


def text_row(number: int, text: str) -> str:
    return f'<row r="{number}"><c r="A{number}" t="inlineStr"><is><t>{text}</t></is></c></row>'


class TestRealImport:
    columns = tuple(
        Column(heading, (heading,), compact=heading in ("ICCID", "IMSI", "物联号码"))
        for heading in ("ICCID", "IMSI", "物联号码", "运营商", "供应商", "卡类型", "APN", "套餐编码", "备注")
    )

    def test_twenty_thousand_cards(self) -> None:
        expected = json.loads((DATA / "sim_import_20k.expected.json").read_text())
        rows = list(read(DATA / "sim_import_20k.xlsx", "cards.xlsx", self.columns))

        assert [row.number for row in rows] == list(range(2, 20_002))
        kinds = expected["rejected_rows_by_kind"]
        assert [row.number for row in rows if row.numeric] == kinds["number_lost_precision"]
        assert {row.numeric for row in rows} == {frozenset(), frozenset({"ICCID"})}
        assert [row.number for row in rows if row.trimmed] == expected["accepted_after_trimming"]
        assert [row.number for row in rows if row.values["ICCID"] is None] == kinds["iccid_missing"]
        lengths = {len(row.values["ICCID"] or "") for row in rows if row.number not in kinds["too_short"]}
        assert lengths == {0, 20}
        assert rows[0].values == {
            "ICCID": "89860300006726462158",
            "IMSI": "460110155516428",
            "物联号码": "1410863478612",
            "运营商": "CTCC",
            "供应商": "电信5GCMP",
            "卡类型": "机械卡",
            "APN": "ctnb",
            "套餐编码": "CT-Q-1G",
            "备注": None,
        }
        assert rows[1059 - 2].values["ICCID"] == "89860800003192620000"
        assert rows[624 - 2].values["ICCID"] == "89860400007009191299"


class TestWorkbook:
    def test_cells_by_their_kind(self, upload: Path) -> None:
        with xlsxwriter.Workbook(str(upload)) as workbook:
            sheet = workbook.add_worksheet()
            day = workbook.add_format({"num_format": "yyyy-mm-dd"})
            sheet.write_row(0, 0, ["ＩＣＣＩＤ ", "plan", "unknown", "备注"])
            sheet.write_number(1, 0, 12)
            sheet.write_number(2, 0, 8.986080000319262e19)
            sheet.write_number(3, 0, 19.9)
            sheet.write_number(4, 0, 0.1 + 0.2)
            sheet.write_number(5, 0, 45322, day)
            sheet.write_number(6, 1, 45322.5, day)
            sheet.write_boolean(7, 0, True)
            sheet.write_formula(8, 0, "=A2+1", None, "13")
            sheet.write_string(9, 0, " 8986 04\u3000")
            sheet.write_string(9, 1, "\u200bCM 1G\xa0")
            sheet.write_string(9, 2, " ignored ")
            sheet.write_string(10, 0, "_x0041_\x01")
            sheet.write_number(11, 0, 1e-7)
        rows = rows_of(upload)
        assert [row.values["iccid"] for row in rows] == [
            "12",
            "89860800003192620000",
            "19.9",
            "0.3",
            "2024-01-31",
            None,
            "TRUE",
            None,
            "898604",
            "_x0041_\x01",
            "0.0000001",
        ]
        assert [row.number for row in rows if row.numeric == {"iccid"}] == [2, 3, 4, 5, 6, 12]
        assert rows[5].values["plan"] == "2024-01-31 12:00:00"
        assert rows[5].numeric == {"plan"}
        assert [row.number for row in rows if row.formulas == {"iccid"}] == [9]
        assert [row.number for row in rows if row.trimmed] == [10]
        assert rows[8].values == {"iccid": "898604", "plan": "CM 1G", "note": None}

    def test_empty_rows_are_skipped_and_numbers_kept(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], [], ["1"], [" \u3000\u200b"], [None], ["2"]])
        assert [(row.number, row.values["iccid"]) for row in rows_of(upload)] == [(3, "1"), (6, "2")]

    def test_written_by_openpyxl_with_shared_strings(self, upload: Path) -> None:
        workbook = openpyxl.Workbook()
        workbook.active.append(["ICCID", "套餐编码"])
        for number in range(300):
            workbook.active.append([f"8986{number:016}", f"P{number % 3}"])
        workbook.create_sheet("second").append(["nothing"])
        workbook.save(upload)
        rows = rows_of(upload)
        assert len(rows) == 300
        assert rows[299] == Row(
            301,
            {"iccid": "89860000000000000299", "plan": "P2", "note": None},
            frozenset(),
            frozenset(),
            trimmed=False,
        )

    def test_prefixed_elements_rich_text_and_phonetic_guides(self, upload: Path) -> None:
        sheet = (
            f"<x:worksheet {MAIN.replace('xmlns', 'xmlns:x')}><x:sheetData>"
            '<x:row><x:c t="str"><x:v>ICCID</x:v></x:c><x:c t="str"><x:v>备注</x:v></x:c></x:row>'
            '<x:row><x:c t="inlineStr"><x:is><x:r><x:t>89</x:t></x:r><x:r><x:t>86</x:t></x:r>'
            "<x:rPh><x:t>xx</x:t></x:rPh></x:is></x:c><x:c t='e'><x:v>#N/A</x:v></x:c></x:row>"
            "</x:sheetData></x:worksheet>"
        )
        rows = rows_of(replace_parts(upload, {SHEET: sheet}))
        assert [(row.number, row.values["iccid"], row.values["note"]) for row in rows] == [(2, "8986", "#N/A")]

    def test_first_visible_sheet(self, upload: Path) -> None:
        with xlsxwriter.Workbook(str(upload)) as workbook:
            workbook.add_worksheet().hide()
            sheet = workbook.add_worksheet()
            sheet.activate()
            sheet.write_column(0, 0, ["ICCID", "shown"])
        assert [row.values["iccid"] for row in rows_of(upload)] == ["shown"]

    def test_merged_cells(self, upload: Path) -> None:
        with xlsxwriter.Workbook(str(upload)) as workbook:
            sheet = workbook.add_worksheet()
            sheet.write_string(0, 0, "ICCID")
            sheet.merge_range("B2:C4", "both")
        assert refusal(upload) == ("MERGED_CELLS", {"range": "B2:C4"})

    def test_text_about_merged_cells_is_text(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], ['<mergeCell ref="A1:B2"/>']])
        assert rows_of(upload)[0].values["iccid"] == '<mergeCellref="A1:B2"/>'

    def test_too_wide(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], ["1"], [*[None] * 256, "far"]])
        assert late_refusal(upload) == ("TOO_WIDE", {"row": 3, "limit": 256})

    def test_too_many_rows(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], ["1"], ["2"]])
        assert [row.number for row in rows_of(upload, Limits(max_rows=3))] == [2, 3]
        assert late_refusal(upload, Limits(max_rows=2)) == ("TOO_MANY_ROWS", {"limit": 2})

    @pytest.mark.parametrize("cell", ['t="inlineStr"><is><t>{}</t></is>', 't="str"><v>{}</v>'])
    def test_cell_too_long(self, upload: Path, cell: str) -> None:
        limits = Limits(max_ratio=10_000)
        longest = '<row r="2"><c r="A2" ' + cell.format("x" * 32_767) + "</c></row>"
        longer = '<row r="3"><c r="A3" ' + cell.format("x" * 5_000_000) + "</c></row>"
        assert late_refusal(sheet_of(upload, HEADER_XML + longest + longer), limits) == (
            "CELL_TOO_LONG",
            {"row": 3, "limit": 32_767},
        )

    def test_shared_text_too_long(self, upload: Path) -> None:
        limits = Limits(max_cell_characters=10)
        write_workbook(upload, [["ICCID"], ["1234567890"], ["12345678901"]])
        assert late_refusal(upload, limits) == ("CELL_TOO_LONG", {"row": 3, "limit": 10})


class TestHostileWorkbook:
    def test_unpacked_size_and_ratio(self, upload: Path) -> None:
        sheet_of(upload, HEADER_XML + text_row(2, "0" * 20_000_000))
        assert refusal(upload) == ("ZIP_BOMB", {})
        assert refusal(upload, Limits(max_ratio=100_000, max_unpacked_bytes=20_000_000)) == ("ZIP_BOMB", {})

    def test_lying_size_in_the_directory(self, upload: Path) -> None:
        sheet_of(upload, HEADER_XML + text_row(2, "0" * 20_000_000))
        packed = bytearray(upload.read_bytes())
        with zipfile.ZipFile(upload) as archive:
            size = archive.getinfo(SHEET).file_size.to_bytes(4, "little")
        while (place := packed.find(size)) >= 0:
            packed[place : place + 4] = (1_000).to_bytes(4, "little")
        upload.write_bytes(packed)
        tracemalloc.start()
        code, _ = refusal(upload)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert code == "BROKEN_FILE"
        assert peak < 4_000_000

    def test_directory_of_many_parts(self, upload: Path) -> None:
        with zipfile.ZipFile(upload, "w") as archive:
            for number in range(30_000):
                archive.writestr(f"{number:030}", b"")
        assert refusal(upload) == ("ZIP_BOMB", {})

    def test_large_styles(self, upload: Path) -> None:
        replace_parts(upload, {"xl/styles.xml": b" " * 9_000_000})
        assert refusal(upload, Limits(max_ratio=10_000)) == ("TOO_LARGE", {"bytes": 9_000_000, "limit": 8_388_608})

    @pytest.mark.parametrize(
        ("part", "root"), [(SHEET, "worksheet"), ("xl/workbook.xml", "workbook"), ("xl/sharedStrings.xml", "sst")]
    )
    def test_entities(self, upload: Path, part: str, root: str) -> None:
        laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        bomb = f'<!DOCTYPE {root} [<!ENTITY l0 "lol">{laughs}]><{root} {MAIN}>&l9;</{root}>'
        assert refusal(replace_parts(upload, {part: bomb}))[0] == "BROKEN_FILE"

    def test_external_entity(self, upload: Path) -> None:
        sheet_of(upload, HEADER_XML, before='<!DOCTYPE worksheet SYSTEM "file:///etc/passwd">')
        assert refusal(upload) == ("BROKEN_FILE", {"reason": "a document type declaration"})

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            ("<row>" + "<a>" * 1_000 + "</a>" * 1_000 + "</row>", "elements nested too deeply"),
            ('<row r="2"><c><v>' + "<v>" * 1_000 + "</v>" * 1_001 + "</c></row>", "text inside text"),
            ('<row r="2"><c><c/></c></row>', "a cell out of place near row 2"),
            ('<row r="2"/><row r="2"/>', "row 2 after row 2"),
            ('<row r="3"/><row r="2"/>', "row 2 after row 3"),
            ('<row r="2"><c r="!2"/></row>', "cell !2"),
            ('<row r="2"><c><v>1_0</v></c></row>', "row 2 has a number that is none"),
            ('<row r="2"><c t="s"><v>77</v></c></row>', "shared text 77 is missing"),
            ('<row r="2"><c t="s"><v>-1</v></c></row>', "shared text -1 is missing"),
        ],
    )
    def test_nonsense_in_the_sheet(self, upload: Path, rows: str, reason: str) -> None:
        sheet_of(upload, HEADER_XML + rows)
        with pytest.raises(SpreadsheetError) as caught:
            rows_of(upload, Limits(max_ratio=10_000))
        assert (caught.value.code, caught.value.params["reason"]) == ("BROKEN_FILE", reason)

    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            (f'<row r="2" x="{"y" * 30_000_000}"/>', "an endless tag"),
            ("".join(f"<a{n}/>" for n in range(100_000)), "too many names"),
            ('<row r="2">' + "<c/>" * 1_000_000 + "</row>", None),
        ],
    )
    def test_memory_stays_bounded(self, upload: Path, rows: str, reason: str | None) -> None:
        sheet_of(upload, HEADER_XML + rows)
        del rows
        tracemalloc.start()
        try:
            taken: object = len(rows_of(upload, Limits(max_ratio=10_000)))
        except SpreadsheetError as error:
            taken = error.params["reason"]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken == (reason or 0)
        assert peak < 8_000_000

    def test_a_million_empty_rows(self, upload: Path) -> None:
        rows = "".join(f'<row r="{number}"/>' for number in range(2, 1_000_001))
        sheet_of(upload, HEADER_XML + rows + text_row(1_000_001, "last"))
        assert [(row.number, row.values["iccid"]) for row in rows_of(upload)] == [(1_000_001, "last")]
        assert late_refusal(upload, Limits(max_rows=1_000)) == (
            "TOO_MANY_ROWS",
            {"limit": 1_000},
        )

    def test_truncated(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], ["1"]])
        upload.write_bytes(upload.read_bytes()[:-200])
        assert refusal(upload)[0] == "BROKEN_FILE"

    def test_every_truncation_and_many_damages_are_refused_or_read(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"], ["1"]])
        whole = upload.read_bytes()
        seen: set[int | str] = set()
        for place in range(4, len(whole), 7):
            for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :]):
                upload.write_bytes(damaged)
                try:
                    seen.add(len(rows_of(upload)))
                except SpreadsheetError as error:
                    seen.add(error.code)
        assert seen <= {1, "BROKEN_FILE", "ENCRYPTED_WORKBOOK", "ZIP_BOMB", "NOT_A_SPREADSHEET", "TOO_LARGE"}
        assert {1, "BROKEN_FILE"} <= seen

    def test_unfinished_xml(self, upload: Path) -> None:
        replace_parts(upload, {SHEET: f"<worksheet {MAIN}><sheetData>{HEADER_XML}{text_row(2, '1')}"})
        assert late_refusal(upload)[0] == "BROKEN_FILE"

    def test_missing_sheet(self, upload: Path) -> None:
        write_workbook(upload, [["ICCID"]])
        with zipfile.ZipFile(upload) as archive:
            whole = {name: archive.read(name) for name in archive.namelist()}
        del whole[SHEET]
        with zipfile.ZipFile(upload, "w") as archive:
            for name, content in whole.items():
                archive.writestr(name, content)
        assert refusal(upload) == ("BROKEN_FILE", {"reason": f"{SHEET} is missing"})

    def test_encrypted_parts_and_rare_compression(self, upload: Path) -> None:
        replace_parts(upload, {}, zipfile.ZIP_LZMA)
        assert refusal(upload) == ("BROKEN_FILE", {"reason": "unknown compression"})
        write_workbook(upload, [["ICCID"]])
        packed = upload.read_bytes()
        place = packed.index(b"PK\x01\x02") + 8
        upload.write_bytes(packed[:place] + bytes([packed[place] | 1]) + packed[place + 1 :])
        assert refusal(upload) == ("ENCRYPTED_WORKBOOK", {})

    def test_other_zip(self, upload: Path) -> None:
        with zipfile.ZipFile(upload, "w") as archive:
            archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        assert refusal(upload) == ("NOT_A_SPREADSHEET", {})
        with zipfile.ZipFile(upload, "w"):
            pass
        assert refusal(upload) == ("NOT_A_SPREADSHEET", {})


class TestOtherFiles:
    def test_ole_containers(self, upload: Path) -> None:
        magic = bytes.fromhex("d0cf11e0a1b11ae1")
        upload.write_bytes(magic + bytes(5_000) + "Workbook".encode("utf-16-le"))
        assert refusal(upload) == ("LEGACY_XLS", {})
        upload.write_bytes(magic + bytes(1_048_560) + "EncryptedPackage".encode("utf-16-le"))
        assert refusal(upload) == ("ENCRYPTED_WORKBOOK", {})

    @pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\r\n\r\n , ,\n"])
    def test_empty(self, upload: Path, content: bytes) -> None:
        upload.write_bytes(content)
        assert refusal(upload) == ("EMPTY_FILE", {})

    def test_empty_workbook(self, upload: Path) -> None:
        assert refusal(write_workbook(upload, [])) == ("EMPTY_FILE", {})

    @pytest.mark.parametrize("content", [b"ICCID\n12\x003\n", "ICCID\n1".encode("utf-16-le"), b"<html><table>"])
    def test_not_a_spreadsheet(self, upload: Path, content: bytes) -> None:
        upload.write_bytes(content)
        assert refusal(upload) == ("NOT_A_SPREADSHEET", {})

    def test_too_large(self, upload: Path) -> None:
        upload.write_bytes(b"ICCID\n123\n")
        assert refusal(upload, Limits(max_bytes=9)) == ("TOO_LARGE", {"bytes": 10, "limit": 9})
        assert len(rows_of(upload, Limits(max_bytes=10))) == 1

    def test_unknown_encoding(self, upload: Path) -> None:
        upload.write_bytes(b"ICCID\n\xff\xff\xff\n")
        assert refusal(upload) == ("UNKNOWN_ENCODING", {})

    def test_message_for_the_log(self, upload: Path) -> None:
        upload.write_bytes("套餐编码\nP\n".encode())
        with pytest.raises(SpreadsheetError) as caught:
            read(upload, "cards.csv", COLUMNS)
        assert str(caught.value) == "Row 1 lacks these headings: ICCID."
        assert caught.value.params == {"columns": ("ICCID",), "filename": "cards.csv"}


class TestHeadings:
    @pytest.mark.parametrize("heading", ["ICCID", "iccid", " ＩＣＣＩＤ\u3000", "\ufeff卡号"])
    def test_accepted_spellings(self, upload: Path, heading: str) -> None:
        upload.write_text(f"{heading},x\n1,2\n", encoding="utf-8")
        assert rows_of(upload)[0].values == {"iccid": "1", "plan": None, "note": None}

    def test_missing(self, upload: Path) -> None:
        upload.write_text("套餐编码,备注\nP,n\n", encoding="utf-8")
        assert refusal(upload) == ("MISSING_COLUMNS", {"columns": ("ICCID",)})

    def test_none_known(self, upload: Path) -> None:
        upload.write_text("a,b\n1,2\n", encoding="utf-8")
        with pytest.raises(SpreadsheetError) as caught:
            read(upload, "upload", (PLAN, NOTE))
        assert caught.value.params["columns"] == ("套餐编码", "备注")

    def test_headings_below_row_1(self, upload: Path) -> None:
        write_workbook(upload, [[], ["ICCID"], ["1"]])
        assert refusal(upload) == ("MISSING_COLUMNS", {"columns": ("ICCID",)})

    def test_duplicate(self, upload: Path) -> None:
        upload.write_text("ICCID,备注,卡号\n1,2,3\n", encoding="utf-8")
        assert refusal(upload) == ("DUPLICATE_COLUMNS", {"columns": ("ICCID",)})


class TestCsv:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
    def test_encodings_delimiters_and_line_ends(
        self, upload: Path, encoding: str, delimiter: str, line_end: str
    ) -> None:
        mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
        lines = ["ICCID|备注", '1|"移动, 联通; 电信\t两\n行"', "", "2|"]
        text = mark + line_end.join(lines).replace("|", delimiter)
        upload.write_bytes(text.encode(encoding))
        assert [(row.number, row.values["iccid"], row.values["note"]) for row in rows_of(upload)] == [
            (2, "1", "移动, 联通; 电信\t两\n行"),
            (4, "2", None),
        ]

    def test_what_excel_does_to_numbers(self, upload: Path) -> None:
        upload.write_text(
            'ICCID,Plan,备注\n="89860400007009191299",2E3,x\n"=""8986""",,\n8.98603E+19,,\n=A1,,\n1,=A1,=B1\n',
            encoding="utf-8",
        )
        rows = rows_of(upload)
        assert [row.values["iccid"] for row in rows] == ["89860400007009191299", "8986", "8.98603E+19", None, "1"]
        assert [row.numeric for row in rows] == [set(), set(), {"iccid"}, set(), set()]
        assert [row.formulas for row in rows] == [set(), set(), set(), {"iccid"}, {"plan", "note"}]
        assert rows[0].values["plan"] == "2E3"

    def test_one_column(self, upload: Path) -> None:
        upload.write_text("ICCID\n 1 2\t\n", encoding="utf-8")
        assert rows_of(upload) == [
            Row(2, {"iccid": "12", "plan": None, "note": None}, frozenset(), frozenset(), trimmed=True)
        ]

    def test_a_quote_never_closed(self, upload: Path) -> None:
        upload.write_text('ICCID,备注\n1,a\n2,"b\n3,c\n', encoding="utf-8")
        assert late_refusal(upload) == ("BROKEN_FILE", {"reason": "row 3: unexpected end of data"})

    def test_cell_too_long(self, upload: Path) -> None:
        for excess in (1, 200_000, 3_000_000):
            upload.write_text(f"ICCID\n{'1' * 32_767}\n{'1' * (32_767 + excess)}\n", encoding="utf-8")
            assert late_refusal(upload) == ("CELL_TOO_LONG", {"row": 3, "limit": 32_767})

    def test_too_wide(self, upload: Path) -> None:
        upload.write_text("ICCID\n1" + "," * 300 + "\n2" + "," * 300 + "x\n", encoding="utf-8")
        assert late_refusal(upload) == ("TOO_WIDE", {"row": 3, "limit": 256})

    def test_a_million_empty_rows(self, upload: Path) -> None:
        upload.write_bytes(b"ICCID\n" + b"\n" * 999_999 + b"last\n")
        assert [(row.number, row.values["iccid"]) for row in rows_of(upload)] == [(1_000_001, "last")]
        upload.write_bytes(b"ICCID\n" + b"\n" * 1_100_000)
        assert late_refusal(upload) == ("TOO_MANY_ROWS", {"limit": 1_048_576})


class TestWriting:
    values = (
        ("89860400007009191299", "0012", 'plain, "quoted"\nnext'),
        ("1", "=cmd|' /C calc'!A0", "+86"),
        ("2", "-5", "@SUM(A1)"),
        ("3", "'=kept", None),
        ("4", None, "＝全角"),
    )

    @pytest.mark.parametrize("format", ["xlsx", "csv"])
    def test_what_is_written_is_read_again(self, tmp_path: Path, format: Literal["xlsx", "csv"]) -> None:
        path = tmp_path / f"refused.{format}"
        write_rows(path, format, ("ICCID", "套餐编码", "备注"), self.values)
        rows = rows_of(path)
        assert [tuple(row.values.values()) for row in rows] == list(self.values)
        assert [row.number for row in rows] == [2, 3, 4, 5, 6]
        assert all(not row.numeric and not row.formulas for row in rows)

    def test_csv_cannot_be_run(self, tmp_path: Path) -> None:
        path = tmp_path / "refused.csv"
        write_rows(path, "csv", ("=ICCID",), [*self.values, ("\tx", "\rx", "\nx")])
        assert path.read_bytes().startswith(b"\xef\xbb\xbf'=ICCID\r\n")
        cells = [
            cell for row in csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")) for cell in row
        ]
        assert cells[1:] == [
            "89860400007009191299\t",
            "0012\t",
            'plain, "quoted"\nnext',
            "1",
            "'=cmd|' /C calc'!A0",
            "'+86",
            "2",
            "'-5",
            "'@SUM(A1)",
            "3",
            "''=kept",
            "",
            "4",
            "",
            "'＝全角",
            "'\tx",
            "'\rx",
            "'\nx",
        ]

    def test_xlsx_cells_are_text(self, tmp_path: Path) -> None:
        path = tmp_path / "refused.xlsx"
        write_rows(path, "xlsx", ("ICCID", "b", "c"), [*self.values, ("http://x.example", "\uffff", "1")])
        sheet = openpyxl.load_workbook(path).active
        kinds = {(cell.data_type, cell.number_format) for row in sheet for cell in row if cell.value is not None}
        assert kinds == {("s", "@")}
        assert sheet["B3"].value == "=cmd|' /C calc'!A0"
        assert [cell.value for cell in sheet[7]] == ["http://x.example", "\ufffd", "1"]
        assert [cell.hyperlink for cell in sheet[7]] == [None, None, None]

    def test_text_that_no_cell_holds(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="row 2, column 1 does not fit"):
            write_rows(tmp_path / "refused.xlsx", "xlsx", ("ICCID",), [("x" * 32_768,)])


@pytest.mark.parametrize("format", ["xlsx", "csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, format: Literal["xlsx", "csv"]) -> None:
    path = tmp_path / f"large.{format}"
    write_rows(
        path,
        format,
        ("ICCID", "套餐编码"),
        ((f"898604{number:014}", f"CM-{number % 10}") for number in range(30_000)),
    )
    rows_of(path)
    tracemalloc.start()
    count = sum(1 for _ in read(path, "upload", COLUMNS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 5_000_000


def test_a_full_sheet_is_followed_by_another(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    with row_writer(path, "xlsx", ("name", "count"), sheet_rows=3) as write:
        for number in range(5):
            write((f"row {number}", number))
    sheets = openpyxl.load_workbook(path).worksheets
    assert [[[cell.value for cell in row] for row in sheet] for sheet in sheets] == [
        [["name", "count"], ["row 0", 0], ["row 1", 1]],
        [["name", "count"], ["row 2", 2], ["row 3", 3]],
        [["name", "count"], ["row 4", 4]],
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["list.xlsx"]
