"""Rows of every kind, marked like the tenants that own them: for tests that ask everything of everybody."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from models.agreements import Agreement, AgreementConsent
from models.bills import (
    CounterpartyKind,
    MonthlyBill,
    SettlementLine,
    SettlementLineKind,
    SettlementStatement,
    StatementStatus,
)
from models.carrier_requests import CarrierAction, CarrierRequest
from models.catalog import Carrier, CatalogStatus, Outlet, OutletType, Supplier, SupplierType
from models.commission import (
    CommissionEntry,
    CommissionEntryStatus,
    CommissionRate,
    CommissionSettlement,
    CustomerPrice,
)
from models.contracts import Contract, ContractStatus, ContractTemplate, ContractTemplateStatus
from models.coupons import Coupon, CouponApplication, CouponApplicationStatus, CouponScope, CouponType
from models.deposits import DepositMovement, DepositMovementKind, DepositTerms
from models.dictionaries import DictionaryItem, DictionaryType
from models.direct_orders import DirectOrder, UpstreamFamily
from models.guidance import HelpKind, HelpTopic, MembershipGrant, MembershipSource
from models.identity import (
    Department,
    LoginApp,
    LoginBinding,
    LoginProvider,
    LoginSession,
    RecoveryCode,
    Role,
    RolePolicy,
    StaffAccount,
)
from models.ledger import LedgerAccount, LedgerAccountKind, LedgerEntry, LedgerTransfer, TopUp, TransferKind
from models.merchant_orders import ItemOrder, ItemOrderLine, MerchantItem
from models.merchants import (
    MerchantType,
    OnboardingApplication,
    OnboardingDocument,
    OnboardingStatus,
)
from models.network_devices import NetworkDevice, NetworkDeviceLicense, NetworkDeviceStatus, NetworkDeviceType
from models.orders import (
    CommissionStatus,
    OrderLine,
    OrderStatus,
    PackageOrder,
    PackageSubscription,
    PayType,
    RenewalOrder,
    SubscriptionStatus,
)
from models.packet_gateways import PacketGateway, PacketGatewayType
from models.parameters import (
    ParameterOverride,
    ParameterType,
    SystemParameter,
)
from models.payments import (
    DifferenceKind,
    Payment,
    PaymentChannel,
    PaymentChannelKind,
    PaymentDifference,
    PaymentMethod,
    PaymentPurpose,
    PaymentReconciliation,
    PaymentRefund,
    PaymentStatus,
    RefundCause,
    RefundStatus,
)
from models.permissions import (
    MenuItem,
    MenuKind,
    MenuPermission,
    PermissionTemplate,
    Position,
    RoleDepartment,
    RoleMenu,
    StaffPosition,
    TenantModule,
)
from models.plan_changes import PlanChangeStatus, SimPlanChange
from models.pricing import (
    BillingProduct,
    BillingProductKind,
    ExchangeRate,
    OrderComponent,
    OrderLevelPrice,
    PackageComponent,
    ServiceKind,
)
from models.real_name import RealNameRecord, RealNameStatus
from models.system import (
    FilePurpose,
    IdempotentResult,
    OperationRecord,
    OutboxEvent,
    StoredFile,
)
from models.telling import RequestStatus
from models.tenancy import (
    Language,
    Tenant,
)
from models.tracking import (
    BehaviourEvent,
)
from models.usage import (
    DailyStatistic,
    DailyUsage,
    FirstSession,
    IntervalStatistic,
    MonthlyStatistic,
    MonthlyUsage,
    RetainedTable,
    RetentionMode,
    RetentionPolicy,
    SessionDay,
    SessionRecord,
    UsageRatio,
)
from models.webhook import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookStatus,
)
from models.withdrawals import Withdrawal, WithdrawalStatus
from tests.support.world import ACTORS, FAR_AHEAD, World, mark


async def furnish(world: World) -> None:
    """Rows of every kind, with what is rarely given."""
    await mark_the_rest(world)
    await world.sql("UPDATE help_topic SET block_key = 'grid' || id, role = 'agent_admin' WHERE id % 2 = 0")
    await world.sql("UPDATE api_key SET expiry_notified_at = now() - id * interval '1 hour' WHERE id % 2 = 0")
    await world.sql("UPDATE tenant SET phone = '0571 8888' || id WHERE id % 3 <> 0")
    await world.sql(
        """UPDATE task t SET account_id = a.id FROM staff_account a
           WHERE a.tenant_id = t.tenant_id AND t.id % 2 = 0"""
    )
    await world.sql(
        """UPDATE withdrawal w SET status = 'PAID', paid_on = date '2026-01-05' + w.id::int, transfer_id = t.id
           FROM ledger_transfer t WHERE t.tenant_id = w.tenant_id AND w.id % 2 = 0"""
    )
    await world.sql(
        """UPDATE sales_order o SET task_id = t.id, task_part = o.id FROM task t
           WHERE t.tenant_id = o.tenant_id AND o.id % 2 = 0"""
    )
    await world.sql(
        """UPDATE tenant t SET merchant_type_id = m.id FROM merchant_type m
           WHERE m.tenant_id = t.id AND t.kind = 'MERCHANT' AND t.id % 2 = 0"""
    )
    await world.sql(
        """UPDATE commission_settlement s SET order_id = o.id FROM sales_order o
           WHERE o.tenant_id = s.tenant_id AND o.status = 'PAID' AND s.id % 2 = 0"""
    )
    for log in ("login_record", "operation_record"):
        await world.sql(
            f"""UPDATE {log} r SET account_id = a.id, real_account_id = a.id FROM staff_account a
                WHERE a.tenant_id = r.tenant_id"""
        )
    await world.sql(
        """UPDATE staff_account a SET department_id = d.id FROM department d
           WHERE d.tenant_id = a.tenant_id AND a.id % 2 = 0"""
    )


async def mark_the_rest(world: World) -> None:
    """Gives every tenant marked rows in the tables that `sow` leaves empty or to the platform alone."""
    database = world.client.application.runtime.database
    async with database.transaction(system("marks")) as session:
        for account in await session.scalars(select(StaffAccount)):
            name = next(n for n, tenant in world.tenants.items() if tenant.id == account.tenant_id)
            account.name = f"{account.login} {mark(name)}"
            session.add(
                RecoveryCode(
                    tenant_id=account.tenant_id,
                    tenant_path=account.tenant_path,
                    account_id=account.id,
                    code_hash=b"never given out",
                )
            )
            session.add(
                LoginBinding(
                    tenant_id=account.tenant_id,
                    tenant_path=account.tenant_path,
                    account_id=account.id,
                    provider=LoginProvider.GITEE,
                    app_id="gitee",
                    subject=f"{account.login} {mark(name)}",
                )
            )
            session.add(
                LoginSession(
                    tenant_id=account.tenant_id,
                    tenant_path=account.tenant_path,
                    key=uuid.uuid4(),
                    account_id=account.id,
                    door=ACTORS[account.login].door,
                    refresh_hash=b"never given out",
                    expires_at=datetime.now(UTC) + timedelta(days=1),
                    user_agent=f"Browser {mark(name)}",
                )
            )
        platform = world.tenants["platform"]
        receipts = LedgerAccount(
            tenant_id=platform.id,
            tenant_path=platform.path,
            kind=LedgerAccountKind.RECEIPTS,
            currency="USD",
            floor=None,
        )
        session.add(receipts)
        await session.flush()
        for name, tenant in world.tenants.items():
            owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
            role = Role(**owner, name=f"Role {mark(name)}", remark=mark(name))
            template = PermissionTemplate(**owner, key=f"template-{tenant.id}", name="Template")
            post = Position(**owner, code=mark(name), name=f"Position {mark(name)}")
            session.add_all(
                [
                    role,
                    template,
                    post,
                    TenantModule(**owner, module=f"module-{tenant.id}", enabled=True, page_variant="plain"),
                ]
            )
            held = LedgerAccount(**owner, kind=LedgerAccountKind.PREPAYMENT, currency="USD", floor=Decimal(0))
            moved = LedgerTransfer(
                **owner, kind=TransferKind.OPENING, idempotency_key=f"opening:{tenant.id}", memo=mark(name)
            )
            session.add_all([held, moved])
            await session.flush()
            session.add_all(
                [
                    LedgerEntry(**owner, transfer_id=moved.id, ledger_account_id=held.id, amount=Decimal(5)),
                    LedgerEntry(
                        tenant_id=receipts.tenant_id,
                        tenant_path=receipts.tenant_path,
                        transfer_id=moved.id,
                        ledger_account_id=receipts.id,
                        amount=Decimal(-5),
                    ),
                    TopUp(
                        **owner,
                        amount=Decimal(5),
                        currency="USD",
                        received_on=date(2026, 1, 5),
                        reference=mark(name),
                    ),
                ]
            )
            session.add(
                CommissionRate(
                    **owner,
                    data_package_id=world.packages["CM-M-1G"].id,
                    percent=Decimal(3 * tenant.id % 7),
                    creator_id=tenant.parent_id or tenant.id,
                )
            )
            session.add(
                CustomerPrice(
                    **owner,
                    data_package_id=world.packages["CM-M-1G"].id,
                    price=Decimal(5 * tenant.id % 11),
                    creator_id=tenant.parent_id or tenant.id,
                )
            )
            await _bought(session, world, name, tenant)
            await _sold(session, name, tenant)
            dictionary = DictionaryType(**owner, key=mark(name), name=f"Dictionary {mark(name)}")
            parameter = SystemParameter(
                **owner, key=mark(name), name="", value=mark(name), value_type=ParameterType.STRING
            )
            session.add_all(
                [
                    dictionary,
                    parameter,
                    HelpTopic(
                        **owner,
                        kind=HelpKind.GUIDE,
                        page_key="start",
                        language=Language.ZH_CN,
                        version=1,
                        title=f"Help {mark(name)}",
                        body=mark(name),
                    ),
                    MembershipGrant(**owner, until=date(2030, 1, 1), source=MembershipSource.GIFT, remark=mark(name)),
                    BehaviourEvent(
                        **owner,
                        at=datetime.now(UTC),
                        event=mark(name),
                        page_key="start",
                        properties={},
                        door="agent",
                        caller=mark(name),
                    ),
                ]
            )
            agreement = Agreement(**owner, document="terms", version="1", title="Terms", text="What is agreed.")
            session.add_all(
                [
                    agreement,
                    LoginApp(
                        **owner,
                        provider=LoginProvider.WECHAT_MINI_PROGRAM,
                        app_id=f"wx {mark(name)}",
                        secret_encrypted=b"never given out",
                    ),
                    Outlet(
                        **owner,
                        name=f"Kiosk {mark(name)}",
                        province="江苏",
                        outlet_type=OutletType.CMCC_OUTLET,
                        contact_name=mark(name),
                    ),
                    Supplier(
                        **owner,
                        supplier_type=SupplierType.DISTRIBUTOR,
                        name=f"Supplier {mark(name)}",
                        interface_name="manual",
                        remark=mark(name),
                    ),
                    StoredFile(
                        **owner,
                        sha256="0" * 64,
                        md5="0" * 32,
                        name=f"{mark(name)}.xlsx",
                        content_type="text/plain",
                        size=0,
                    ),
                    NetworkDevice(
                        **owner,
                        name=f"Access point {mark(name)}",
                        mac_address=f"02:00:00:00:00:{tenant.id:02x}",
                        serial_number=f"SN{tenant.id:04d}",
                        site_key="site-1",
                        device_type=NetworkDeviceType.ACCESS_POINT,
                        model="EAP670",
                        tag_name=f"Tag {mark(name)}",
                        ip_address=f"192.168.0.{tenant.id}",
                        firmware_version="1.0.3",
                        license_status=NetworkDeviceLicense.ACTIVE,
                        status=NetworkDeviceStatus.CONNECTED if tenant.id % 2 else NetworkDeviceStatus.ISOLATED,
                        last_seen_at=datetime(2026, 1, 1, 12, 30, tenant.id % 60, tzinfo=UTC),
                        cpu_utilisation=tenant.id % 100,
                        memory_utilisation=tenant.id % 50,
                    ),
                    OperationRecord(
                        **owner,
                        request_id=mark(name),
                        door="agent",
                        mutation=f"mutation of {mark(name)}",
                        arguments={"mark": mark(name)},
                        reason=mark(name),
                        changes=[
                            {
                                "type": "Department",
                                "id": None,
                                "action": "CHANGED",
                                "field": "name",
                                "before": mark(name),
                                "after": mark(name),
                                "rows": None,
                            }
                        ],
                        outcome="SUCCEEDED",
                        duration_ms=1,
                    ),
                    OutboxEvent(**owner, topic=mark(name), payload={"mark": mark(name)}, sent_at=datetime.now(UTC)),
                    IdempotentResult(
                        **owner,
                        caller=mark(name),
                        mutation="none",
                        idempotency_key=mark(name),
                        request_digest=b"",
                    ),
                ]
            )
            endpoint = WebhookEndpoint(
                **owner,
                url=f"https://192.0.2.1/{mark(name)}",
                events=["SIM_ALLOCATED"],
                secret_encrypted=b"",
                status=WebhookStatus.DISABLED,
            )
            session.add(endpoint)
            await session.flush()
            delivery = WebhookDelivery(
                **owner, endpoint_id=endpoint.id, event_key=mark(name), event_type="ping", body="{}", attempt_limit=1
            )
            session.add(delivery)
            await session.flush()
            session.add(
                WebhookAttempt(**owner, delivery_id=delivery.id, at=datetime.now(UTC), duration_ms=1, answer=mark(name))
            )
            session.add(RolePolicy(**owner, role_id=role.id, obj="SimCard.id", act="read", scope="subtree"))
            menu = MenuItem(**owner, template_id=template.id, kind=MenuKind.MENU, key="own", name="menu.own")
            session.add(menu)
            await session.flush()
            department = await session.scalar(select(Department).where(Department.tenant_id == tenant.id))
            assert department is not None
            session.add_all(
                [
                    MenuPermission(**owner, menu_id=menu.id, coordinate="SimCard.id"),
                    RoleMenu(**owner, role_id=role.id, menu_id=menu.id),
                    RoleDepartment(**owner, role_id=role.id, department_id=department.id),
                ]
            )
            member = await session.scalar(select(StaffAccount.id).where(StaffAccount.tenant_id == tenant.id).limit(1))
            session.add(StaffPosition(**owner, account_id=member, position_id=post.id))
            session.add_all(
                [
                    DictionaryItem(**owner, type_id=dictionary.id, value=mark(name), label_zh_cn=mark(name)),
                    ParameterOverride(**owner, parameter_id=parameter.id, value=mark(name)),
                ]
            )
            session.add(
                AgreementConsent(
                    **owner,
                    agreement_id=agreement.id,
                    document="terms",
                    version=mark(name),
                    end_user_id=world.end_users[name].id,
                )
            )
    await world.client.application.runtime.access.changed(policies=True)


async def _bought(session: AsyncSession, world: World, name: str, tenant: Tenant) -> None:
    """An order of each tenant, paid by every other one, with what it put on a card and brought an agent."""
    owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    package, card = world.packages["CM-M-1G"], world.cards[name][0]
    at = datetime(2026, 2, 1, 12, 30, tenant.id % 60, tzinfo=UTC)
    paid = tenant.id % 2 == 0
    order = PackageOrder(
        **owner,
        status=OrderStatus.PAID if paid else OrderStatus.AWAITING_PAYMENT,
        amount=Decimal(tenant.id),
        currency="CNY",
        source="agent" if paid else "partner",
        pay_type=PayType.BALANCE if paid else None,
        paid_at=at if paid else None,
        expires_at=FAR_AHEAD,
        commission_status=CommissionStatus.SHARED if paid else CommissionStatus.NONE,
        remark=mark(name),
    )
    session.add(order)
    await session.flush()
    renewal = RenewalOrder(
        **owner,
        end_user_id=world.end_users[name].id,
        sim_card_id=card.id,
        data_package_id=package.id,
        phone=f"13800{tenant.id:06d}",
        bound_at=at,
        status=OrderStatus.PAID if paid else OrderStatus.EXPIRED,
        pay_type=PayType.WECHAT_PAY if paid else None,
        paid_at=at if paid else None,
        amount=Decimal(tenant.id),
        currency="CNY",
        source="wechat",
        expires_at=at,
        closed_at=None if paid else at,
        remark=mark(name),
    )
    session.add(renewal)
    await session.flush()
    await _paid(session, world, name, tenant, renewal)
    line = OrderLine(
        **owner,
        order_id=order.id,
        sim_card_id=card.id,
        data_package_id=package.id,
        name=mark(name),
        period_type=package.period_type,
        data_volume_mb=package.data_volume_mb,
        price=order.amount,
    )
    settled = CommissionSettlement(
        **owner,
        month=date(2026, tenant.id % 12 + 1, 1),
        currency="CNY",
        entry_count=1,
        earned=Decimal(tenant.id),
        amount=Decimal(tenant.id),
    )
    gateway = PacketGateway(
        **owner,
        code=f"pgw-{tenant.id}",
        name=f"Gateway {mark(name)}",
        gateway_type=PacketGatewayType.PGW if paid else PacketGatewayType.LNS,
        enterprise_id=tenant.id,
        remark=mark(name),
    )
    session.add(gateway)
    await session.flush()
    _used(session, world, name, tenant, gateway)
    part = BillingProduct(
        **owner,
        kind=BillingProductKind.INTERNAL if paid else BillingProductKind.DIRECT_CHANNEL,
        service=ServiceKind.DATA if paid else ServiceKind.SMS,
        code=mark(name),
        name=f"Product {mark(name)}",
        cost=Decimal(tenant.id),
        currency="CNY" if paid else "USD",
        supplier_id=world.suppliers[Carrier.CMCC].id,
        upstream_article=mark(name),
    )
    session.add_all([line, settled, part])
    await session.flush()
    session.add(
        CarrierRequest(
            **owner,
            sim_card_id=card.id,
            action=CarrierAction.CHANGE_PLAN if paid else CarrierAction.SUSPEND,
            plan=mark(name) if paid else None,
            carrier_no=mark(name),
            status=RequestStatus.SUCCEEDED if paid else RequestStatus.UNKNOWN,
            request_no=mark(name),
            last_response=mark(name),
            next_attempt_at=FAR_AHEAD,
            finished_at=at if paid else None,
        )
    )
    session.add(
        DirectOrder(
            **owner,
            order_id=order.id,
            order_line_id=line.id,
            sim_card_id=card.id,
            billing_product_id=part.id,
            family=UpstreamFamily.PID if paid else UpstreamFamily.SMART,
            service=part.service,
            article=mark(name),
            target=mark(name),
            card_no=mark(name),
            quantity=tenant.id,
            status=RequestStatus.SUCCEEDED if paid else RequestStatus.UNKNOWN,
            request_no=mark(name),
            next_attempt_at=FAR_AHEAD,
            finished_at=at if paid else None,
        )
    )
    await _billed(session, world, name, tenant)
    session.add_all(
        [
            PackageComponent(**owner, data_package_id=package.id, billing_product_id=part.id, quantity=tenant.id),
            OrderComponent(
                **owner,
                order_id=order.id,
                billing_product_id=part.id,
                name=mark(name),
                quantity=1,
                cost=Decimal(1),
                currency="CNY",
                exchange_rate=Decimal(1),
            ),
            ExchangeRate(
                **owner,
                from_currency=f"X{name[:1].upper()}{tenant.id % 10}",
                to_currency=mark(name),
                rate=Decimal(tenant.id),
                effective_from=at,
            ),
            SimPlanChange(
                **owner,
                sim_card_id=card.id,
                to_package_id=world.packages["CM-M-30M"].id,
                status=PlanChangeStatus.APPLIED if paid else PlanChangeStatus.PENDING,
                effective_on=date(2026, tenant.id % 12 + 1, 1),
                time_zone="UTC",
                closed_at=at if paid else None,
            ),
            Withdrawal(
                **owner,
                amount=Decimal(tenant.id),
                currency="CNY",
                status=WithdrawalStatus.APPROVED if paid else WithdrawalStatus.REQUESTED,
                payee=mark(name),
                bank="Bank",
                bank_account=f"62220000{tenant.id:04d}",
            ),
            PackageSubscription(
                **owner,
                sim_card_id=card.id,
                data_package_id=package.id,
                order_line_id=line.id,
                data_volume_mb=line.data_volume_mb,
                period_type=line.period_type,
                time_zone="UTC",
                status=SubscriptionStatus.ACTIVE if paid else SubscriptionStatus.WAITING,
                starts_at=at if paid else None,
                ends_at=at + timedelta(days=28) if paid else None,
            ),
            OrderLevelPrice(**owner, order_id=order.id, depth=0, price=Decimal(5 * tenant.id % 11)),
            CommissionEntry(
                **owner,
                order_id=order.id,
                order_line_id=line.id,
                status=CommissionEntryStatus.CREDITED if paid else CommissionEntryStatus.PENDING,
                price=order.amount,
                currency="CNY",
                percent=Decimal(10),
                percent_below=Decimal(0),
                revenue=order.amount,
                cost=order.amount * 9 / 10,
                amount=order.amount / 10,
                settlement_id=settled.id if paid else None,
            ),
        ]
    )


async def _sold(session: AsyncSession, name: str, tenant: Tenant) -> None:
    """What each tenant would have as a merchant: a type and a contract, an application, a deposit, coupons, an item
    and an order of it, paid by every other one."""
    owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    paid, amount = tenant.id % 2 == 0, Decimal(tenant.id)
    at = datetime(2026, 2, 1, 12, 30, tenant.id % 60, tzinfo=UTC)
    seller = await session.scalar(select(StaffAccount.id).where(StaffAccount.tenant_id == tenant.id).limit(1))
    template = ContractTemplate(
        **owner,
        code=f"contract-{tenant.id}",
        version=tenant.id,
        name="Contract",
        scenario="shops" if paid else "services",
        body="What is agreed.",
        status=ContractTemplateStatus.PUBLISHED if paid else ContractTemplateStatus.DRAFT,
        published_at=at if paid else None,
    )
    file = StoredFile(
        **owner,
        sha256=f"{tenant.id:064x}",
        name=f"{mark(name)}.pdf",
        content_type="application/pdf",
        size=tenant.id,
        purpose=FilePurpose.DOCUMENT,
    )
    asked = CouponApplication(
        **owner,
        name=mark(name),
        scope=CouponScope.ALL_CATEGORY if paid else CouponScope.SINGLE_CATEGORY,
        category=None if paid else mark(name),
        coupon_type=CouponType.DEDUCTION,
        amount_off=amount,
        currency="CNY",
        quantity=1,
        valid_from=at,
        valid_until=at + timedelta(days=tenant.id),
        status=CouponApplicationStatus.APPROVED if paid else CouponApplicationStatus.SUBMITTED,
        reviewed_at=at if paid else None,
    )
    moved = LedgerTransfer(**owner, kind=TransferKind.DEPOSIT, idempotency_key=f"deposit:{name}")
    item = MerchantItem(**owner, name=mark(name), category=mark(name), price=amount, currency="CNY")
    session.add_all([template, file, asked, moved, item])
    await session.flush()
    kind = MerchantType(
        **owner,
        code=f"type-{tenant.id}",
        name="Type",
        form_fields=[],
        required_documents=[],
        contract_template_id=template.id,
    )
    coupon = Coupon(**owner, application_id=asked.id, code=mark(name), issued_at=at)
    session.add_all([kind, coupon])
    await session.flush()
    application = OnboardingApplication(
        **owner,
        merchant_type_id=kind.id,
        wechat_app_id=f"wx{tenant.id:016x}",
        answers={"owner": mark(name)},
        status=OnboardingStatus.APPROVED if paid else OnboardingStatus.SUBMITTED,
        submitted_at=at,
        reviewed_at=at if paid else None,
        reason=mark(name),
    )
    order = ItemOrder(
        **owner,
        seller_id=seller,
        buyer_name=f"Buyer {mark(name)}",
        buyer_phone=f"13700{tenant.id:06d}",
        discount=Decimal(0),
        coupon_id=coupon.id if paid else None,
        status=OrderStatus.PAID if paid else OrderStatus.AWAITING_PAYMENT,
        pay_type=PayType.CASH if paid else None,
        paid_at=at if paid else None,
        amount=amount,
        currency="CNY",
        source="merchant",
        expires_at=FAR_AHEAD,
        needs_commission=False,
        remark=mark(name),
    )
    session.add_all([application, order])
    await session.flush()
    session.add_all(
        [
            OnboardingDocument(
                **owner, application_id=application.id, document="licence", file_id=file.id, name=file.name
            ),
            Contract(
                **owner,
                template_id=template.id,
                name=mark(name),
                body=mark(name),
                special=paid,
                status=ContractStatus.SIGNED if paid else ContractStatus.ISSUED,
                signed_at=at if paid else None,
                signed_by_id=seller if paid else None,
            ),
            DepositTerms(**owner, required_amount=amount, currency="CNY", reason=mark(name)),
            DepositMovement(
                **owner,
                kind=DepositMovementKind.RELEASED if paid else DepositMovementKind.PAID,
                amount=amount,
                currency="CNY",
                reason=mark(name),
                transfer_id=moved.id,
            ),
            ItemOrderLine(
                **owner,
                order_id=order.id,
                item_id=item.id,
                name=mark(name),
                category=mark(name),
                quantity=tenant.id,
                price=amount,
            ),
        ]
    )


async def _paid(session: AsyncSession, world: World, name: str, tenant: Tenant, order: RenewalOrder) -> None:
    """What each tenant's end user was asked for through a channel of its own: it came and went back from every other
    one, and the channel says something else."""
    owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    at = datetime(2026, 2, 1, 12, 30, tenant.id % 60, tzinfo=UTC)
    came = tenant.id % 2 == 0
    channel = PaymentChannel(
        **owner,
        kind=PaymentChannelKind.WECHAT_PAY if came else PaymentChannelKind.ALIPAY,
        name=mark(name),
        app_id=f"app-{tenant.id}",
        merchant_id=mark(name),
        keys_encrypted=b"",
        status=CatalogStatus.ACTIVE if came else CatalogStatus.DISABLED,
    )
    transfers = [
        LedgerTransfer(**owner, kind=TransferKind.TOP_UP, idempotency_key=f"{step}:{name}") for step in ("came", "left")
    ]
    session.add_all([channel, *transfers])
    await session.flush()
    payment = Payment(
        **owner,
        end_user_id=order.end_user_id,
        channel_id=channel.id,
        channel_kind=channel.kind,
        method=PaymentMethod.MINI_PROGRAM if came else PaymentMethod.QR_CODE,
        purpose=PaymentPurpose.ORDER,
        order_id=order.id,
        payment_no=f"{mark(name)}{tenant.id}",
        description=mark(name),
        amount=Decimal(tenant.id),
        currency="CNY",
        status=PaymentStatus.SUCCEEDED if came else PaymentStatus.PENDING,
        payer=mark(name),
        transaction_no=mark(name) if came else None,
        expires_at=at,
        paid_at=at if came else None,
        next_check_at=FAR_AHEAD,
        transfer_id=transfers[0].id if came else None,
    )
    session.add(payment)
    await session.flush()
    session.add_all(
        [
            PaymentRefund(
                **owner,
                end_user_id=order.end_user_id,
                payment_id=payment.id,
                refund_no=mark(name),
                amount=Decimal(tenant.id),
                currency="CNY",
                cause=RefundCause.ENTERPRISE_CARD if came else RefundCause.ORDER_CLOSED,
                status=RefundStatus.SUCCEEDED if came else RefundStatus.FAILED,
                last_answer=mark(name),
                next_attempt_at=FAR_AHEAD,
                settled_at=at if came else None,
                transfer_id=transfers[1].id if came else None,
            ),
            PaymentReconciliation(
                **owner,
                channel_id=channel.id,
                day=date(2026, tenant.id % 12 + 1, 1),
                entries=tenant.id,
                matched=0,
                differing=tenant.id,
            ),
            PaymentDifference(
                **owner,
                channel_id=channel.id,
                payment_id=payment.id,
                kind=DifferenceKind.AMOUNT if came else DifferenceKind.MISSING_HERE,
                day=date(2026, tenant.id % 12 + 1, 1),
                payment_no=mark(name),
                amount_at_channel=Decimal(tenant.id),
                resolved_at=at if came else None,
                remark=mark(name),
            ),
        ]
    )


def _used(session: AsyncSession, world: World, name: str, tenant: Tenant, gateway: PacketGateway) -> None:
    """What each tenant's first card used, its sessions, and what was counted from them."""
    owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    card, at = world.cards[name][0], datetime(2026, 2, 1, 12, 30, tenant.id % 60, tzinfo=UTC)
    day, month = date(2026, 2, tenant.id % 28 + 1), date(2026, tenant.id % 12 + 1, 1)
    person = {"end_user_id": world.end_users[name].id, "sim_card_id": card.id}
    counted = {"connections": tenant.id, "new_users": 1, "upload_bytes": tenant.id, "download_bytes": 2**40}
    session.add_all(
        [
            SessionRecord(
                **owner,
                at=at,
                ended_at=at + timedelta(minutes=tenant.id) if tenant.id % 2 else None,
                session_no=mark(name),
                sim_card_id=card.id,
                packet_gateway_id=gateway.id,
                upload_bytes=2**40,
                download_bytes=tenant.id,
            ),
            SessionDay(**owner, day=day, changed_at=at),
            FirstSession(**owner, sim_card_id=card.id, at=at),
            IntervalStatistic(**owner, at=at, connections=tenant.id, new_users=1),
            DailyStatistic(**owner, day=day, active_cards=1, **counted),
            MonthlyStatistic(**owner, month=month, busiest_day_connections=1, **counted),
            RealNameRecord(
                **owner,
                **person,
                name=mark(name),
                id_number_tail="002X",
                status=RealNameStatus.PENDING if tenant.id % 2 else RealNameStatus.VERIFIED,
                next_attempt_at=FAR_AHEAD,
            ),
            DailyUsage(**owner, **person, at=at, day=day, used_kb=tenant.id),
            MonthlyUsage(**owner, **person, month=month, used_kb=tenant.id),
            UsageRatio(**owner, customer_id=tenant.id, ratio=1 + Decimal(tenant.id) / 10),
        ]
    )
    even = tenant.id % 2 == 0
    session.add(
        RetentionPolicy(
            **owner,
            retained_table=RetainedTable.SESSION_RECORD if even else RetainedTable.INTERVAL_STATISTIC,
            days=tenant.id,
            mode=RetentionMode.MIGRATE if even else RetentionMode.PURGE,
        )
    )


async def _billed(session: AsyncSession, world: World, name: str, tenant: Tenant) -> None:
    """A bill of each tenant, and a settlement statement with itself or a supplier."""
    owner: dict[str, Any] = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    month, amount = date(2026, tenant.id % 12 + 1, 1), Decimal(tenant.id)
    bill = MonthlyBill(
        **owner,
        month=month,
        currency="CNY",
        opening_balance=amount,
        paid_in=amount,
        spent=amount,
        refunded=Decimal(0),
        closing_balance=amount,
        order_count=tenant.id,
    )
    statement = SettlementStatement(
        **owner,
        kind=CounterpartyKind.CUSTOMER if tenant.id % 2 else CounterpartyKind.SUPPLIER,
        customer_id=tenant.id if tenant.id % 2 else None,
        supplier_id=None if tenant.id % 2 else world.suppliers[Carrier.CMCC].id,
        first_day=month,
        last_day=month,
        currency="CNY",
        amount=amount,
        status=StatementStatus.CONFIRMED if tenant.id % 2 else StatementStatus.DRAFT,
        reference=mark(name),
    )
    session.add_all([bill, statement])
    await session.flush()
    line = {"kind": SettlementLineKind.SALES, "name": mark(name), "quantity": tenant.id, "amount": amount}
    session.add(SettlementLine(**owner, statement_id=statement.id, **line))
