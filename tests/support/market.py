"""Merchants at work over HTTP: who takes them on, what they sign, and what they sell."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.support.objects import PDF
from tests.support.world import ACTORS, World

UPLOAD = "mutation($input: UploadFileInput!) { uploadFile(input: $input) { storedFile { id } errors { code } } }"
APP_ID = "wx0123456789abcdef"


async def did(world: World, caller: str, name: str, kind: str, selected: str, /, **input: Any) -> dict[str, Any]:
    """The payload of a mutation as a caller: what it selects, and its errors as (code, field)."""
    text = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {selected} errors {{ code field }} }} }}"
    payload: dict[str, Any] = (await world.data(caller, text, {"input": input}))[name]
    payload["errors"] = [(error["code"], error["field"]) for error in payload["errors"]]
    return payload


async def once(world: World, caller: str, name: str, kind: str, selected: str, /, **input: Any) -> dict[str, Any]:
    """The same, of a mutation that takes an idempotency key."""
    return await did(world, caller, name, kind, selected, **{"idempotencyKey": str(uuid.uuid4()), **input})


async def refused(world: World, caller: str, query: str, variables: dict[str, Any] | None = None) -> bool:
    """Whether an operation is forbidden to a caller as a whole."""
    answer = await world.run(caller, query, variables)
    return {error["extensions"]["code"] for error in answer.get("errors", [])} == {"FORBIDDEN"}


async def uploaded(world: World, caller: str) -> str:
    """A document of the caller's company."""
    operations = {"query": UPLOAD, "variables": {"input": {"file": None, "purpose": "DOCUMENT"}}}
    answer = await world.client.http.post(
        f"/{ACTORS[caller].door}/graphql",
        data={"operations": json.dumps(operations), "map": '{"0": ["variables.input.file"]}'},
        files={"0": ("licence.pdf", PDF, "application/pdf")},
        headers={"authorization": f"Bearer {await world.token(caller)}"},
    )
    id: str = answer.json()["data"]["uploadFile"]["storedFile"]["id"]
    return id


async def shop_type(world: World, code: str = "shop", **more: Any) -> str:
    """A type of merchant that tells its owner and shows its licence."""
    input = {
        "code": code,
        "name": "Shop",
        "formFields": [{"key": "owner", "label": "Owner"}, {"key": "site", "label": "Site", "required": False}],
        "requiredDocuments": ["licence"],
        **more,
    }
    made = await did(world, "types", "createMerchantType", "CreateMerchantTypeInput", "merchantType { id }", **input)
    assert made["errors"] == []
    id: str = made["merchantType"]["id"]
    return id


async def applied(world: World, caller: str, type: str, app_id: str = APP_ID) -> str:
    """An application that a merchant has submitted."""
    saved = await did(
        world,
        caller,
        "saveOnboarding",
        "SaveOnboardingInput",
        "application { id }",
        merchantType=type,
        wechatAppId=app_id,
        answers=[{"key": "owner", "value": "Li"}],
        documents=[{"document": "licence", "file": await uploaded(world, caller)}],
    )
    assert saved["errors"] == []
    id: str = saved["application"]["id"]
    sent = await did(world, caller, "submitOnboarding", "OnboardingInput", "application { status }", id=id)
    assert sent == {"application": {"status": "SUBMITTED"}, "errors": []}
    return id


async def decided(world: World, id: str, caller: str = "types") -> list[tuple[str, str | None]]:
    payload = await did(world, caller, "approveOnboarding", "OnboardingInput", "application { status }", id=id)
    errors: list[tuple[str, str | None]] = payload["errors"]
    return errors


async def item(world: World, caller: str, name: str, price: str, category: str = "drinks") -> str:
    made = await did(
        world,
        caller,
        "createMerchantItem",
        "CreateMerchantItemInput",
        "merchantItem { id }",
        name=name,
        category=category,
        price=price,
    )
    assert made["errors"] == []
    id: str = made["merchantItem"]["id"]
    return id


ORDER = """order { id orderNo kind status amount discount currency payType paidAt source buyerName buyerPhone
    customer { name } seller { login } coupon { code } items { nodes { name category quantity price } } }"""


async def sold(world: World, caller: str, *lines: tuple[str, int], **more: Any) -> dict[str, Any]:
    """An order of items, with how many of each."""
    return await once(
        world,
        caller,
        "placeItemOrder",
        "PlaceItemOrderInput",
        ORDER,
        **{
            "lines": [{"item": id, "quantity": quantity} for id, quantity in lines],
            "buyer": {"name": "Wang", "phone": "13812345678"},
            **more,
        },
    )


async def in_cash(world: World, caller: str, id: str) -> dict[str, Any]:
    return await once(world, caller, "takeCash", "TakeCashInput", "order { status payType amount }", id=id)
