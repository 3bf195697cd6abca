"""By how much usage is shown greater than it is: to a customer by its own ratio, else by that of the nearest above it,
else by what the platform's parameter says (S0-56).

The database is the truth. What was worked out is kept in Redis under the number of the last change: whoever worked it
out from what was there before keeps it under a number that nobody asks for any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import redis.asyncio as redis
import structlog
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT

from authz.principal import ROOT_PATH, system
from models.tenancy import Tenant, TenantKind
from models.usage import UsageRatio
from services import ledger, parameters
from services.refusal import Refusal
from services.runtime import Runtime, Work

DEFAULT = "usage.amplification"
LEAST, MOST = Decimal(1), Decimal(100)
GENERATION = "trellis:usage-ratio:generation"
KEPT_SECONDS = 60

NEAREST = text("""
SELECT DISTINCT ON (c.tenant_id) c.tenant_id, r.ratio
FROM tenant_closure c JOIN usage_ratio r ON r.customer_id = c.ancestor_id
WHERE c.tenant_id = ANY (:tenants) ORDER BY c.tenant_id, c.depth
""").bindparams(bindparam("tenants", type_=ARRAY(BIGINT)))
"""The ratio that is nearest to each tenant, its own first."""

log = structlog.get_logger()


async def set_ratio(work: Work, tenant_id: int, ratio: Decimal | None) -> UsageRatio | None:
    """What a customer's usage is multiplied by where it is shown to it; None takes its own ratio away (S0-56).

    OUT_OF_RANGE below 1 or above 100; at most four places.
    """
    customer = await work.found(Tenant, tenant_id, Tenant.kind != TenantKind.PLATFORM, field="customer")
    found = await work.session.scalar(select(UsageRatio).where(UsageRatio.customer_id == customer.id).with_for_update())
    work.usage_ratios_changed = True
    if ratio is None:
        if found is not None:
            await work.session.delete(found)
        return None
    if not ratio.is_finite() or not LEAST <= ratio <= MOST:
        raise Refusal("OUT_OF_RANGE", "ratio", value="ratio", least=LEAST, most=MOST)
    if ratio != ratio.quantize(Decimal("0.0001")):
        raise Refusal("INVALID", "ratio")
    if found is None:
        root = await ledger.platform(work)
        found = UsageRatio(tenant_id=root.id, tenant_path=root.path, customer_id=customer.id)
        work.session.add(found)
    found.ratio = ratio
    await work.session.flush()
    return found


async def inherited(work: Work, tenant_id: int) -> Decimal:
    """The ratio of a customer that has none of its own."""
    async with work.as_the_system("usage ratios"):
        found = (await work.session.execute(NEAREST, {"tenants": [tenant_id]})).first()
    return (await _default(work.runtime)) if found is None else Decimal(found[1])


async def changed(server: redis.Redis) -> None:
    """What was worked out before counts no longer; it is forgotten by itself within a minute where Redis fails."""
    try:
        await server.incr(GENERATION)
    except (redis.RedisError, OSError) as error:
        log.warning("a change of usage ratios could not be told", error=str(error))


async def effective(runtime: Runtime, tenants: Iterable[int]) -> Mapping[int, Decimal]:
    """The ratio by which each tenant is shown its usage."""
    wanted = sorted(set(tenants))
    if not wanted:
        return {}
    kept, generation = await _kept(runtime.redis, wanted)
    missing = [tenant for tenant in wanted if tenant not in kept]
    if not missing:
        return kept
    async with runtime.database.transaction(system("usage ratios")) as session:
        default = await _default(runtime)
        rows = await session.execute(NEAREST, {"tenants": missing})
        nearest: dict[int, Decimal] = {row.tenant_id: row.ratio for row in rows}
    found = {tenant: nearest.get(tenant, default) for tenant in missing}
    if generation is not None:
        await _keep(runtime.redis, generation, found)
    return {**kept, **found}


def shown(used_kb: int, ratio: Decimal) -> int:
    """What is shown of some usage, in whole KB."""
    return int((used_kb * ratio).quantize(Decimal(1), ROUND_HALF_UP))


async def _default(runtime: Runtime) -> Decimal:
    found = await parameters.effective(runtime, DEFAULT, ROOT_PATH)
    assert isinstance(found.value, Decimal)
    return min(max(found.value, LEAST), MOST)


async def _kept(server: redis.Redis, tenants: list[int]) -> tuple[dict[int, Decimal], str | None]:
    """What is kept, and under which number; nothing and None while Redis does not answer."""
    try:
        number = await server.get(GENERATION)
        generation = "0" if number is None else _text(number)
        values = await server.mget([_key(generation, tenant) for tenant in tenants])
        found = {
            tenant: Decimal(_text(value)) for tenant, value in zip(tenants, values, strict=True) if value is not None
        }
    except (redis.RedisError, OSError, InvalidOperation) as error:
        log.warning("usage ratios are not kept; asking the database", error=str(error))
        return {}, None
    return found, generation


async def _keep(server: redis.Redis, generation: str, found: Mapping[int, Decimal]) -> None:
    try:
        async with server.pipeline(transaction=False) as pipe:
            for tenant, ratio in found.items():
                pipe.set(_key(generation, tenant), str(ratio), ex=KEPT_SECONDS)
            await pipe.execute()
    except (redis.RedisError, OSError) as error:
        log.warning("usage ratios could not be kept", error=str(error))


def _key(generation: str, tenant: int) -> str:
    return f"trellis:usage-ratio:{generation}:{tenant}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
