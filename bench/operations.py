"""The four operations and their requests: each document is fixed, its variables change from request to request."""

from __future__ import annotations

import enum
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench.data import CUSTOMERS
from planner.cursor import TAG, encode_cursor, order_tag
from planner.ids import encode_id, unscramble

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


class Flavour(enum.Enum):
    """How a contender writes ids and cursors."""

    GRAPH = "as the graph does"
    BASE64 = "ids as plain numbers, cursors as numbers in base64"
    NUMBERS = "both as plain numbers"

    def payload(self, name: str, given: Variables) -> dict[str, Any]:
        variables: dict[str, str] = {}
        if given.id is not None:
            prefix = "sim" if name == "q1" else "ten"
            variables["id"] = encode_id(prefix, given.id) if self is Flavour.GRAPH else str(given.id)
        if given.after is not None:
            variables["after"] = self._cursor("Tenant" if name == "q3" else "SimCard", given.after)
        document = DOCUMENTS[name].replace("{cursor}", "ID" if self is Flavour.NUMBERS else "String")
        return {"query": document, "operationName": name, "variables": variables}

    def _cursor(self, type_name: str, key: int) -> str:
        if self is Flavour.GRAPH:
            return encode_cursor(order_tag(type_name, [("id", False)]), key)
        return b64encode(b"%d" % key).decode() if self is Flavour.BASE64 else str(key)

    def comparable(self, answer: Any, field: str = "") -> Any:
        """An answer with ids and cursors as plain numbers and times written in one way."""
        if isinstance(answer, dict):
            return {name: self.comparable(value, name) for name, value in answer.items()}
        if isinstance(answer, list):
            return [self.comparable(value) for value in answer]
        if field == "id":
            return unscramble(answer.rpartition("_")[2]) if self is Flavour.GRAPH else int(answer)
        if field in ("cursor", "endCursor") and answer is not None:
            if self is Flavour.GRAPH:
                return unscramble(answer[TAG:])
            return int(b64decode(answer)) if self is Flavour.BASE64 else int(answer)
        if field == "at":
            return answer.replace("Z", "+00:00")
        return answer


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
