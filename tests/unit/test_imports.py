"""Imports run one way. Each file has a rank; it may import files of its own part that rank lower, and nothing else.

A new file belongs into the table of its part: that is the moment to think about who may know it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "plugins"
AGENT = ROOT / "roles" / "watcher" / "files" / "zoo_watcher"
COLLECTION = "ansible_collections.zoo.deploy.plugins"

PLUGIN_LAYERS = (
    {"module_utils/names", "doc_fragments/*"},
    {"module_utils/records"},
    {"module_utils/*"},
    {"plugin_utils/*"},
    {"action/*", "inventory/*", "lookup/*", "modules/*"},
)
"""The plugins' folders, the lowest first. Files of one layer know each other where it is `SHARED`."""
SHARED = {"module_utils", "plugin_utils"}
CONTROLLER = {"plugin_utils", "action", "inventory", "lookup"}
"""Folders that are never sent to a host: modules may not know them."""
PLUGIN_LIBRARIES = {"ansible", "kazoo", "git"}
CONTROLLER_LIBRARIES = {"jinja2"}
"""What ansible-core brings to the controller."""

AGENT_LAYERS = (
    {"__init__", "capabilities", "credit", "errors", "git_answers", "names", "states"},
    {"keys", "records", "rendering"},
    {"kept_file"},
    {"config", "layout"},
    {"command", "journal", "ledger", "manifest", "metrics"},
    {"actions", "activation", "health", "placing", "repository", "session", "systemd"},
    {"apply_child", "folder", "look", "registration", "report", "tree"},
    {"deployment", "kept"},
    {"keeper"},
    {"apply", "watcher"},
    {"__main__"},
)
"""The agent's files, the lowest first; files of one layer do not know each other."""
AGENT_LIBRARIES = {
    "kazoo": {"registration", "session"},
    "git": {"repository"},
    "prometheus_client": {"metrics"},
}
"""The third-party imports of the agent, and the files that may have them."""


def parts_of(folder: Path) -> list[str]:
    """The files below `folder`, as `module_utils/records`."""
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py"))


def imports(path: Path, package: str) -> Iterator[str]:
    """The absolute name of everything that a file imports, wherever in it; `package` is what it lies in.

    `from a import b` gives `a.b`, since b may be a module.
    """
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, root: str, known: list[str]) -> str | None:
    """The part of `root` that an imported name means, None where it is none of them."""
    if not name.startswith(f"{root}."):
        return None
    words = name.removeprefix(f"{root}.").split(".")
    candidates = ("/".join(words[:length]) for length in range(len(words), 0, -1))
    return next((candidate for candidate in candidates if candidate in known), None)


def foreign(names: Iterator[str], own: str) -> set[str]:
    """The top-level names among `names` that neither Python nor `own` brings."""
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {own, "__future__"}


def plugin_rank(part: str) -> int:
    """The layer of a plugin's file."""
    for rank, layer in enumerate(PLUGIN_LAYERS):
        if part in layer or f"{part.split('/', maxsplit=1)[0]}/*" in layer:
            return rank
    raise AssertionError(f"plugins/{part}.py has no rank; put its folder into PLUGIN_LAYERS of {__file__}")


def agent_rank(part: str) -> int:
    """The layer of a file of the agent's."""
    for rank, layer in enumerate(AGENT_LAYERS):
        if part in layer:
            return rank
    raise AssertionError(f"zoo_watcher/{part}.py has no rank; put it into AGENT_LAYERS of {__file__}")


@pytest.mark.parametrize("part", parts_of(PLUGINS))
def test_a_plugin_imports_downwards_only(part: str) -> None:
    known = parts_of(PLUGINS)
    folder = part.split("/", maxsplit=1)[0]
    found = [within(name, COLLECTION, known) for name in imports(PLUGINS / f"{part}.py", package_of(part))]
    for other in filter(None, found):
        highest = plugin_rank(part) if folder in SHARED else plugin_rank(part) - 1
        assert plugin_rank(other) <= highest, f"{part} imports {other}"
        assert folder in CONTROLLER or other.split("/")[0] not in CONTROLLER, f"{part} imports {other}: not on a host"


def package_of(part: str) -> str:
    """The package that a plugin's file lies in."""
    return ".".join([COLLECTION, *part.split("/")[:-1]])


@pytest.mark.parametrize("part", parts_of(PLUGINS))
def test_a_plugin_imports_of_third_parties_kazoo_and_gitpython_alone(part: str) -> None:
    found = foreign(imports(PLUGINS / f"{part}.py", package_of(part)), "ansible_collections")
    allowed = PLUGIN_LIBRARIES | (CONTROLLER_LIBRARIES if part.partition("/")[0] in CONTROLLER else set())
    assert found <= allowed, f"{part} imports {', '.join(sorted(found - allowed))}"


def test_no_two_files_of_the_plugins_import_each_other_in_a_ring() -> None:
    assert ring({part: plugin_neighbours(part) for part in parts_of(PLUGINS)}) is None


def plugin_neighbours(part: str) -> set[str]:
    """The parts that a plugin's file imports."""
    known = parts_of(PLUGINS)
    found = (within(name, COLLECTION, known) for name in imports(PLUGINS / f"{part}.py", package_of(part)))
    return {other for other in found if other and other != part}


def ring(neighbours: dict[str, set[str]]) -> list[str] | None:
    """Some of the files that import each other in a ring; None where none do."""
    left = dict(neighbours)
    while True:
        free = [part for part, others in left.items() if not others & left.keys()]
        if not free:
            return sorted(left) or None
        for part in free:
            del left[part]


def test_a_ring_is_found() -> None:
    assert ring({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize("part", parts_of(AGENT))
def test_a_file_of_the_agent_imports_downwards_only(part: str) -> None:
    known = parts_of(AGENT)
    found = [within(name, "zoo_watcher", known) for name in imports_of_agent(part)]
    for other in filter(None, found):
        assert agent_rank(other) < agent_rank(part), f"{part} imports {other}"


@pytest.mark.parametrize("part", parts_of(AGENT))
def test_a_file_of_the_agent_knows_neither_ansible_nor_a_library_that_is_another_files(part: str) -> None:
    found = foreign(imports_of_agent(part), "zoo_watcher")
    allowed = {library for library, parts in AGENT_LIBRARIES.items() if part in parts}
    assert found <= allowed, f"{part} imports {', '.join(sorted(found - allowed))}"


def test_the_process_that_holds_the_session_never_loads_git() -> None:
    loaded, left = set(), ["watcher"]
    while left:
        part = left.pop()
        loaded.add(part)
        found = {within(name, "zoo_watcher", known=parts_of(AGENT)) for name in imports_of_agent(part)}
        left += [other for other in found if other and other not in loaded]
    assert "session" in loaded
    assert not loaded & AGENT_LIBRARIES["git"]


def imports_of_agent(part: str) -> Iterator[str]:
    """What a file of the agent's imports."""
    return imports(AGENT / f"{part}.py", "zoo_watcher")


def test_what_the_agent_shares_with_the_plugins_is_one_file() -> None:
    shared = {path.name: path.resolve() for path in AGENT.glob("*.py") if path.is_symlink()}
    assert {"names.py", "records.py"} <= shared.keys()
    assert shared == {name: PLUGINS / "module_utils" / name for name in shared}


@pytest.mark.parametrize(("part", "known"), [("names", set()), ("records", {"module_utils/names"})])
def test_records_need_nothing_but_the_standard_library_and_names(part: str, known: set[str]) -> None:
    part = f"module_utils/{part}"
    assert foreign(imports(PLUGINS / f"{part}.py", package_of(part)), "ansible_collections") == set()
    assert plugin_neighbours(part) == known
