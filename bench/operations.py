"""The four operations and their requests: each document is fixed, its variables change from request to request."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench.data import CUSTOMERS
from planner.cursor import encode_cursor, order_tag
from planner.ids import decode_id, encode_id

REQUESTS = 2_000

CARD = "id displayIccid imsi msisdn status carrier package { name salePrice } holder { name }"
PAGE = f"edges {{ cursor node {{ {CARD} }} }} pageInfo {{ hasNextPage endCursor }}"
DOCUMENTS = {
    "q1": "query q1($id: ID!) { simCard(id: $id) { id displayIccid status package { id name salePrice } "
    "holder { id name } } }",
    "q2": f"query q2($after: {{cursor}}) {{ simCards(first: 50, after: $after) {{ {PAGE} }} }}",
    "q3": "query q3($after: {cursor}) { tenants(first: 20, after: $after) { nodes { id name simCards(first: 10) { "
    "nodes { displayIccid status package { name } statusChanges(first: 3) { nodes { toStatus reason at } } } } } } }",
    "q4": f"query q4($id: ID!, $after: {{cursor}}) {{ tenant(id: $id) {{ id name simCards(first: 50, after: $after) "
    f"{{ {PAGE} }} }} }}",
}
TITLES = {
    "q1": "one card with its package and holder",
    "q2": "a page of 50 cards of a customer with about 100 tenants below",
    "q3": "20 tenants x 10 cards x 3 changes",
    "q4": "a page of 50 cards of one tenant",
}


@dataclass(frozen=True)
class Variables:
    """Keys and positions as plain numbers; None where the operation has no such variable."""

    customer: int
    id: int | None = None
    after: int | None = None


@dataclass(frozen=True)
class Flavour:
    """How a contender writes ids and cursors."""

    opaque: bool
    """As the graph does; otherwise as plain numbers."""

    def payload(self, name: str, given: Variables) -> dict[str, Any]:
        variables: dict[str, str] = {}
        if given.id is not None:
            prefix = "sim" if name == "q1" else "ten"
            variables["id"] = encode_id(prefix, given.id) if self.opaque else str(given.id)
        if given.after is not None:
            tag = order_tag("Tenant" if name == "q3" else "SimCard", [("id", False)])
            variables["after"] = encode_cursor(tag, given.after) if self.opaque else str(given.after)
        document = DOCUMENTS[name].replace("{cursor}", "String" if self.opaque else "ID")
        return {"query": document, "operationName": name, "variables": variables}

    def comparable(self, answer: Any, field: str = "") -> Any:
        """An answer with ids and cursors as plain numbers and money without trailing noughts."""
        if isinstance(answer, dict):
            return {name: self.comparable(value, name) for name, value in answer.items()}
        if isinstance(answer, list):
            return [self.comparable(value) for value in answer]
        if field == "id":
            return _key(answer) if self.opaque else int(answer)
        if field in ("cursor", "endCursor") and answer is not None:
            return int(urlsafe_b64decode(answer).decode().split("\x1f")[1], 16) if self.opaque else int(answer)
        if field == "at":
            return answer.replace("Z", "+00:00")
        return answer


def _key(id_: str) -> int:
    found = decode_id(id_)
    assert found is not None
    return found[1]


CARDS_OF = """
SELECT c.id FROM (SELECT id FROM tenant WHERE path >= $1 AND path < $2 ORDER BY id OFFSET 0) t
CROSS JOIN LATERAL (SELECT id FROM sim_card WHERE tenant_id = t.id ORDER BY md5(id::text) LIMIT 3) c
"""


async def variables(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[Variables]]:
    """The variables of 2,000 requests of each operation, the same in each run on the same data."""
    paths = dict(await connection.fetch("SELECT id, path FROM tenant WHERE level = 1"))
    last_card: int = await connection.fetchval("SELECT max(id) FROM sim_card")
    below, cards = {}, {}
    for customer in CUSTOMERS:
        path = paths[customer]
        end = path.rstrip(".") + "/"
        below[customer] = [
            row["id"]
            for row in await connection.fetch(
                "SELECT id FROM tenant WHERE path >= $1 AND path < $2 ORDER BY id", path, end
            )
        ]
        cards[customer] = [row["id"] for row in await connection.fetch(CARDS_OF, path, end)]
    made = {}
    for name in DOCUMENTS:
        draw = random.Random(name)
        requests = []
        for _ in range(REQUESTS):
            customer = draw.choice(CUSTOMERS)
            if name == "q1":
                given = Variables(customer, id=draw.choice(cards[customer]))
            elif name == "q2":
                given = Variables(customer, after=draw.randint(1, last_card * 9 // 10))
            elif name == "q3":
                given = Variables(customer, after=draw.choice(below[customer][:40]))
            else:
                given = Variables(customer, id=draw.choice(below[customer]), after=draw.randint(1, last_card * 6 // 10))
            requests.append(given)
        made[name] = requests
    return made


async def paths_of_customers(connection: asyncpg.Connection[asyncpg.Record]) -> dict[int, str]:
    return dict(await connection.fetch("SELECT id, path FROM tenant WHERE id = ANY ($1)", list(CUSTOMERS)))
