"""What the demo's merchants are and have sold: taken on by the specialists, with a contract, a deposit, coupons, and
orders paid at the counter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from models.contracts import Contract
from models.coupons import CouponScope, CouponType
from models.identity import StaffAccount
from models.tenancy import Tenant
from server.demo_sales import pay_in
from server.demo_staff import principal_of
from services import contracts, coupons, deposits, merchant_orders, merchants
from services.merchant_orders import Buyer, Wanted
from services.runtime import Runtime, Work

SPECIALISTS = {
    "merchant-desk": "bank_merchant",
    "contract-desk": "bank_contract",
    "deposit-desk": "bank_deposit",
    "coupon-desk": "bank_coupon",
}
"""Who of the platform's staff keeps an eye on merchants, and as what."""
CONTRACT = """{merchant}, which is of the type {merchantType}, sells to the public through its mini-program
{wechatAppId} from {day} on, at the prices that it shows, and gives back what it does not deliver."""
OFFERS = {
    "tea": (("Pot of tea", "drinks", "28"), ("Rice cake", "food", "12")),
    "rink": (("Hour on the ice", "skating", "60"), ("Skating lesson", "lessons", "180")),
}
APP_IDS = {"tea": "wx0000000000000001", "rink": "wx0000000000000002"}


@dataclass(frozen=True)
class Market:
    """An operator, and the merchants that it operates by the login of each."""

    platform: Tenant
    operator: Tenant
    merchants: Mapping[str, Tenant]


async def trade(session: AsyncSession, runtime: Runtime, market: Market) -> None:
    """Everybody does what is theirs, once."""
    desks = {
        role: Work(
            principal_of(runtime, market.platform, await _account(session, login), role, "admin"),
            session,
            runtime=runtime,
        )
        for login, role in SPECIALISTS.items()
    }
    kind = await merchants.create_type(
        desks["bank_merchant"],
        code="shop",
        name="Shop",
        form_fields=[merchants.FormField("owner", "Who owns it", required=True)],
        required_documents=[],
        page_variant=None,
    )
    desk = desks["bank_contract"]
    template = await contracts.save_template(
        desk, code="standard", name="Standard contract", scenario="retail", body=CONTRACT
    )
    await contracts.publish(desk, template.id)
    await contracts.link(desk, kind.id, template.id)
    for login, merchant in market.merchants.items():
        account = await _account(session, login)
        work = Work(principal_of(runtime, merchant, account, "merchant_admin", "merchant"), session, runtime=runtime)
        application = await merchants.save_application(
            work, type_id=kind.id, wechat_app_id=APP_IDS[login], answers=[("owner", "Demo Owner")], documents=[]
        )
        await merchants.submit(work, application.id)
        await merchants.approve(desks["bank_merchant"], application.id)
        contract = (await session.scalars(select(Contract.id).where(Contract.tenant_id == merchant.id))).one()
        await contracts.sign(work, contract)
        await deposits.set_terms(desks["bank_deposit"], merchant.id, Decimal(500), "A shop in a mall.")
        await pay_in(session, market.platform, merchant)
        await deposits.pay(work, Decimal(300))
        await _coupons(work, desks["bank_coupon"])
        await _sell(work, login)


async def _account(session: AsyncSession, login: str) -> StaffAccount:
    return (await session.scalars(select(StaffAccount).where(StaffAccount.login == login))).one()


async def _coupons(work: Work, desk: Work) -> None:
    now = datetime.now(UTC)
    asked = await coupons.apply(
        work,
        {
            "name": "Opening weeks",
            "scope": CouponScope.ALL_CATEGORY,
            "category": None,
            "coupon_type": CouponType.THRESHOLD_OFF,
            "threshold": Decimal(50),
            "amount_off": Decimal(10),
            "percent_off": None,
            "quantity": 20,
            "valid_from": now,
            "valid_until": now + timedelta(days=60),
        },
    )
    await coupons.approve(desk, asked.id)


async def _sell(work: Work, login: str) -> None:
    items = [
        (await merchant_orders.create_item(work, name=name, category=category, price=Decimal(price))).id
        for name, category, price in OFFERS[login]
    ]
    for number, name in enumerate(("Wang", "Li", "Zhao"), 1):
        wanted = [Wanted(items[0], number), Wanted(items[1], 1)]
        order = await merchant_orders.place(
            work,
            wanted,
            Buyer(name, f"1380000000{number}"),
            seller_id=None,
            coupon_code=None,
            source="demo",
            remark=None,
        )
        await merchant_orders.take_cash(work, order.id)
