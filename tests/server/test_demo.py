"""The demo: loaded once, and organised as its companies' administrators would do it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from server.demo import _load
from server.demo_staff import DEPARTMENTS, LEADS, POSITIONS
from tests.conftest import Place
from tests.support.client import Client

LED = """{ viewer { heldRoles { name dataScope departments { name } } menus { key } }
    staffAccounts(first: 50) { nodes { login department { name } positions(first: 5) { nodes { position { code } } } } }
    departments(first: 50) { nodes { name } } }"""


SHARES = """{ commissionEntries(orderBy: [{field: CREATED_AT}]) { nodes { amount percent settlement { amount } } }
    orders { nodes { amount } } }"""


@pytest.mark.feature("S0-48", "S2-18")
async def test_each_level_of_the_demo_sees_its_own_share_and_no_other(client: Client, place: Place) -> None:
    logins = {login.account: login for login in await _load(place.settings)}
    await client.application.runtime.access.changed(policies=True)
    await client.work_off()
    found = {}
    for account in ("north", "north-east", "coast", "south"):
        token = await client.token("agent", account, logins[account].password)
        answer = (await client.post("agent", SHARES, token=token)).json()
        nodes = answer["data"]["commissionEntries"]["nodes"]
        found[account] = (
            sum(Decimal(node["amount"]) for node in nodes if node["percent"] is not None),
            sum(Decimal(node["settlement"]["amount"]) / 2 for node in nodes if node["percent"] is None),
            len(answer["data"]["orders"]["nodes"]),
        )
    tenth = 4 * Decimal("20.48") / 10
    assert found == {
        "north": (tenth, 2 * 6, 2),
        "north-east": (tenth, 2 * 8, 2),
        "coast": (tenth, 0, 2),
        "south": (0, 0, 0),
    }


async def test_the_demo_is_loaded_once_and_its_leads_see_their_departments(client: Client, place: Place) -> None:
    logins = {login.account: login for login in await _load(place.settings)}
    await client.application.runtime.access.changed(policies=True)
    for lead in LEADS:
        login = logins[lead.account]
        assert (login.role, login.door) == (lead.role, lead.door)
        token = await client.token(lead.door, lead.account, login.password)
        answer = (await client.post(lead.door, LED, token=token)).json()
        assert "errors" not in answer, answer
        viewer, data = answer["data"]["viewer"], answer["data"]
        assert viewer["heldRoles"] == [
            {
                "name": "Sales lead",
                "dataScope": "DEPARTMENT_AND_BELOW",
                "departments": [{"name": "Sales"}, {"name": "Key accounts"}],
            }
        ]
        assert set(lead.menus) <= {menu["key"] for menu in viewer["menus"]}
        assert [
            (staff["login"], staff["department"]["name"], [p["position"]["code"] for p in staff["positions"]["nodes"]])
            for staff in data["staffAccounts"]["nodes"]
        ] == [(lead.account, "Sales", ["manager"]), (lead.clerk, "Key accounts", ["user"])]
        assert [node["name"] for node in data["departments"]["nodes"]] == ["Sales", "Key accounts"]
        administrator = await client.token(lead.door, lead.administrator, logins[lead.administrator].password)
        whole = (await client.post(lead.door, "{ departments { nodes { name } } positions { nodes { code } } }",
                                   token=administrator)).json()["data"]  # fmt: skip
        names = [node["name"] for node in whole["departments"]["nodes"]]
        assert all(names.count(name) >= 1 for name, _ in DEPARTMENTS)
        assert {node["code"] for node in whole["positions"]["nodes"]} == {code for code, _ in POSITIONS}
    # a second start finds everything there and does nothing
    started = time.monotonic()
    again = await _load(place.settings)
    assert time.monotonic() - started < 1
    assert {login.account: login for login in again} == logins


SOLD = """query($first: Date!, $last: Date!) { merchantSales(firstDay: $first, lastDay: $last) {
    merchants { merchant orders amount } } }"""


@pytest.mark.feature("S4-75")
async def test_the_demos_operator_sees_what_both_merchants_sold(client: Client, place: Place) -> None:
    logins = {login.account: login for login in await _load(place.settings)}
    await client.application.runtime.access.changed(policies=True)
    today = datetime.now(ZoneInfo("Asia/Shanghai")).date()
    days = {"first": str(today - timedelta(days=1)), "last": str(today)}
    rink = {"merchant": "Ice Rink", "orders": 3, "amount": "900.0000"}
    tea = {"merchant": "Tea House", "orders": 3, "amount": "204.0000"}
    for account, expected in (("mall", [rink, tea]), ("tea", [tea]), ("rink", [rink]), ("finance", [rink, tea])):
        login = logins[account]
        token = await client.token(login.door, account, login.password)
        answer = (await client.post(login.door, SOLD, days, token=token)).json()
        assert answer["data"]["merchantSales"]["merchants"] == expected, account
    for role in ("bank_merchant", "bank_contract", "bank_deposit", "bank_coupon"):
        (login,) = (one for one in logins.values() if one.role == role)
        token = await client.token("admin", login.account, login.password)
        kept = " depositMissing" if role == "bank_deposit" else ""
        answer = (await client.post("admin", f"{{ merchants {{ nodes {{ name{kept} }} }} }}", token=token)).json()
        missing = {"depositMissing": "200.0000"} if kept else {}
        assert answer["data"]["merchants"]["nodes"] == [{"name": one, **missing} for one in ("Tea House", "Ice Rink")]
