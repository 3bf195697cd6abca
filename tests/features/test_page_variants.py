"""Companies of different kinds draw other pages of one feature (S4-76)."""

from __future__ import annotations

import pytest

from tests.support.world import World

MENUS = "{ viewer { menus { key variant } } }"
SWITCH = """mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) { errors { code field } } }"""


async def drawn(world: World, account: str) -> str | None:
    """The variant of the page of cards that an account's front end draws."""
    menus = (await world.data(account, MENUS))["viewer"]["menus"]
    (found,) = [menu["variant"] for menu in menus if menu["key"] == "sim:card"]
    variant: str | None = found
    return variant


async def choose(world: World, account: str, tenant: str, variant: str | None) -> None:
    input = {"tenant": world.id(tenant), "module": "sim", "enabled": True, "pageVariant": variant}
    assert (await world.data(account, SWITCH, {"input": input}))["setTenantModule"]["errors"] == []


@pytest.mark.feature("S4-76")
async def test_the_kind_of_company_chooses_the_variant_of_a_page(world: World) -> None:
    assert {name: await drawn(world, name) for name in ("acme", "north", "coast", "admin")} == {
        "acme": "fleet", "north": None, "coast": None, "admin": None,
    }  # fmt: skip
    others = (await world.data("acme", MENUS))["viewer"]["menus"]
    assert {menu["variant"] for menu in others if menu["key"] != "sim:card"} == {None}


@pytest.mark.feature("S4-76")
async def test_what_is_chosen_for_a_company_goes_before_and_reaches_down(world: World) -> None:
    await choose(world, "admin", "acme", "plain")
    await choose(world, "admin", "north", "trade")
    assert [await drawn(world, name) for name in ("acme", "north", "coast", "south")] == [
        "plain", "trade", "trade", None,
    ]  # fmt: skip
    await choose(world, "admin", "north-east", "small")
    assert [await drawn(world, name) for name in ("north", "north-east", "coast")] == ["trade", "small", "small"]
    await choose(world, "admin", "acme", None)
    assert await drawn(world, "acme") == "fleet"
    own = {"tenant": world.id("acme"), "module": "sim", "enabled": True, "pageVariant": "mine"}
    for account in ("acme", "finance", "sales"):
        assert await world.codes(account, SWITCH, {"input": own}) == ["FORBIDDEN"]
    assert await drawn(world, "acme") == "fleet"
