"""Documents and their operations: parsed, validated and limited once, then kept.

An operation knows which of its variables shape its SQL (``structural``) and coerces the others quickly.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    NamedTypeNode,
    NonNullTypeNode,
    ObjectFieldNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    Visitor,
    parse,
    validate,
    visit,
)
from graphql.execution.values import get_variable_values

from planner.cursor import sort_values
from planner.errors import GraphRefusal, GraphRefusals, bad_input

_PLAIN_SCALARS: dict[str, type] = {"ID": str, "String": str, "Int": int, "Boolean": bool}
MAX_ERRORS = 20
KEPT_DOCUMENTS = 1_000
KEPT_CHARACTERS = 8_000_000
STRUCTURAL_ARGUMENTS = {
    "first": "value",
    "last": "value",
    "orderBy": "value",
    "filter": "skeleton",
    "after": "cursor",
    "before": "cursor",
}


@dataclass(frozen=True)
class DocumentLimits:
    """What one document may be, before anything is compiled; per door."""

    max_characters: int = 100_000
    max_tokens: int = 5_000
    max_depth: int = 15
    max_aliases: int = 30
    max_cost: int = 20_000
    max_page: int = 100


class Operation:
    """One operation of a document, with everything that does not depend on the caller."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, node: OperationDefinitionNode) -> None:
        self.document = document
        self.node = node
        self.kind: OperationType = node.operation
        self.name = node.name.value if node.name else None
        self.fragments: dict[str, FragmentDefinitionNode] = {
            d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
        }
        self.schema = schema
        self.structural = self._structural()
        self.scalars = self._scalars()
        self.plans: OrderedDict[Any, Any] = OrderedDict()

    def coerce(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The variables as the schema types them; raises GraphRefusals that name each wrong one."""
        if not self.node.variable_definitions:
            return {}
        if self.scalars is not None:
            quick = self._coerce_scalars(self.scalars, raw)
            if quick is not None:
                return quick
        coerced = get_variable_values(self.schema, self.node.variable_definitions, dict(raw))
        if isinstance(coerced, list):
            raise GraphRefusals([bad_input(e.message) for e in coerced])
        return _plain(coerced)

    def _scalars(self) -> tuple[tuple[str, type, bool], ...] | None:
        """(name, Python type, required) of each variable, where all are plain scalars without defaults."""
        found = []
        for definition in self.node.variable_definitions or ():
            kind, required = definition.type, isinstance(definition.type, NonNullTypeNode)
            if isinstance(kind, NonNullTypeNode):
                kind = kind.type
            if not isinstance(kind, NamedTypeNode) or definition.default_value is not None:
                return None
            python = _PLAIN_SCALARS.get(kind.name.value)
            if python is None:
                return None
            found.append((definition.variable.name.value, python, required))
        return tuple(found)

    @staticmethod
    def _coerce_scalars(scalars: tuple[tuple[str, type, bool], ...], raw: Mapping[str, Any]) -> dict[str, Any] | None:
        """The variables when each is at once what it should be; None leaves the judgement to graphql-core."""
        found: dict[str, Any] = {}
        for name, python, required in scalars:
            if name in raw:
                value = raw[name]
                if value is None:
                    if required:
                        return None
                elif type(value) is not python or (isinstance(value, int) and not -(2**31) <= value < 2**31):
                    return None
                found[name] = value
            elif required:
                return None
        return found

    def baked(self, variables: Mapping[str, Any]) -> tuple[Any, ...]:
        """The part of the variables that decides the SQL; equal tuples share a plan."""
        return tuple([shape(variables[name]) if name in variables else _ABSENT for name, shape in self.structural])

    def _structural(self) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        found: dict[str, set[str]] = {}

        class Finder(Visitor):
            def enter_argument(self, node: Any, _key: Any, _parent: Any, _path: Any, ancestors: Any) -> None:
                directive = any(getattr(a, "kind", "") == "directive" for a in ancestors)
                mode = "value" if directive else STRUCTURAL_ARGUMENTS.get(node.name.value, "presence")
                for name, decides in _variables_in(node.value):
                    found.setdefault(name, set()).add("value" if decides else mode)

        for definition in (self.node, *self.fragments.values()):
            visit(definition, Finder())
        return tuple((name, _shape(modes)) for name, modes in sorted(found.items()))


def _plain(coerced: Any) -> dict[str, Any]:
    values = getattr(coerced, "coerced", coerced)
    return dict(values)


def _variables_in(node: Any) -> list[tuple[str, bool]]:
    """The variables of an argument; whether each stands where its value decides the SQL, as that of isNull does."""
    names: list[tuple[str, bool]] = []

    class Finder(Visitor):
        def enter_variable(self, node: VariableNode, _key: Any, parent: Any, *_: Any) -> None:
            names.append((node.name.value, isinstance(parent, ObjectFieldNode) and parent.name.value == "isNull"))

    visit(node, Finder())
    return names


_ABSENT = "absent"
"""Stands for a variable that is not given, which an input field that names it takes as not given either."""


def _presence(value: Any) -> Any:
    return value is not None


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, _value(v)) for k, v in value.items())
    if isinstance(value, list):
        return tuple(_value(v) for v in value)
    return value


def _skeleton(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, v if k == "isNull" else _skeleton(v)) for k, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return tuple(_skeleton(v) for v in value)
    return value is not None


def cursor_nulls(value: Any) -> tuple[bool, ...] | None:
    """Which sort values of a cursor are null; what is no cursor is refused when it is read."""
    if value is None:
        return None
    if "." not in value:
        return ()
    try:
        return tuple(part is None for part in sort_values(value))
    except GraphRefusal:
        return ()


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "presence": _presence,
    "value": _value,
    "skeleton": _skeleton,
    "cursor": cursor_nulls,
}


def _shape(modes: set[str]) -> Callable[[Any], Any]:
    """What of a variable decides the SQL, wherever it stands."""
    if len(modes) == 1:
        return _SHAPES[next(iter(modes))]
    if "value" in modes:
        return _value
    shapes = [_SHAPES[mode] for mode in sorted(modes)]
    return lambda value: tuple(shape(value) for shape in shapes)


@dataclass
class Document:
    text: str
    sha256: str
    operations: dict[str | None, Operation]
    errors: list[GraphRefusal] = field(default_factory=list)

    def operation(self, name: str | None) -> Operation:
        if self.errors:
            raise GraphRefusals(
                [GraphRefusal(one.code, one.text, locations=one.locations, **one.params) for one in self.errors]
            )
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        found = self.operations.get(name)
        if found is None:
            raise GraphRefusal(
                "OPERATION_RESOLUTION_FAILURE", "NO_SUCH_OPERATION" if name else "NAME_THE_OPERATION", name=repr(name)
            )
        return found


class Documents:
    """Parsed documents by their text, least recently used first out. What is refused is not kept."""

    def __init__(self, schema: GraphQLSchema, limits: DocumentLimits, size: int = KEPT_DOCUMENTS) -> None:
        self._schema = schema
        self._limits = limits
        self._size = size
        self._held: OrderedDict[str, Document] = OrderedDict()
        self._characters = 0

    @property
    def kept(self) -> list[str]:
        """The texts that are kept, the one that was asked for longest ago first."""
        return list(self._held)

    def get(self, text: str) -> Document:
        found = self._held.get(text)
        if found is not None:
            self._held.move_to_end(text)
            return found
        found = self._read(text)
        if not found.errors:
            self._held[text] = found
            self._characters += len(text)
            while len(self._held) > self._size or self._characters > KEPT_CHARACTERS:
                self._characters -= len(self._held.popitem(last=False)[0])
        return found

    def _read(self, text: str) -> Document:
        if len(text) > self._limits.max_characters:
            return Document(
                text, "", {}, [GraphRefusal("LIMIT_EXCEEDED", "DOCUMENT_TOO_LONG", limit=self._limits.max_characters)]
            )
        digest = hashlib.sha256(text.encode()).hexdigest()
        try:
            return self._parsed(text, digest)
        except RecursionError:
            return Document(text, digest, {}, [GraphRefusal("LIMIT_EXCEEDED", "DOCUMENT_TOO_NESTED")])

    def _parsed(self, text: str, digest: str) -> Document:
        try:
            node = parse(text, max_tokens=self._limits.max_tokens)
        except GraphQLSyntaxError as error:
            code = "LIMIT_EXCEEDED" if error.message.endswith("Parsing aborted.") else "GRAPHQL_PARSE_FAILED"
            return Document(text, digest, {}, [_formatted(error, code)])
        if refused := self._too_much(node):
            return Document(text, digest, {}, [refused])
        errors = validate(self._schema, node, max_errors=MAX_ERRORS)
        if errors:
            return Document(text, digest, {}, [_formatted(e, "GRAPHQL_VALIDATION_FAILED") for e in errors])
        operations = {
            (d.name.value if d.name else None): Operation(self._schema, node, d)
            for d in node.definitions
            if isinstance(d, OperationDefinitionNode)
        }
        return Document(text, digest, operations)

    def _too_much(self, node: DocumentNode) -> GraphRefusal | None:
        """Depth and aliases, judged before validation, whose own cost grows with them."""
        fragments = {d.name.value: d for d in node.definitions if isinstance(d, FragmentDefinitionNode)}
        aliases = 0

        class Aliases(Visitor):
            def enter_field(self, field: FieldNode, *_: Any) -> None:
                nonlocal aliases
                aliases += field.alias is not None

        visit(node, Aliases())
        if aliases > self._limits.max_aliases:
            return GraphRefusal("LIMIT_EXCEEDED", "TOO_MANY_ALIASES", aliases=aliases, limit=self._limits.max_aliases)
        depths = _Depths(fragments, self._limits.max_depth)
        try:
            for definition in node.definitions:
                if isinstance(definition, OperationDefinitionNode):
                    depths.of(definition.selection_set)
        except _TooDeepError:
            return GraphRefusal("LIMIT_EXCEEDED", "DOCUMENT_TOO_DEEP", limit=self._limits.max_depth)
        return None


class _TooDeepError(Exception):
    pass


class _Depths:
    """How many levels of fields stand in a selection. Each fragment is measured once, however often it is spread."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], most: int) -> None:
        self._fragments = fragments
        self._most = most
        self._known: dict[str, int] = {}

    def of(self, selections: SelectionSetNode | None, above: int = 0) -> int:
        """The depth below ``above`` levels; raises _TooDeepError as soon as there are too many."""
        if selections is None:
            return 0
        deepest = 0
        for node in selections.selections:
            if isinstance(node, FieldNode):
                if not node.name.value.startswith("__"):
                    deepest = max(deepest, 1 + self.of(node.selection_set, above + 1))
            elif isinstance(node, InlineFragmentNode):
                deepest = max(deepest, self.of(node.selection_set, above))
            elif isinstance(node, FragmentSpreadNode):
                deepest = max(deepest, self._of_fragment(node.name.value))
        if above + deepest > self._most:
            raise _TooDeepError
        return deepest

    def _of_fragment(self, name: str) -> int:
        if name not in self._known:
            # a fragment within itself is refused by validation: here it ends the walk
            self._known[name] = 0
            fragment = self._fragments.get(name)
            self._known[name] = 0 if fragment is None else self.of(fragment.selection_set)
        return self._known[name]


def _formatted(error: GraphQLError, code: str) -> GraphRefusal:
    """graphql-core's own text stays English."""
    places = [{"line": at.line, "column": at.column} for at in error.locations or ()]
    return GraphRefusal(code, error.message, locations=places)
