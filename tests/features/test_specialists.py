"""The specialists of the platform: who keeps merchants' information, contracts, deposits or coupons does that alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.office import office
from tests.support.world import ACTORS, PASSWORD, World

OWN = {
    "types": {
        "createMerchant",
        "createMerchantOperator",
        "updateMerchant",
        "setMerchantStatus",
        "createMerchantType",
        "updateMerchantType",
        "approveOnboarding",
        "rejectOnboarding",
    },
    "contracts": {
        "saveContractTemplate",
        "publishContractTemplate",
        "withdrawContractTemplate",
        "linkContractTemplate",
        "issueContract",
    },
    "deposits": {"setDepositTerms", "releaseDeposit"},
    "coupons": {"approveCouponApplication", "rejectCouponApplication"},
}
LISTS = {
    "types": {"onboardingApplications", "onboardingApplication"},
    "contracts": {"contractTemplates", "contracts", "contract"},
    "deposits": {"depositTerms", "depositMovements"},
    "coupons": {"couponApplications", "couponApplication", "coupons"},
}
SHOWN = "{ __schema { queryType { fields { name } } mutationType { fields { name } } } }"
CREATE = "mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) { errors { code field } } }"


async def shown(world: World, token: str) -> tuple[set[str], set[str]]:
    """The queries and mutations that somebody at the platform's door is shown."""
    schema: dict[str, Any] = (await world.client.post("admin", SHOWN, token=token)).json()["data"]["__schema"]
    queries, mutations = (
        {field["name"] for field in schema[f"{kind}Type"]["fields"]} for kind in ("query", "mutation")
    )
    return queries, mutations


@pytest.mark.feature("S4-74")
async def test_each_specialist_does_its_own_business_and_no_other(world: World) -> None:
    everybodys: set[str] | None = None
    for caller, own in OWN.items():
        queries, mutations = await shown(world, await world.token(caller))
        assert own <= mutations, caller
        assert LISTS[caller] <= queries, caller
        for other in OWN.keys() - {caller}:
            assert not OWN[other] & mutations, (caller, other)
            assert not LISTS[other] & queries, (caller, other)
        # beside its own business, each has what all have: nothing of cards, customers, money or the system
        assert everybodys in (None, mutations - own), caller
        everybodys = mutations - own
        assert {"merchants", "merchant", "merchantTypes"} <= queries
        assert not queries & {"simCards", "customers", "orders", "itemOrders", "ledgerAccounts", "staffAccounts"}
    for caller in ("operations", "finance", "sales"):
        _, mutations = await shown(world, await world.token(caller))
        assert not mutations & set().union(*OWN.values()), caller


@pytest.mark.feature("S4-74")
async def test_an_administrator_appoints_specialists(world: World) -> None:
    password = "correct horse 43"
    for role in ("bank_merchant", "bank_contract", "bank_deposit", "bank_coupon"):
        input = {"login": f"new {role}", "password": password, "name": "New", "roles": [role]}
        assert (await world.data("admin", CREATE, {"input": input}))["createStaffAccount"]["errors"] == []
        _, mutations = await shown(world, await world.client.token("admin", f"new {role}", password))
        like = next(actor.account for actor in ACTORS.values() if actor.role == role)
        assert mutations & set().union(*OWN.values()) == OWN[like]
    # nobody else hands these roles out, nor to anybody but the platform's staff
    for caller, tenant in (("north", "north"), ("cafe", "cafe")):
        input = {"login": f"of {tenant}", "password": password, "name": "New", "roles": ["bank_coupon"]}
        (error,) = (await world.data(caller, CREATE, {"input": input}))["createStaffAccount"]["errors"]
        assert error["field"] == "roles"
    outside = {
        "login": "out",
        "password": password,
        "name": "New",
        "roles": ["bank_coupon"],
        "tenant": world.id("mall"),
    }
    (error,) = (await world.data("admin", CREATE, {"input": outside}))["createStaffAccount"]["errors"]
    assert error["field"] == "roles"


@pytest.mark.feature("S4-74")
async def test_a_role_of_the_platforms_own_can_be_as_narrow(world: World) -> None:
    """Ticked from the template: somebody who decides on coupons, and somebody who only looks at them."""
    bank = await office(world, "admin", "admin")
    looks, decides = "merchant:coupon", "merchant:coupon:decide"
    for login, ticked in (("decider", (looks, decides)), ("looker", (looks,))):
        await bank.staff(login, await bank.role(f"Role of {login}", *ticked))
        queries, mutations = await shown(world, await world.client.token("admin", login, PASSWORD))
        assert "couponApplications" in queries
        assert ("approveCouponApplication" in mutations) is (login == "decider")
        assert not mutations & (OWN["types"] | OWN["contracts"] | OWN["deposits"])
