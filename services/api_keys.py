"""API keys: issued, rotated, narrowed, extended and revoked, and told of before they end (S0-18, S0-54)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select

from authz.principal import Principal, system
from authz.session import Database
from models.identity import ApiKey, ApiKeyStatus, LoginMethod, LoginOutcome, LoginRecord
from models.system import OutboxEvent
from models.tenancy import Tenant
from services import addresses, validation
from services.granting import check_grantable, check_takeable
from services.refusal import Refusal
from services.runtime import Runtime, Work

log = structlog.get_logger()

EXPIRING = "api-key.expiring"
"""The topic of a key that is about to end; its payload is ``{"api_key": key}``."""
NOTICE_DAYS = 14
MAX_OVERLAP_HOURS = 7 * 24
MAX_SCOPES = 200
TOLD_SECONDS = 60
"""How long a request from elsewhere is not written down again, for one key and address."""
_SCOPE = re.compile(r"[_A-Za-z]\w*\.(\*|[_A-Za-z]\w*\*?)", re.ASCII)


def api_key_binding(key: str) -> str:
    return f"api_key:{key}"


async def issue_api_key(
    work: Work,
    tenant: Tenant,
    *,
    name: str,
    valid_days: int,
    roles: Sequence[str],
    scopes: Sequence[str],
    allowed_networks: Sequence[str],
) -> tuple[ApiKey, str]:
    """A key and its secret, shown this once (S0-18, S0-54)."""
    _check_days(valid_days)
    granted = await check_grantable(work, roles, tenant)
    key, secret = f"tk_{secrets.token_hex(12)}", secrets.token_urlsafe(32)
    made = ApiKey(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        key=key,
        name=validation.text(name, "name"),
        secret_encrypted=work.runtime.keys.encrypt(secret, api_key_binding(key)),
        expires_at=datetime.now(UTC) + timedelta(days=valid_days),
        roles=granted,
        scopes=_scopes(work, scopes, granted, tenant.path),
        allowed_networks=addresses.networks(allowed_networks, "allowedNetworks"),
    )
    work.session.add(made)
    await work.session.flush()
    return made, secret


def _check_days(days: int) -> None:
    if not 1 <= days <= 3_650:
        raise Refusal("INVALID", "validDays")


def _scopes(work: Work, given: Sequence[str], roles: Sequence[str], path: str) -> list[str]:
    """The coordinates that a key is limited to. UNKNOWN_SCOPE for one that names nothing of what its roles grant."""
    if len(given) > MAX_SCOPES:
        raise Refusal("TOO_MANY", "scopes", limit=MAX_SCOPES)
    granted = [f"{type}.{field}" for type, field, _ in work.runtime.access.grants_of(roles, path).reach]
    found = sorted({scope.strip() for scope in given})
    for scope in found:
        named = _SCOPE.fullmatch(scope) and any(
            name.startswith(scope[:-1]) if scope.endswith("*") else name == scope for name in granted
        )
        if not named:
            raise Refusal("UNKNOWN_SCOPE", "scopes", value=scope[:100])
    return found


async def _key(work: Work, key_id: int) -> ApiKey:
    """A key within reach that may do nothing that the caller may not; a new secret would else make somebody greater of
    who asks for it. ROLE_NOT_GRANTABLE otherwise."""
    found = await work.held(ApiKey, key_id)
    tenant = await work.session.get_one(Tenant, found.tenant_id)
    await check_takeable(work, found.roles, tenant)
    return found


def check_overlap(hours: int) -> timedelta:
    """How long a secret that is replaced still holds: not at all, or up to seven days."""
    if not 0 <= hours <= MAX_OVERLAP_HOURS:
        raise Refusal("INVALID", "overlapHours")
    return timedelta(hours=hours)


async def rotate_api_key(work: Work, key_id: int, overlap_hours: int) -> tuple[ApiKey, str]:
    """A new secret for a key. The one before holds for so many hours; one that was older ends at once."""
    overlap = check_overlap(overlap_hours)
    found = await _key(work, key_id)
    secret = secrets.token_urlsafe(32)
    found.previous_secret_encrypted = found.secret_encrypted if overlap else None
    found.previous_secret_until = datetime.now(UTC) + overlap if overlap else None
    found.secret_encrypted = work.runtime.keys.encrypt(secret, api_key_binding(found.key))
    return found, secret


async def restrict_api_key(
    work: Work, key_id: int, *, scopes: Sequence[str] | None, allowed_networks: Sequence[str] | None
) -> ApiKey:
    """The limits of a key from its next request on; None leaves a limit as it is, an empty list lifts it."""
    found = await _key(work, key_id)
    if scopes is not None:
        found.scopes = _scopes(work, scopes, found.roles, found.tenant_path)
    if allowed_networks is not None:
        found.allowed_networks = addresses.networks(allowed_networks, "allowedNetworks")
    return found


async def revoke_api_key(work: Work, key_id: int) -> ApiKey:
    found = await _key(work, key_id)
    found.status = ApiKeyStatus.REVOKED
    return found


async def extend_api_key(work: Work, key_id: int, days: int) -> ApiKey:
    """Moves a key's end ``days`` from now; its end will be told of anew."""
    _check_days(days)
    found = await _key(work, key_id)
    found.expires_at = datetime.now(UTC) + timedelta(days=days)
    found.expiry_notified_at = None
    return found


async def came_from_elsewhere(runtime: Runtime, principal: Principal, key: str, address: str | None) -> None:
    """Writes into the login log that a key's secret was used from an address that it is not allowed from (S1-28).

    Once a minute for each address, so that whoever has the secret cannot fill the log.
    """
    if not await runtime.redis.set(f"trellis:elsewhere:{key}:{address}", 1, nx=True, ex=TOLD_SECONDS):
        return
    log.warning("an API key was used from elsewhere", key=key, address=address)
    async with runtime.database.transaction(principal) as session:
        session.add(
            LoginRecord(
                tenant_id=principal.tenant_id,
                tenant_path=principal.path,
                login=key,
                door=principal.door,
                method=LoginMethod.API_KEY,
                outcome=LoginOutcome.WRONG_ADDRESS,
                ip=None if addresses.parsed(address) is None else address,
            )
        )


async def tell_of_expiring(database: Database) -> int:
    """Writes an event for each key that ends within two weeks, once; gives how many. Two at once share the keys."""
    async with database.transaction(system("keys about to end")) as session:
        ending = list(
            await session.scalars(
                select(ApiKey)
                .where(
                    ApiKey.status == ApiKeyStatus.ACTIVE,
                    ApiKey.expiry_notified_at.is_(None),
                    ApiKey.expires_at > func.now(),
                    ApiKey.expires_at <= func.now() + timedelta(days=NOTICE_DAYS),
                )
                .order_by(ApiKey.id)
                .with_for_update(skip_locked=True)
            )
        )
        for key in ending:
            key.expiry_notified_at = datetime.now(UTC)
            session.add(
                OutboxEvent(
                    tenant_id=key.tenant_id, tenant_path=key.tenant_path, topic=EXPIRING, payload={"api_key": key.id}
                )
            )
        return len(ending)
