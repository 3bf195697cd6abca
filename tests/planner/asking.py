"""Operations as hypothesis draws them from a schema: what a caller may select and, rarely, what it may not, with
real ids, cursors and values of its own rows and of others'."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
)
from hypothesis import strategies as st

from planner.cursor import encode_cursor, order_tag
from planner.ids import encode_id
from planner.mapping import Entity
from tests.planner.oracle import Caller, column_of, field_of, postgres_text

T = TypeVar("T")
RUNS = 2
"""Each operation is run with so many sets of variables, so that a kept plan meets variables it was not made for."""
ABSENT = object()
MOST_FIELDS = 45
TEXTS = ("", "%", "_", "\\", "\\%", "«", "NORTH", "agency «no", "zz")
BY_SERVICES = {
    "Query": {
        "agentSales", "agreementsToSign", "behaviourStats", "dataUsage", "dictionary", "effectiveParameter",
        "effectiveParameters", "effectiveUsageRatio",
        "estimatedProfit", "exportMyData", "helpTopic", "invokeTargets", "notificationKinds", "rolePermissions",
    },
    "Viewer": {"heldRoles", "impersonatedBy", "menus", "modules", "productPresentationUrl"},
}  # fmt: skip
"""What services answer and not the planner; their own tests prove it."""


@dataclass(frozen=True)
class Asked:
    text: str
    variables: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass
class Writer:
    """Writes one operation; ``draw`` decides."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    caller: Caller
    variables: list[str] = field(default_factory=list)
    values: tuple[dict[str, Any], ...] = field(default_factory=lambda: tuple({} for _ in range(RUNS)))
    fragments: dict[str, tuple[str, str]] = field(default_factory=dict)
    aliases: int = 0
    fields: int = 0

    def __post_init__(self) -> None:
        self.schema = self.caller.oracle.schema
        self.entities = self.caller.oracle.graph.registry.entities

    # -- chance -------------------------------------------------------------------------------------------

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) >= 100 - percent)

    def one(self, choices: Sequence[T]) -> T:
        return self.draw(st.sampled_from(choices))  # type: ignore[no-any-return]

    def variable(self, kind: str, values: Sequence[Any], default: str = "") -> Variable:
        name = f"v{len(self.variables)}"
        self.variables.append(f"${name}: {kind}{default}")
        for run, value in zip(self.values, values, strict=True):
            if value is not ABSENT:
                run[name] = value
        return Variable(name)

    # -- the operation ------------------------------------------------------------------------------------

    def operation(self) -> Asked:
        selected = self.selection(self.schema.query_type, 5)
        declared = f"({', '.join(self.variables)})" if self.variables else ""
        parts = [f"query{declared} {selected}"]
        parts += [f"fragment {name} on {kind} {inside}" for name, (kind, inside) in self.fragments.items()]
        return Asked("\n".join(parts), self.values)

    def selection(self, kind: Any, depth: int, *, apart: bool = False) -> str:
        """What is selected on a type; ``apart`` gives every field a name of its own."""
        parts = [self.part(kind, depth, apart) for _ in range(self.draw(st.integers(1, 4)))]
        return "{ " + " ".join(parts) + " }"

    def part(self, kind: Any, depth: int, apart: bool) -> str:
        if self.chance(4):
            return f"__typename{self.directive()}"
        if self.chance(3) and depth > 0:
            return f"...{self.directive()} {self.selection(kind, depth - 1, apart=apart)}"
        narrower = self.narrower(kind)
        if narrower and depth > 0 and self.chance(70 if kind.name == "Node" else 20):
            condition = self.one(narrower)
            return self.fragment(condition, depth - 1, apart or kind.name == "Node")
        if self.chance(8) and depth > 0 and kind.name != "Query":
            return self.fragment(kind.name, depth - 1, apart)
        return self.selected(kind, depth, apart)

    def narrower(self, kind: Any) -> list[str]:
        if isinstance(kind, GraphQLInterfaceType):
            possible = [t.name for t in self.schema.get_possible_types(kind) if self.caller.reach(t.name) is not None]
            return possible + (["Tenant"] if kind.name == "Node" and "Tenant" in self.entities else [])
        return [i.name for i in kind.interfaces] if isinstance(kind, GraphQLObjectType) else []

    def fragment(self, condition: str, depth: int, apart: bool) -> str:
        kind = self.schema.type_map[condition]
        if self.chance(30):
            known = [name for name, (on, _) in self.fragments.items() if on == condition and not apart]
            if known and self.chance(50):
                return f"...{self.one(known)}{self.directive()}"
            inside = self.selection(kind, depth, apart=True)
            name = f"F{len(self.fragments)}"
            self.fragments[name] = (condition, inside)
            return f"...{name}{self.directive()}"
        return f"... on {condition}{self.directive()} {self.selection(kind, depth, apart=apart)}"

    def directive(self) -> str:
        if not self.chance(8):
            return ""
        name = self.one(("skip", "include"))
        if self.chance(50):
            return f" @{name}(if: {self.one(('true', 'false'))})"
        found = self.variable("Boolean!", [self.draw(st.booleans()) for _ in range(RUNS)])
        return f" @{name}(if: ${found.name})"

    # -- fields -------------------------------------------------------------------------------------------

    def selected(self, kind: Any, depth: int, apart: bool) -> str:
        names = [
            n for n in kind.fields if self.allowed(kind, n) and (depth > 0 or is_leaf_type(self.returned(kind, n)))
        ]
        if self.chance(2):
            names = list(kind.fields)
        elif kind.name in self.entities and self.chance(12):
            names = [n for n in names if self.is_live(kind.name, n)] or names
        names = [n for n in names if n not in BY_SERVICES.get(kind.name, ())]
        if not names:
            return "__typename"
        if self.fields > MOST_FIELDS:
            names = [n for n in names if is_leaf_type(self.returned(kind, n))] or names[:1]
        name = self.one(names)
        self.fields += 1
        returned = self.returned(kind, name)
        arguments = self.arguments(kind, name, returned)
        alias = ""
        if apart or arguments or kind.name == "Query" or self.chance(10):
            alias = f"a{self.aliases}: "
            self.aliases += 1
        below = "" if is_leaf_type(returned) else " " + self.selection(returned, depth - self.step(returned))
        return f"{alias}{name}{arguments}{self.directive()}{below}"

    def is_live(self, type_name: str, name: str) -> bool:
        declared = self.entities[type_name].fields.get(name)
        return declared is not None and declared.kind == "live"

    @staticmethod
    def step(returned: Any) -> int:
        """Edges and page info do not count as depth: they lead nowhere by themselves."""
        return 0 if returned.name.endswith(("Edge", "Connection")) or returned.name == "PageInfo" else 1

    def returned(self, kind: Any, name: str) -> Any:
        return get_named_type(kind.fields[name].type)

    def allowed(self, kind: Any, name: str) -> bool:
        if kind.name != "Query" and kind.name not in self.entities:
            return True
        names = [kind.name]
        if isinstance(kind, GraphQLInterfaceType):
            names = [t.name for t in self.schema.get_possible_types(kind) if self.caller.reach(t.name) is not None]
        return all(self.caller.reach(each, name) is not None for each in names)

    # -- arguments ----------------------------------------------------------------------------------------

    def arguments(self, kind: Any, name: str, returned: Any) -> str:
        definition = kind.fields[name]
        if not definition.args:
            return ""
        if returned.name.endswith("Connection"):
            return self.page(self.entities[returned.name.removesuffix("Connection")], definition)
        if name == "node":
            return f"(id: {self.given('ID!', [self.any_id() for _ in range(RUNS)])})"
        if name == "nodes":
            many = [[self.any_id() for _ in range(self.draw(st.integers(0, 4)))] for _ in range(RUNS)]
            return f"(ids: {self.given('[ID!]!', many)})"
        entity = self.entities[returned.name]
        usable = [a for a in definition.args if self.usable(entity, a)]
        argument = self.one(usable or list(definition.args))
        values = [self.value(entity, argument, "eq") for _ in range(RUNS)]
        if any(value is None for value in values):
            return f"(id: {json.dumps(self.id_of(entity))})"
        return f"({argument}: {self.given(str(definition.args[argument].type), values)})"

    def given(self, kind: str, values: Sequence[Any]) -> str:
        """As a variable or written out."""
        if self.chance(50):
            return f"${self.variable(kind, values).name}"
        return json.dumps(values[0], ensure_ascii=False)

    def any_id(self) -> str:
        return self.id_of(self.one(list(self.entities.values())))

    def id_of(self, entity: Entity) -> str:
        if self.chance(5):
            return encode_id(entity.prefix, self.draw(st.integers(1, 2**63 - 1)))
        rows = list(self.caller.oracle.rows(entity))
        return encode_id(entity.prefix, self.one(rows).id if rows else 7)

    def usable(self, entity: Entity, name: str) -> bool:
        """Whether the caller may search and sort by it."""
        if name == "id":
            return True
        for concrete in entity.concrete.values() if entity.interface else (entity.name,):
            own = self.caller.reach(concrete)
            if own is not None and self.caller.reach(concrete, name) != own:
                return self.chance(4)
        return True

    def page(self, entity: Entity, definition: Any) -> str:
        asked: dict[str, Any] = {}
        if self.chance(35):
            pages = [self.position(entity, definition) for _ in range(RUNS)]
            for name in pages[0]:
                kind = str(definition.args[name].type)
                asked[name] = self.variable(kind, [each.get(name) for each in pages])
            for name in {n for each in pages for n in each} - set(pages[0]):
                asked[name] = self.variable(str(definition.args[name].type), [each.get(name, ABSENT) for each in pages])
        else:
            asked = {n: v for n, v in self.position(entity, definition).items() if v is not ABSENT}
            if "first" in asked and self.chance(15):
                sizes = [self.draw(st.integers(0, 4)) for _ in range(RUNS)]
                asked["first"] = self.variable("Int", [self.one((size, ABSENT)) for size in sizes], " = 3")
        if "filter" in definition.args and self.chance(55):
            kind = definition.args["filter"].type
            if self.chance(40):
                trees = [self.filter(entity, kind, 2, vary=False) for _ in range(RUNS)]
                asked["filter"] = self.variable(str(kind), [self.one((tree, tree, tree, None)) for tree in trees])
            else:
                asked["filter"] = self.filter(entity, kind, 2, vary=True)
        if not asked:
            return ""
        return "(" + ", ".join(f"{n}: {literal(v, definition.args[n].type)}" for n, v in asked.items()) + ")"

    def position(self, entity: Entity, definition: Any) -> dict[str, Any]:
        """A size, a direction, an order, and often the cursor of a row, of the caller's or of somebody else's."""
        found: dict[str, Any] = {}
        order = self.order(entity, definition) if self.chance(50) else []
        if order:
            found["orderBy"] = order
        backward = self.chance(30)
        if backward or self.chance(50):
            found["last" if backward else "first"] = self.draw(st.integers(0, 8))
        if self.chance(40):
            rows = list(self.caller.oracle.rows(entity))
            if rows:
                found["before" if backward else "after"] = self.cursor(entity, order, self.one(rows).values)
        return found

    def order(self, entity: Entity, definition: Any) -> list[dict[str, str]]:
        members = get_named_type(get_named_type(definition.args["orderBy"].type).fields["field"].type).values
        names = [m for m in members if m != "ID" and self.usable(entity, field_of(entity, m))]
        chosen = self.draw(st.permutations(names))[: self.draw(st.integers(0, 2))]
        if self.chance(25):
            chosen = [*chosen, "ID"]
        return [{"field": name, "direction": self.one(("ASC", "DESC"))} for name in chosen]

    @staticmethod
    def cursor(entity: Entity, order: list[dict[str, str]], values: Any) -> str:
        keys = [(by["field"].lower(), by["direction"] == "DESC") for by in order]
        if not keys or keys[-1][0] != "id":
            keys.append(("id", keys[-1][1] if keys else False))
        texts = [postgres_text(values[column_of(entity, field_of(entity, name.upper()))]) for name, _ in keys[:-1]]
        return encode_cursor(order_tag(entity.name, keys), values["id"], texts)

    # -- filters ------------------------------------------------------------------------------------------

    def filter(self, entity: Entity, kind: GraphQLInputObjectType, depth: int, *, vary: bool) -> dict[str, Any]:
        names = [n for n in kind.fields if n not in ("and", "or", "not") and self.usable(entity, n)]
        tree: dict[str, Any] = {}
        for _ in range(self.draw(st.integers(0, 2))):
            if names:
                name = self.one(names)
                tree[name] = self.comparison(entity, name, kind.fields[name].type, vary)
        if depth > 0:
            for name in ("and", "or"):
                if self.chance(12):
                    many = self.draw(st.integers(0, 2))
                    tree[name] = [self.filter(entity, kind, depth - 1, vary=vary) for _ in range(many)]
            if self.chance(25):
                tree["not"] = self.filter(entity, kind, depth - 1, vary=vary)
        return tree

    def comparison(self, entity: Entity, name: str, kind: Any, vary: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        declared = entity.fields.get(name)
        masked = declared is not None and declared.spec.mask is not None
        for operator in self.draw(st.lists(st.sampled_from(list(kind.fields)), min_size=1, max_size=2, unique=True)):
            if masked and operator in ("startsWith", "contains", "ne") and not self.chance(5):
                operator = "eq"
            values = [self.compared(entity, name, operator) for _ in range(RUNS)]
            if any(value is None for value in values):
                continue
            if vary and operator != "isNull" and self.chance(30):
                found[operator] = self.variable(str(kind.fields[operator].type), values)
            else:
                found[operator] = values[0]
        return found

    def compared(self, entity: Entity, name: str, operator: str) -> Any:
        if operator == "isNull":
            return self.draw(st.booleans())
        if operator == "in":
            found = [self.value(entity, name, operator) for _ in range(self.draw(st.integers(0, 3)))]
            return [value for value in found if value is not None]
        return self.value(entity, name, operator)

    def value(self, entity: Entity, name: str, operator: str) -> Any:
        """A value that some row has, or one near it; None where no row has any."""
        if name == "id":
            return self.id_of(entity)
        declared = entity.fields[name]
        if declared.kind == "to_one":
            return self.id_of(self.entities[declared.target or ""])
        column = column_of(entity, name)
        held = [row.values[column] for row in self.caller.oracle.rows(entity) if row.values[column] is not None]
        if not held:
            return None
        value = self.one(held)
        if isinstance(value, datetime):
            moved = value + timedelta(microseconds=self.one((0, 0, 1, -1)))
            return moved.astimezone(timezone(timedelta(hours=self.one((0, 8))))).isoformat()
        if isinstance(value, bool) or declared.column is None:
            return value
        if isinstance(value, Decimal | date):
            return str(value)
        if isinstance(value, int):
            return value + self.one((0, 0, 1, -1))
        if operator in ("startsWith", "contains"):
            if self.chance(25):
                return self.one(TEXTS)
            start = 0 if operator == "startsWith" else self.draw(st.integers(0, len(value)))
            part = value[start : start + self.draw(st.integers(0, 6))]
            return part.swapcase() if self.chance(30) else part
        return value


def literal(value: Any, kind: Any) -> str:
    """A value as GraphQL text."""
    if isinstance(value, Variable):
        return f"${value.name}"
    if value is None:
        return "null"
    if isinstance(kind, GraphQLNonNull):
        return literal(value, kind.of_type)
    if isinstance(kind, GraphQLList):
        return "[" + ", ".join(literal(each, kind.of_type) for each in value) + "]"
    if isinstance(kind, GraphQLInputObjectType):
        return "{" + ", ".join(f"{n}: {literal(v, kind.fields[n].type)}" for n, v in value.items()) + "}"
    if isinstance(kind, GraphQLEnumType):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def operations(caller: Caller) -> st.SearchStrategy[Asked]:
    @st.composite
    def written(draw: Any) -> Asked:
        return Writer(draw, caller).operation()

    return written()
