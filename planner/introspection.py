"""The part of the schema that a caller's grants reach, for printing and for introspection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphql import (
    DocumentNode,
    EnumTypeDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    InputObjectTypeDefinitionNode,
    InterfaceTypeDefinitionNode,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    TypeNode,
    UnionTypeDefinitionNode,
    build_ast_schema,
    execute_sync,
    parse,
    print_schema,
)

from authz.coordinates import Act
from authz.grants import Grants
from authz.scopes import within
from planner.assemble import Graph
from planner.mapping import Entity, camel, snake

MAX_LISTS = 12
"""Lists of the schema that an operation may select: what tools ask for has nine."""
LISTS = frozenset({"types", "fields", "inputFields", "args", "interfaces", "possibleTypes", "enumValues", "directives"})
CHAINED = frozenset({"fields", "inputFields"})
"""Lists of which one below another would multiply what is told by the width of the schema."""
ROOTS = {"Query": Act.READ, "Mutation": Act.CALL, "Subscription": Act.CALL}
BUILT_IN = frozenset({"String", "Int", "Float", "Boolean", "ID"})


def visible_schema(graph: Graph, grants: Grants) -> GraphQLSchema:
    """The schema without what the grants do not reach, and without types that nothing leads to any more."""
    document = parse(graph.sdl())
    public = {name for name, root in graph.registry.mutations.items() if root.public}
    kept: dict[str, Any] = {}
    for definition in document.definitions:
        named = getattr(definition, "name", None)
        name: str = named.value if named is not None else ""
        if isinstance(definition, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            fields = [f for f in definition.fields or () if _granted(graph, grants, name, f.name.value, public)]
            if fields:
                kept[name] = _with(definition, fields=tuple(fields))
        elif isinstance(definition, InputObjectTypeDefinitionNode | EnumTypeDefinitionNode):
            usable = _usable_part(graph, grants, name, definition)
            if usable is not None:
                kept[name] = usable
        elif name:
            kept[name] = definition
    _drop_dangling(kept)
    reached = _reachable(kept)
    definitions = tuple(node for name, node in kept.items() if name in reached)
    return build_ast_schema(DocumentNode(definitions=definitions), assume_valid=True)


def _with(node: Any, **changes: Any) -> Any:
    return type(node)(**{key: changes.get(key, getattr(node, key)) for key in node.keys})


def _granted(graph: Graph, grants: Grants, type_name: str, field: str, public: set[str]) -> bool:
    if type_name in ROOTS:
        if type_name == "Mutation" and snake(field) in public:
            return True
        return grants.allows(type_name, field, ROOTS[type_name])
    entity = graph.registry.entities.get(type_name)
    if entity is None:
        return True
    names = list(entity.concrete.values()) if entity.interface else [type_name]
    return any(grants.allows(name, field, Act.READ) for name in names)


def _usable_part(graph: Graph, grants: Grants, name: str, definition: Any) -> Any:
    """An input or enumeration; of a filter or an order the fields by which the caller may search or sort, None where
    there are none."""
    if (entity := graph.registry.entities.get(name.removesuffix("Filter"))) is not None:
        fields = {f.name.value: f for f in definition.fields or ()}
        searched = [camel(one) for one in entity.filters if _usable(grants, entity, camel(one))]
        joined = [f for f in fields if f not in {camel(one) for one in entity.filters}]
        return _with(definition, fields=tuple(fields[f] for f in (*searched, *joined))) if searched else None
    if (entity := graph.registry.entities.get(name.removesuffix("OrderField"))) is not None:
        sorted_by = {one.upper() for one in entity.sorts if _usable(grants, entity, camel(one))} | {"ID"}
        return _with(definition, values=tuple(v for v in definition.values or () if v.name.value in sorted_by))
    return definition


def _usable(grants: Grants, entity: Entity, field: str) -> bool:
    """Whether the caller may search and sort by a field: it reads it on every row that it reaches."""
    names = list(entity.concrete.values()) if entity.interface else [entity.name]
    reached = {name: own for name in names if (own := grants.reach_of(name, "id", Act.READ)) is not None}
    return bool(reached) and all(
        (read := grants.reach_of(name, field, Act.READ)) is not None and within(own, read)
        for name, own in reached.items()
    )


def _named(node: TypeNode) -> str:
    while isinstance(node, NonNullTypeNode | ListTypeNode):
        node = node.type
    assert isinstance(node, NamedTypeNode)
    return node.name.value


def _drop_dangling(kept: dict[str, Any]) -> None:
    """Removes fields of types that are gone, types whose last field went with them, and pages of what is gone, until
    nothing changes."""

    def known(one: Any) -> bool:
        return _named(one.type) in kept or _named(one.type) in BUILT_IN

    def takes(field: Any) -> Any:
        return _with(field, arguments=tuple(argument for argument in field.arguments or () if known(argument)))

    changed = True
    while changed:
        changed = False
        for name, node in list(kept.items()):
            if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
                fields = tuple(f for f in map(takes, node.fields or ()) if known(f))
                interfaces = tuple(i for i in node.interfaces or () if i.name.value in kept)
                changed = changed or (len(fields), len(interfaces)) != (
                    len(node.fields or ()),
                    len(node.interfaces or ()),
                )
                if fields and _lists(fields) == _lists(node.fields):
                    kept[name] = _with(node, fields=fields, interfaces=interfaces)
                else:
                    del kept[name]


def _lists(fields: Iterable[Any] | None) -> bool:
    """Whether a type is a page of something; one of nothing that the caller knows is of no use."""
    return any(field.name.value == "nodes" for field in fields or ())


def _reachable(kept: dict[str, Any]) -> set[str]:
    implementers: dict[str, list[str]] = {}
    for name, node in kept.items():
        for interface in getattr(node, "interfaces", None) or ():
            implementers.setdefault(interface.name.value, []).append(name)
    seen: set[str] = set()
    todo = [name for name in ROOTS if name in kept]
    while todo:
        name = todo.pop()
        if name in seen or name not in kept:
            continue
        seen.add(name)
        todo += _references(kept[name])
        todo += implementers.get(name, [])
    return seen | {name for name, node in kept.items() if node.kind == "directive_definition"}


def _references(node: Any) -> Iterable[str]:
    for field in getattr(node, "fields", None) or ():
        yield _named(field.type)
        for argument in getattr(field, "arguments", None) or ():
            yield _named(argument.type)
    for interface in getattr(node, "interfaces", None) or ():
        yield interface.name.value
    if isinstance(node, UnionTypeDefinitionNode):
        for member in node.types or ():
            yield member.name.value


def too_wide(fields: Sequence[FieldNode], fragments: Mapping[str, FragmentDefinitionNode]) -> bool:
    """Whether introspection selects more of the schema than any tool asks for; it is worked out at once."""
    known: dict[tuple[int, bool], int] = {}

    def lists(selections: Sequence[SelectionNode], chained: bool) -> int:
        """How many lists are selected; those of a fragment are counted once and told as often as it is spread."""
        same = (id(selections), chained)
        if same not in known:
            known[same] = sum(lists_of(node, chained) for node in selections)
        return known[same]

    def lists_of(node: SelectionNode, chained: bool) -> int:
        if isinstance(node, FragmentSpreadNode):
            return lists(fragments[node.name.value].selection_set.selections, chained)
        assert isinstance(node, FieldNode | InlineFragmentNode)
        here = 0
        if isinstance(node, FieldNode) and node.name.value in LISTS:
            here = MAX_LISTS + 1 if chained and node.name.value in CHAINED else 1
            chained = chained or node.name.value in CHAINED
        return here + (lists(node.selection_set.selections, chained) if node.selection_set is not None else 0)

    return lists(fields, False) > MAX_LISTS


def introspect(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    fields: list[FieldNode],
    variables: dict[str, Any],
) -> dict[str, Any]:
    """Answers the introspection fields of an operation from a caller's part of the schema."""
    asked = _with(operation, selection_set=SelectionSetNode(selections=tuple(fields)))
    others = tuple(d for d in document.definitions if not isinstance(d, OperationDefinitionNode))
    result = execute_sync(schema, DocumentNode(definitions=(asked, *others)), variable_values=variables)
    return dict(result.data or {})


def print_visible(graph: Graph, grants: Grants) -> str:
    return print_schema(visible_schema(graph, grants)) + "\n"
