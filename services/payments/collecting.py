"""Who collects: merchants' accounts with payment channels, and their keys, which are kept encrypted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateways.payment import Channel, Merchant, channels
from models.catalog import CatalogStatus
from models.payments import PaymentChannel, PaymentChannelKind
from services import ledger, validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.keys import Keys
from services.refusal import Refusal
from services.runtime import Unit, Work

CHANNEL_CONSTRAINT = "uq_payment_channel_kind_merchant_id_app_id"
MAX_KEY = 10_000
API_KEY_LENGTH = 32
REQUIRED = {
    PaymentChannelKind.WECHAT_PAY: ("private_key", "api_key"),
    PaymentChannelKind.ALIPAY: ("private_key", "channel_key"),
}
FIELDS = {"private_key": "privateKey", "api_key": "apiV3Key", "channel_key": "channelPublicKey"}


def keys_binding(channel: PaymentChannel) -> str:
    return f"payment_channel:{channel.tenant_id}:{channel.kind.name}:{channel.merchant_id}:{channel.app_id}"


async def create(work: Work, kind: PaymentChannelKind, values: dict[str, Any], keys: dict[str, str]) -> PaymentChannel:
    """A merchant's account through which the caller's company collects from now on.

    REQUIRED, INVALID_KEY for keys that are missing or none; TAKEN where the account is there already.
    """
    tenant = await tenant_for(work, None)
    channel = PaymentChannel(tenant_id=tenant.id, tenant_path=tenant.path, kind=kind, **_checked(values))
    _check_whole(channel, keys)
    channel.keys_encrypted = work.runtime.keys.encrypt(orjson.dumps(keys).decode(), keys_binding(channel))
    work.session.add(channel)
    async with told_apart(work.session, {CHANNEL_CONSTRAINT: ("merchantId", channel.merchant_id)}):
        await work.session.flush()
    return channel


async def update(work: Work, key: int, changes: dict[str, Any], keys: dict[str, str]) -> PaymentChannel:
    """Changes what is given; keys that are left out stay as they are."""
    channel = await work.held(PaymentChannel, key)
    for name, value in _checked(changes).items():
        setattr(channel, name, value)
    kept = {**_keys_of(work.runtime.keys, channel), **keys}
    _check_whole(channel, kept)
    if keys:
        channel.keys_encrypted = work.runtime.keys.encrypt(orjson.dumps(kept).decode(), keys_binding(channel))
    await work.session.flush()
    return channel


async def collecting(work: Unit, kind: PaymentChannelKind, *, app_id: str | None = None) -> PaymentChannel:
    """The platform's account with a channel, of one application where it must be that; else NO_CHANNEL."""
    root = await ledger.platform(work)
    query = (
        select(PaymentChannel)
        .where(
            PaymentChannel.tenant_id == root.id,
            PaymentChannel.kind == kind,
            PaymentChannel.status == CatalogStatus.ACTIVE,
        )
        .order_by(PaymentChannel.id)
        .limit(1)
    )
    if app_id is not None:
        query = query.where(PaymentChannel.app_id == app_id)
    found = await work.session.scalar(query)
    if found is None:
        raise Refusal("NO_CHANNEL", "channel", value=kind.name)
    return found


async def channel_by(session: AsyncSession, key: int) -> PaymentChannel | None:
    return await session.scalar(select(PaymentChannel).where(PaymentChannel.id == key))


def speaking(keys: Keys, channel: PaymentChannel) -> Channel:
    """The adapter of a merchant's account."""
    told = _keys_of(keys, channel)
    merchant = Merchant(
        app_id=channel.app_id,
        merchant_id=channel.merchant_id,
        private_key=told["private_key"],
        serial_no=channel.serial_no,
        key=told.get("api_key"),
        channel_key=told.get("channel_key"),
        channel_key_id=channel.channel_key_id,
    )
    return channels.of(channel.kind.name, merchant)


def _keys_of(keys: Keys, channel: PaymentChannel) -> dict[str, str]:
    found: dict[str, str] = orjson.loads(keys.decrypt(channel.keys_encrypted, keys_binding(channel)))
    return found


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "app_id": lambda v: validation.text(v, "appId", limit=64),
        "merchant_id": lambda v: validation.text(v, "merchantId", limit=64),
        "serial_no": lambda v: validation.optional(v, "certificateSerialNo", limit=64),
        "channel_key_id": lambda v: validation.optional(v, "channelPublicKeyId", limit=64),
    }
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}


def _check_whole(channel: PaymentChannel, keys: dict[str, str]) -> None:
    """Whether the keys are all there, and are keys; they are brought into the form that is kept."""
    for name in REQUIRED[channel.kind]:
        if not keys.get(name):
            raise Refusal("REQUIRED", FIELDS[name])
    if channel.kind is PaymentChannelKind.WECHAT_PAY:
        if not channel.serial_no:
            raise Refusal("REQUIRED", "certificateSerialNo")
        if len(keys["api_key"].encode()) != API_KEY_LENGTH:
            raise Refusal("INVALID_KEY", FIELDS["api_key"])
        if (channel.channel_key_id is None) != ("channel_key" not in keys):
            raise Refusal("REQUIRED", "channelPublicKeyId" if channel.channel_key_id is None else FIELDS["channel_key"])
    writers: dict[str, Callable[[bytes], str]] = {"private_key": _private, "channel_key": _public}
    for name, write in writers.items():
        if name in keys:
            try:
                keys[name] = write(keys[name][:MAX_KEY].encode())
            except (ValueError, TypeError):
                raise Refusal("INVALID_KEY", FIELDS[name]) from None


def _private(pem: bytes) -> str:
    """A private RSA key, in the one form that the channels' libraries read."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _public(pem: bytes) -> str:
    key = load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey):
        raise TypeError
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
