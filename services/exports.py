"""Lists and reports as files: any of the graph, whole, as a workbook or as CSV, for who may read it.

An export shows what a page would: it is planned, masked and scoped for whoever asked, at the start, when a worker
takes it up, and again every few seconds while it is written. Its pages are read in one snapshot, so that a list that
changes meanwhile is neither torn nor doubled, and memory does not grow with the rows.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from authz.coordinates import Act
from authz.principal import Principal
from models.system import ExportFormat, Task, TaskKind
from planner.errors import GraphRefusal, GraphRefusals
from planner.pool import snapshot
from planner.tables import Asking
from services import validation
from services.messages import render, saying
from services.refusal import Refusal
from services.runtime import Runtime, Work
from services.spreadsheets import CONTENT_TYPES, Format, row_writer
from services.tasks import running
from services.tasks.opening import open_task
from services.tasks.running import Run, TaskFailure

MAX_NAME = 100
MAX_OPERATION = 20_000
MAX_VARIABLES = 100_000
MAX_REASONS = 5
LOOK_AGAIN_SECONDS = 5.0
FORMATS: dict[str, Format] = {ExportFormat.XLSX.name: "xlsx", ExportFormat.CSV.name: "csv"}
NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')


async def start(work: Work, *, operation: str, variables: str | None, format: ExportFormat, name: str) -> Task:
    """A task that writes a list or a report into a file. Refused by the codes of the graph where the caller may not
    read what is selected, or where it is neither."""
    name = validation.text(name, "name", limit=MAX_NAME)
    validation.text(operation, "operation", limit=MAX_OPERATION)
    given = _variables(variables)
    principal, tables = work.principal, work.runtime.tables
    try:
        text = tables.text(principal.door, operation)
        tables.read(principal.door, text, given).authorise(principal)
    except (GraphRefusal, GraphRefusals) as refused:
        code, reason = _why(refused, principal.language)
        raise Refusal(code, "operation", reason=reason) from None
    parameters = {
        "operation": text,
        "variables": given,
        "format": format.name,
        "door": principal.door,
        "language": principal.language,
    }
    return await open_task(work, TaskKind.EXPORT, parameters, name=name)


def _variables(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if len(text) > MAX_VARIABLES:
        raise Refusal("INVALID", "variables")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Refusal("INVALID", "variables") from None
    # the database keeps no text with this character
    if not isinstance(found, dict) or rb"\u0000" in orjson.dumps(found):
        raise Refusal("INVALID", "variables")
    return found


def _why(refused: GraphRefusal | GraphRefusals, language: str) -> tuple[str, str]:
    """The code of a refusal, and what it says."""
    say = saying(language)
    refusals = [refused] if isinstance(refused, GraphRefusal) else refused.refusals[:MAX_REASONS]
    return refusals[0].code, " ".join(say(each.text, each.params) for each in refusals)


async def carry_out(runtime: Runtime, task_id: int) -> None:
    """Writes the file of an export. One that is called off, or fails, leaves no file."""
    await running.carry_out(runtime.database, task_id, "export a list", lambda run: _export(runtime, run))


class Asker:
    """Who asked for an export, as they are now."""

    def __init__(self, runtime: Runtime, task: Task) -> None:
        self._runtime = runtime
        self._task = task
        self._door = runtime.doors[task.parameters["door"]]
        self.language: str = task.parameters["language"]
        self._known: Principal | None = None
        self._looked = 0.0

    async def now(self) -> Principal:
        """Raises TaskFailure: ACCESS_LOST, FORBIDDEN."""
        if self._known is None or time.monotonic() - self._looked >= LOOK_AGAIN_SECONDS:
            self._known, self._looked = await self._look(), time.monotonic()
        return self._known

    async def _look(self) -> Principal:
        access, task, door = self._runtime.access, self._task, self._door
        found: Principal | None = None
        if task.account_id is not None:
            found = await access.principal_of_account(task.account_id, door.name, door.admission, self.language)
        elif task.api_key_id is not None:
            found = await access.principal_of_key_id(task.api_key_id, door.name, door.admission, self.language)
        if found is None:
            raise self.failure("ACCESS_LOST")
        if not found.grants.allows("Mutation", "startExport", Act.CALL):
            raise self.failure("FORBIDDEN", reason="Mutation.startExport")
        return found

    def failure(self, code: str, **params: object) -> TaskFailure:
        return TaskFailure(code, render(code, self.language, params))


async def _export(runtime: Runtime, run: Run) -> None:
    asker = Asker(runtime, run.task)
    format = FORMATS[run.task.parameters["format"]]
    with _scratch(runtime.files.folder / f"task-{run.task.id}") as folder:
        made = folder / f"result.{format}"
        try:
            done = await _fill(runtime, run, asker, made, format)
        except (GraphRefusal, GraphRefusals) as refused:
            code, reason = _why(refused, asker.language)
            raise asker.failure(code, reason=reason) from None
        async with run.connection.transaction():
            await running.still_wanted(run)
            file = await running.keep_file(
                run.connection,
                run.task,
                runtime.files.keep_file(made),
                name=f"{NOT_IN_FILE_NAMES.sub('_', run.task.name or 'export')}.{format}",
                content_type=CONTENT_TYPES[format],
            )
            await running.succeed(run.connection, run.task, done=done, failed=0, total=done, result_file_id=file)


async def _fill(runtime: Runtime, run: Run, asker: Asker, made: Path, format: Format) -> int:
    """Writes all rows as they were at one moment; gives how many there are."""
    asked = run.task.parameters
    table = runtime.tables.read(asked["door"], asked["operation"], asked["variables"])
    done = 0

    async def ask() -> Asking:
        return Asking(await asker.now(), runtime)

    async with snapshot(runtime.database.dsn) as seen:
        await run.progress.tell(0, total=await table.total(await ask(), seen))
        with row_writer(made, format, table.headings) as write:
            async for page in table.pages(ask, seen):
                for cells in page:
                    done += 1
                    try:
                        write(cells)
                    except ValueError:
                        raise asker.failure("CELL_TOO_LONG", row=done + 1) from None
                await run.progress.tell(done)
    return done


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for what is being written, without what a worker has left there that died."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
