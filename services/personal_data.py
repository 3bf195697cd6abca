"""What is known of a person: told to the person, and erased when the account is closed.

Models say which of their columns hold personal data and what stands there afterwards (``models.base.personal``): all
that a person's rows hold is erased and told by that, whatever the domain. Rows stay with their keys, since cards,
contracts and accounts refer to them. Beside its own rows, a person is mentioned where others typed its address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import structlog
from sqlalchemy import ColumnElement, DateTime, LargeBinary, Table, Text, cast, func, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import Principal, system
from gateways.http import GatewayError
from gateways.wechat import CodeRefusedError, wechat
from models.base import ERASED, UNTOLD, table_of
from models.identity import AccountStatus, EndUser, LoginProvider, LoginRecord, VerificationCodePurpose
from models.merchant_orders import ItemOrder
from models.notifications import Notification, NotificationState
from models.security import erased_columns, mapped_tables, person_column
from models.sim import SimCard, SimEndUserBinding
from models.system import OperationRecord
from services import end_users, identity, login_apps, logins, validation, verification_codes
from services.notifications.kinds import EMAIL_CODE
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work

log = structlog.get_logger()

BY_ACCOUNT_NAME = ("end_user_login", "register_end_user")
"""The mutations of visitors that name a person by the account name."""


NUMBER = re.compile(r"\+?\d+")
TYPED_NUMBERS = (("phone",), ("input", "phone"), ("input", "account"))
"""Where mutations are given a phone number, which everybody types in another way."""


def tables() -> Iterator[tuple[Table, str]]:
    """Each table that holds rows of persons, and its column that names the person."""
    for mapper, table in mapped_tables():
        column = person_column(mapper.class_)
        if column is not None:
            yield table, column


# -- closing an account -------------------------------------------------------------------------------------------


async def close_own(work: Work, *, password: str | None, verification_code: str | None, login_code: str | None) -> None:
    """Closes the calling end user's account at once, once it is confirmed who asks: by the password, a code from the
    mail or, of who comes by WeChat, a fresh login code of the mini-program. REQUIRED unless one of them is given;
    WRONG_CREDENTIALS, WRONG_CODE and INVALID_CODE leave everything as it is."""
    proofs = {"password": password, "verificationCode": verification_code, "loginCode": login_code}
    given = [name for name, proof in proofs.items() if proof is not None]
    if len(given) != 1:
        raise Refusal("REQUIRED", "password")
    await logins.limit_attempts(work.runtime, work.origin)
    person = await work.found(EndUser, work.principal.end_user_id, field="endUser")
    if password is not None:
        if not await identity.matches(person.password_hash, password):
            raise Refusal("WRONG_CREDENTIALS", "password")
    elif verification_code is not None:
        if person.email is None or person.email_verified_at is None:
            raise Refusal("WRONG_CODE", "verificationCode")
        asked = verification_codes.address(person.email)
        purpose = VerificationCodePurpose.CLOSURE
        await verification_codes.redeem(work.runtime, work.origin, purpose, person.tenant_id, asked, verification_code)
    else:
        await _recognise(work.runtime, person, login_code or "")
    await _erase(work.runtime, person.id)
    work.person_erased = True


async def _recognise(runtime: Runtime, person: EndUser, login_code: str) -> None:
    """INVALID_CODE unless WeChat says that the code is this person's; LOGIN_UNAVAILABLE while it says nothing."""
    async with runtime.database.transaction(system("account closure")) as session:
        app = await login_apps.app_in_use(
            runtime, session, LoginProvider.WECHAT_MINI_PROGRAM, person.wechat_app_id or ""
        )
    if app is not None:
        try:
            found = await wechat().code_to_session(app.app_id, app.secret, login_code)
        except CodeRefusedError:
            pass
        except GatewayError as error:
            log.warning("an account closure by WeChat failed", code=error.code, reason=str(error))
            raise Refusal("LOGIN_UNAVAILABLE") from None
        else:
            if found.openid == person.wechat_openid:
                return
    raise Refusal("INVALID_CODE", "loginCode")


async def erase(work: Work, end_user_id: int, reason: str) -> int:
    """Erases a person within the caller's reach, with the reason in the operation log; gives the key, which stays.

    REQUIRED (reason), NOT_FOUND; ERASED where it was done before.
    """
    validation.text(reason, "reason")
    person = await work.found(EndUser, end_user_id, field="endUser")
    await _erase(work.runtime, person.id)
    return person.id


async def _erase(runtime: Runtime, end_user_id: int) -> None:
    """In a transaction of the system's own: a person's rows may stand at several tenants, and logs above them."""
    async with runtime.database.transaction(system("erasure of personal data")) as session:
        person = await session.scalar(select(EndUser).where(EndUser.id == end_user_id).with_for_update())
        if person is None:
            raise not_found("endUser")
        if person.erased_at is not None:
            raise Refusal("ERASED", "endUser")
        await end_users.end_sessions(session, person)
        await _give_cards_back(session, person)
        await _forget_mentions(session, person)
        for table, column in tables():
            await _clear(session, table, table.c[column] == person.id)
        gone = {"status": AccountStatus.DISABLED, "erased_at": func.now()}
        await session.execute(update(table_of(EndUser)).where(EndUser.id == person.id).values(gone))
    await runtime.access.changed()


async def _clear(session: AsyncSession, table: Table, rows: Any) -> None:
    erased = erased_columns(table)
    if erased:
        values = {name: null() if value is None else value for name, value in erased.items()}
        await session.execute(update(table).where(rows).values(values))


async def _give_cards_back(session: AsyncSession, person: EndUser) -> None:
    """The person's cards stay with their holders and are used by nobody."""
    bindings, cards = table_of(SimEndUserBinding), table_of(SimCard)
    await session.execute(
        update(bindings)
        .where(bindings.c.end_user_id == person.id, bindings.c.unbound_at.is_(None))
        .values(unbound_at=func.now())
    )
    await session.execute(update(cards).where(cards.c.end_user_id == person.id).values(end_user_id=None))


async def _forget_mentions(session: AsyncSession, person: EndUser) -> None:
    """What others typed of the person, at the tenant that serves the person and those above it.

    Only what is known to be the person's: who closes an account must not be able to clear others' traces by having
    taken their address for a name, or their name for an address.
    """
    above = [person.tenant_path[: end + 1] for end, sign in enumerate(person.tenant_path) if sign == "." and end]
    sent, tried, done = table_of(Notification), table_of(LoginRecord), table_of(OperationRecord)
    await session.execute(
        update(sent)
        .where(sent.c.end_user_id == person.id, sent.c.state == NotificationState.QUEUED)
        .values(state=NotificationState.SUPPRESSED)
    )
    sent_to = await session.scalars(select(sent.c.address).where(sent.c.end_user_id == person.id).distinct())
    confirmed = person.email if person.email_verified_at is not None else None
    phones = validation.spellings(person.phone) if person.phone else set()
    known = {*phones, confirmed, person.wechat_openid, person.wechat_unionid, *sent_to}
    addresses = sorted({one.lower() for one in known if one})
    numbers = sorted({one.removeprefix("+") for one in addresses if NUMBER.fullmatch(one)})
    login = (person.login or "").lower()
    nobodys = tried.c.account_id.is_(None) & tried.c.end_user_id.is_(None) & (tried.c.tenant_id == person.tenant_id)
    typed = or_(func.lower(tried.c.login).in_([login, *addresses]), _digits(tried.c.login).in_(numbers))
    await _clear(session, tried, nobodys & typed)
    said = func.lower(cast(done.c.arguments, Text))
    await _clear(
        session,
        done,
        done.c.tenant_path.in_(above)
        & or_(
            *(func.strpos(said, one) > 0 for one in addresses),
            *(_digits(done.c.arguments[at].astext).in_(numbers) for at in TYPED_NUMBERS),
            done.c.mutation.in_(BY_ACCOUNT_NAME) & (func.lower(done.c.arguments[("input", "account")].astext) == login),
        ),
    )
    if person.phone:
        bought = table_of(ItemOrder)
        await _clear(session, bought, bought.c.buyer_phone.in_(validation.spellings(person.phone)))
    if person.email:
        unclaimed = sent.c.end_user_id.is_(None) & (sent.c.tenant_id == person.tenant_id)
        code = (sent.c.kind == EMAIL_CODE.key) & (func.lower(sent.c.address) == person.email.lower())
        await _clear(session, sent, unclaimed & code)


def _digits(typed: ColumnElement[Any]) -> ColumnElement[str]:
    return func.regexp_replace(typed, r"\D", "", "g")


# -- telling what is known ----------------------------------------------------------------------------------------


async def export(runtime: Runtime, principal: Principal) -> str | None:
    """All that is known of the calling end user, as JSON; None for anybody else.

    For each kind of record its rows with their personal data and times. Passwords and other secrets are left out, and
    so is what is a card's or a company's.
    """
    if principal.end_user_id is None:
        return None
    told: dict[str, list[dict[str, Any]]] = {}
    async with runtime.database.transaction(principal) as session:
        for table, column in tables():
            shown = [each for each in table.columns if _is_told(each)]
            if any(ERASED in each.info for each in shown):
                rows = await session.execute(
                    select(table.c.id, *shown).where(table.c[column] == principal.end_user_id).order_by(table.c.id)
                )
                told[str(table.name)] = [
                    {str(name): _plain(value) for name, value in row.items()} for row in rows.mappings()
                ]
    return orjson.dumps(told).decode()


def _is_told(column: Any) -> bool:
    if isinstance(column.type, LargeBinary) or UNTOLD in column.info:
        return False
    return ERASED in column.info or isinstance(column.type, DateTime)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | bool | dict | list | datetime) else str(value)
