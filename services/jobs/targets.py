"""What a job may do: nothing that is not named here. Every target bears being run twice, and at any time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, or_, select

from authz.principal import ROOT_PATH, Principal
from authz.session import Database
from models.identity import LoginSession
from models.jobs import JobRun
from models.system import IdempotentResult, OutboxEvent
from services import retention
from services.files import FileStore, keeping
from services.refusal import Refusal

BATCH = 5_000
"""So many rows are removed in one transaction, so that nobody waits long for one of them."""


@dataclass(frozen=True)
class Occasion:
    """One run as its target sees it: as whom, and when it began."""

    database: Database
    files: FileStore
    owner: Principal
    at: datetime


@dataclass(frozen=True)
class Parameter:
    """A whole number that must be given, within inclusive bounds."""

    name: str
    least: int
    most: int


@dataclass(frozen=True)
class Target:
    """Something that can be done by a job; ``description`` is a message's code. It tells what it did."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    run: Callable[[Occasion, Mapping[str, int]], Awaitable[str]]


def checked(target_name: str, given: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The arguments of a target. UNKNOWN_TARGET; INVALID, REQUIRED or OUT_OF_RANGE for ``arguments``."""
    target = TARGETS.get(target_name)
    if target is None:
        raise Refusal("UNKNOWN_TARGET", "invokeTarget", value=target_name[:64])
    arguments = dict(given)
    if len(arguments) < len(given) or arguments.keys() - {parameter.name for parameter in target.parameters}:
        raise Refusal("INVALID", "arguments")
    for parameter in target.parameters:
        if parameter.name not in arguments:
            raise Refusal("REQUIRED", "arguments")
        if not parameter.least <= arguments[parameter.name] <= parameter.most:
            raise Refusal("OUT_OF_RANGE", "arguments", value=parameter.name, least=parameter.least, most=parameter.most)
    return arguments


# -- clearing what is no longer needed ----------------------------------------------------------------------------

Old = Callable[[datetime], ColumnElement[bool]]
"""Which rows are old, given the time before which they are."""


def _cleared(name: str, description: str, model: type[Any], old: Old, *, least_days: int) -> Target:
    async def run(occasion: Occasion, arguments: Mapping[str, int]) -> str:
        before = occasion.at - timedelta(days=arguments["olderThanDays"])
        removed = 0
        while True:
            async with occasion.database.transaction(occasion.owner) as session:
                batch = select(model.id).where(old(before)).order_by(model.id).limit(BATCH)
                result = await session.execute(
                    delete(model).where(model.id.in_(batch)).execution_options(synchronize_session=False)
                )
                assert isinstance(result, CursorResult)
                removed += result.rowcount
            if result.rowcount < BATCH:
                return f"Removed: {removed}"

    return Target(name, description, (Parameter("olderThanDays", least_days, 3_650),), run)


async def _partitions(occasion: Occasion, _: Mapping[str, int]) -> str:
    """Logs are the platform's to keep: a job of any other tenant does nothing."""
    if occasion.owner.path != ROOT_PATH:
        return "Nothing: partitions are the platform's."
    kept = await retention.keep(occasion.database, occasion.files, occasion.at)
    return f"Made: {kept.made}, dropped: {kept.dropped}, written: {kept.written}"


async def _unused_content(occasion: Occasion, arguments: Mapping[str, int]) -> str:
    """Content is of no tenant, so that who has it is asked of all; a day at least lies between it and its removal."""
    before = occasion.at - timedelta(days=arguments["olderThanDays"])
    return f"Removed: {await keeping.sweep(occasion.database, occasion.files, before)}"


TARGETS = {
    target.name: target
    for target in (
        _cleared(
            "clearJobRuns",
            "TARGET_CLEAR_JOB_RUNS",
            JobRun,
            lambda before: JobRun.finished_at < before,
            least_days=7,
        ),
        _cleared(
            "clearIdempotentResults",
            "TARGET_CLEAR_IDEMPOTENT_RESULTS",
            IdempotentResult,
            lambda before: IdempotentResult.created_at < before,
            least_days=7,
        ),
        _cleared(
            "clearSentEvents",
            "TARGET_CLEAR_SENT_EVENTS",
            OutboxEvent,
            lambda before: OutboxEvent.sent_at < before,
            least_days=1,
        ),
        _cleared(
            "clearEndedSessions",
            "TARGET_CLEAR_ENDED_SESSIONS",
            LoginSession,
            lambda before: or_(LoginSession.expires_at < before, LoginSession.revoked_at < before),
            least_days=1,
        ),
        Target("keepPartitions", "TARGET_KEEP_PARTITIONS", (), _partitions),
        Target(
            "clearUnusedContent",
            "TARGET_CLEAR_UNUSED_CONTENT",
            (Parameter("olderThanDays", 1, 3_650),),
            _unused_content,
        ),
    )
}
