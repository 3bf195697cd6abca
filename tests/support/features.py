"""The feature table: what each feature is, where the graph carries it and which tests prove it.

`docs/features.toml` names the features. Descriptions in the committed SDL name the ids a coordinate carries,
and `@pytest.mark.feature` names the ids a test proves. `python -m tests.support.features` writes
`docs/features.md` from the three; with `--check` it writes nothing and fails when the file is out of date.
"""

import argparse
import contextlib
import difflib
import io
import os
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from graphql import parse
from graphql.language import DirectiveDefinitionNode, Node, TypeDefinitionNode

ROOT = Path(__file__).resolve().parents[2]
FEATURES = ROOT / "docs" / "features.toml"
TABLE = ROOT / "docs" / "features.md"
SDL = ROOT / "schema" / "schema.graphql"
COMMAND = "python -m tests.support.features"

PLACES_PER_CELL = 4
OPERATION_ROOTS = ("Query.", "Mutation.", "Subscription.")
MENTION = re.compile(r"\b(S\d-\d+)\b(?:\s+to\s+(S\d-\d+)\b)?")


class FeatureError(Exception):
    """A description or a mark names features that cannot be; the message says where."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing the platform does, under the id that descriptions and marks name."""

    id: str
    what: str
    system: str
    system_title: str


def load_features() -> dict[str, Feature]:
    """Every feature by id, in the order of `docs/features.toml`."""
    systems = tomllib.loads(FEATURES.read_text(encoding="utf-8"))
    return {
        id: Feature(id=id, what=what, system=system, system_title=entry["title"])
        for system, entry in systems.items()
        for id, what in entry["features"].items()
    }


def graph_places(sdl: str) -> dict[str, list[str]]:
    """The coordinates whose description names each id, entry points of the graph first.

    A description names ids one by one (`S0-43, S0-44`) or as a range with both ends (`S0-02 to S0-06`).
    Raises FeatureError for a range that is not ascending within one system.
    """
    places: defaultdict[str, set[str]] = defaultdict(set)
    for coordinate, description in _descriptions(sdl):
        for first, last in MENTION.findall(description):
            for id in _range(coordinate, first, last) if last else [first]:
                places[id].add(coordinate)
    return {id: sorted(places[id], key=_entry_points_first) for id in sorted(places)}


def _descriptions(sdl: str) -> Iterator[tuple[str, str]]:
    """Each described element of the SDL: its schema coordinate and its description."""
    definitions = parse(sdl, no_location=True).definitions if sdl.strip() else ()
    for definition in definitions:
        if isinstance(definition, DirectiveDefinitionNode):
            yield from _descriptions_within(definition, f"@{definition.name.value}")
        elif isinstance(definition, TypeDefinitionNode):
            yield from _descriptions_within(definition, definition.name.value)


def _descriptions_within(node: Node, coordinate: str) -> Iterator[tuple[str, str]]:
    if description := getattr(node, "description", None):
        yield coordinate, description.value
    for member in (*(getattr(node, "fields", None) or ()), *(getattr(node, "values", None) or ())):
        yield from _descriptions_within(member, f"{coordinate}.{member.name.value}")
    for argument in getattr(node, "arguments", None) or ():
        yield from _descriptions_within(argument, f"{coordinate}({argument.name.value}:)")


def _range(place: str, first: str, last: str) -> list[str]:
    system, low = first.split("-")
    last_system, high = last.split("-")
    if system != last_system or int(low) > int(high):
        raise FeatureError(f"{place} names the range {first} to {last}, which is not ascending in one system")
    return [f"{system}-{number:02d}" for number in range(int(low), int(high) + 1)]


def _entry_points_first(coordinate: str) -> tuple[bool, str]:
    return not coordinate.startswith(OPERATION_ROOTS), coordinate


def proofs(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """The tests that prove each id, as sorted node ids without parameters.

    A test marked to be skipped or expected to fail proves nothing.
    """
    tests: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.get_closest_marker("skip") or item.get_closest_marker("xfail"):
            continue
        for mark in item.iter_markers("feature"):
            for id in mark.args:
                tests[id].add(item.nodeid.partition("[")[0])
    return {id: sorted(tests[id]) for id in sorted(tests)}


def render(
    features: Mapping[str, Feature], places: Mapping[str, Sequence[str]], proofs: Mapping[str, Sequence[str]]
) -> str:
    """The text of `docs/features.md`. Raises FeatureError when a place or a test names an unknown id."""
    _refuse_unknown(features, places)
    _refuse_unknown(features, proofs)
    systems: defaultdict[str, list[Feature]] = defaultdict(list)
    for feature in features.values():
        systems[f"{feature.system} {feature.system_title}"].append(feature)

    lines = [
        "# Features",
        "",
        f"Generated by `{COMMAND}` from `docs/features.toml`, the descriptions in `schema/schema.graphql`",
        "and the tests marked with `@pytest.mark.feature`. Edit those, not this file.",
        "",
        *_heading("system", "features", "proved", "in the graph"),
        *(_row(title, *_counts(members, places, proofs)) for title, members in systems.items()),
        _row("all", *_counts(features.values(), places, proofs)),
    ]
    for title, members in systems.items():
        lines += ["", f"## {title}", "", *_heading("id", "what", "where in the graph", "proved by")]
        for feature in members:
            where = _places_cell(places.get(feature.id, ()))
            proved_by = _places_cell(proofs.get(feature.id, ()))
            lines.append(_row(feature.id, feature.what, where, proved_by))
    return "\n".join(lines) + "\n"


def _refuse_unknown(features: Mapping[str, Feature], named: Mapping[str, Sequence[str]]) -> None:
    unknown = [f"{place} names {id}" for id in named if id not in features for place in named[id]]
    if unknown:
        raise FeatureError("no such feature in docs/features.toml: " + "; ".join(unknown))


def _counts(
    members: Iterable[Feature], places: Mapping[str, Sequence[str]], proofs: Mapping[str, Sequence[str]]
) -> tuple[str, str, str]:
    ids = {feature.id for feature in members}
    return str(len(ids)), str(len(ids & proofs.keys())), str(len(ids & places.keys()))


def _heading(*cells: str) -> list[str]:
    return [_row(*cells), _row(*("---" for _ in cells))]


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return "".join(f"| {cell} " if cell else "| " for cell in escaped) + "|"


def _places_cell(places: Sequence[str]) -> str:
    cell = ", ".join(f"`{place}`" for place in places[:PLACES_PER_CELL])
    more = len(places) - PLACES_PER_CELL
    return f"{cell} … (+{more})" if more > 0 else cell


class _Collector:
    """A pytest plugin that keeps every collected item, before anything can deselect it."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self.items.append(item)


def collect_tests() -> list[pytest.Item]:
    """Every test under `tests/`. Raises FeatureError with pytest's output when a file cannot be collected."""
    # Options that an enclosing run or a shell leaves in the environment must not narrow the collection.
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    collector = _Collector()
    output = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        exit_code = pytest.main(["--collect-only", "-q", "tests", "-p", "no:cacheprovider"], plugins=[collector])
    if exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise FeatureError(f"the tests cannot be collected:\n{output.getvalue()}")
    return collector.items


def generate() -> str:
    """What `docs/features.md` should hold now. A graph whose SDL is not written yet carries nothing."""
    sdl = SDL.read_text(encoding="utf-8") if SDL.exists() else ""
    return render(load_features(), graph_places(sdl), proofs(collect_tests()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `docs/features.md`, or compare it with `--check`; the result is the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Generate docs/features.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when out of date")
    check: bool = parser.parse_args(arguments).check
    try:
        expected = generate()
    except FeatureError as error:
        print(error, file=sys.stderr)
        return 1
    if not check:
        TABLE.write_text(expected, encoding="utf-8")
        return 0
    committed = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    if committed == expected:
        return 0
    difference = difflib.unified_diff(
        committed.splitlines(), expected.splitlines(), "docs/features.md", "generated", lineterm="", n=0
    )
    print(f"docs/features.md is out of date; run {COMMAND}", *difference, sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
