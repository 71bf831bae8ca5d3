"""Imports run one way: a package knows what is below it in its part's order, never what is beside or above it.

A new package must be added to the order of its part: that is the moment to decide what may import it.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "plugins"
AGENT = ROOT / "roles" / "watcher" / "files" / "zoo_watcher"
GIT_HOOK = ROOT / "roles" / "git_hook" / "files" / "program"
COLLECTION = "ansible_collections.zoo.deploy.plugins"

AGENT_ORDER = (
    {"__init__", "backoff", "errors", "frozen", "inbox", "logs", "signals", "wire"},
    {"config", "host"},
    {"zookeeper"},
    {"services"},
    {"desired", "files", "releases"},
    {"metrics"},
    {"control_commands", "goal", "status_board", "status_report", "troubles"},
    {"command_line", "convergence"},
    {"rollouts"},
    {"watcher"},
    {"__main__"},
)
"""The agent's packages and the files beside them, the lowest first; those of one row do not import each other."""
AGENT_LIBRARIES = {
    "kazoo": {"zookeeper"},
    "prometheus_client": {"metrics"},
}
"""The third-party imports of the agent, and the packages or files that may have them."""
SELDOM_NEEDED = {
    "argparse",
    "ctypes",
    "git",
    "http.client",
    "importlib.metadata",
    "prometheus_client",
    "subprocess",
    "tempfile",
    "zoo_watcher.command_line",
    "zoo_watcher.files.reconciler",
    "zoo_watcher.metrics",
    "zoo_watcher.releases.deployment",
    "zoo_watcher.releases.apply_process",
    "zoo_watcher.releases.live_proof",
    "zoo_watcher.rollouts",
    "zoo_watcher.wire.rollout_records",
}
"""What an agent imports only when it needs it: importlib.metadata alone is a twentieth of an idle agent's memory."""
AT_REST = {
    *("dataclasses", "encodings", "importlib", "pathlib", "pwd", "signal", "zoo_watcher"),
    *("fnmatch", "glob", "grp", "ntpath", "stringprep", "unicodedata"),
}
"""What an agent with a TCP and an HTTP check has in its memory while it deploys nothing, besides kazoo's own imports:
the packages that it needs, and those that they need. P11 of the bench measures what that takes; one more is a choice.
"""
OF_A_DEPLOYMENT = {
    *("_locale", "_posixsubprocess", "locale", "subprocess", "zoo_watcher.host.program"),
    *(
        f"zoo_watcher.releases.{name}"
        for name in (
            *("apply_process", "deployment", "fetching", "going_back", "health_proof", "hooks", "live_proof"),
            "memory",
        )
    ),
}
"""What its first deployment adds to that, without hooks and without a required signature."""

PLUGIN_ORDER = (
    {"doc_fragments", "module_utils"},
    {"plugin_utils/terminal"},
    {
        *("plugin_utils/registry", "plugin_utils/content", "plugin_utils/progress", "plugin_utils/attendance"),
        "plugin_utils/fleet_limit",
    },
    {
        *("plugin_utils/inventory", "plugin_utils/watch", "plugin_utils/config_znodes", "plugin_utils/kept_sessions"),
        *("plugin_utils/fleet_turns", "plugin_utils/own_options", "plugin_utils/page"),
    },
    {"action", "filter", "inventory", "lookup", "modules"},
)
"""The plugins' packages, the lowest first; those of one row do not import each other."""
CONTROLLER = ("action", "filter", "inventory", "lookup", "plugin_utils")
"""What is never sent to a host: modules may not import it."""
PLUGIN_LIBRARIES = {"ansible", "kazoo", "git"}
CONTROLLER_LIBRARIES = {"jinja2", "markupsafe"}
"""What ansible-core brings to the controller."""

MOST_FILES = {
    "modules/zk_access": 10,
    "modules/zk_ensemble_info": 6,
    "modules/zk_fleet": 16,
    "modules/zk_fleet_info": 18,
    "modules/zk_lock": 15,
    "modules/zk_release": 38,
    "modules/zk_release_info": 18,
    "modules/zk_znode": 13,
    "modules/zk_znode_info": 8,
    "inventory/zk_services": 16,
    "lookup/zk_znode": 9,
}
"""The most files that a module sends to each host besides itself, or that an inventory has Ansible compile."""


def parts_of(directory: Path) -> list[str]:
    """The files below `directory`, as `module_utils/records`."""
    return sorted(str(path.relative_to(directory).with_suffix("")) for path in directory.rglob("*.py"))


def imports(root: Path, package: str, part: str) -> Iterator[str]:
    """The absolute name of everything that a part imports, wherever in it. `from a import b` gives `a.b`."""
    above = [*package.split("."), *part.split("/")]
    for node in ast.walk(ast.parse((root / f"{part}.py").read_bytes(), part)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = above[: -node.level] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def inner(names: Iterable[str], package: str, known: list[str]) -> set[str]:
    """The parts among `known` that are named; a name may go on into what the part defines."""
    found = set()
    for name in names:
        words = name.removeprefix(f"{package}.").split(".") if name.startswith(f"{package}.") else []
        candidates = ("/".join(words[:length]) for length in range(len(words), 0, -1))
        found |= {next((candidate for candidate in candidates if candidate in known), "")}
    return found - {""}


def foreign(names: Iterable[str], own: str) -> set[str]:
    """The top-level names that neither Python nor `own` brings."""
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {own, "__future__"}


def row(order: tuple[set[str], ...], part: str) -> int:
    """The row of a part's package in the order."""
    for number, packages in enumerate(order):
        if any(package == part or part.startswith(f"{package}/") for package in packages):
            return number
    raise AssertionError(f"{part}.py is in no package of the order; say in {__file__} who may know it")


def package_of(order: tuple[set[str], ...], part: str) -> str:
    """The package of the order that a part is in."""
    return next(name for name in order[row(order, part)] if name == part or part.startswith(f"{name}/"))


def ring(neighbours: dict[str, set[str]]) -> list[str] | None:
    """The parts that import each other in a ring, or lead to one; None if there is no ring."""
    left = dict(neighbours)
    while True:
        free = [part for part, others in left.items() if not others & left.keys()]
        if not free:
            return sorted(left) or None
        for part in free:
            del left[part]


def closure(neighbours: dict[str, set[str]], part: str) -> set[str]:
    """A part, all that it imports, and what those import."""
    reached: set[str] = set()
    left = {part}
    while left:
        other = left.pop()
        reached.add(other)
        left |= neighbours[other] - reached
    return reached


def neighbours_of(root: Path, package: str) -> dict[str, set[str]]:
    """The other parts that each part imports."""
    known = parts_of(root)
    return {part: inner(imports(root, package, part), package, known) - {part} for part in known}


def libraries_of(part: str) -> set[str]:
    """The third-party imports of a part of the plugins."""
    return foreign(imports(PLUGINS, COLLECTION, part), "ansible_collections")


AGENT_NEIGHBOURS = neighbours_of(AGENT, "zoo_watcher")
PLUGIN_NEIGHBOURS = neighbours_of(PLUGINS, COLLECTION)


@pytest.mark.parametrize("part", AGENT_NEIGHBOURS)
def test_a_file_of_the_agent_imports_downwards_only(part: str) -> None:
    for other in AGENT_NEIGHBOURS[part]:
        same = package_of(AGENT_ORDER, part) == package_of(AGENT_ORDER, other)
        assert same or row(AGENT_ORDER, other) < row(AGENT_ORDER, part), f"{part} imports {other}"


@pytest.mark.parametrize("part", PLUGIN_NEIGHBOURS)
def test_a_plugin_imports_downwards_only(part: str) -> None:
    for other in PLUGIN_NEIGHBOURS[part]:
        same = package_of(PLUGIN_ORDER, part) == package_of(PLUGIN_ORDER, other) and "_utils/" in part
        assert same or row(PLUGIN_ORDER, other) < row(PLUGIN_ORDER, part), f"{part} imports {other}"
        assert part.startswith(CONTROLLER) or not other.startswith(CONTROLLER), f"{part} imports {other}: not on a host"


@pytest.mark.parametrize("neighbours", [AGENT_NEIGHBOURS, PLUGIN_NEIGHBOURS], ids=["agent", "plugins"])
def test_no_files_import_each_other_in_a_ring(neighbours: dict[str, set[str]]) -> None:
    assert ring(neighbours) is None


def test_a_ring_is_found() -> None:
    assert ring({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize("part", AGENT_NEIGHBOURS)
def test_a_file_of_the_agent_knows_neither_ansible_nor_a_library_that_is_another_files(part: str) -> None:
    allowed = {library for library, owners in AGENT_LIBRARIES.items() if {part, part.partition("/")[0]} & owners}
    found = foreign(imports(AGENT, "zoo_watcher", part), "zoo_watcher")
    assert found <= allowed, f"{part} imports {', '.join(sorted(found - allowed))}"


@pytest.mark.parametrize("part", PLUGIN_NEIGHBOURS)
def test_a_plugin_imports_of_third_parties_kazoo_and_gitpython_alone(part: str) -> None:
    allowed = PLUGIN_LIBRARIES | (CONTROLLER_LIBRARIES if part.startswith(CONTROLLER) else set())
    found = libraries_of(part)
    assert found <= allowed, f"{part} imports {', '.join(sorted(found - allowed))}"


def test_the_process_that_holds_the_session_never_loads_git() -> None:
    loaded = closure(AGENT_NEIGHBOURS, "watcher")
    assert "zookeeper/session" in loaded
    assert not loaded & {"releases/git_command", "releases/repository"}


def test_the_apply_process_which_each_deployment_waits_for_imports_only_what_it_needs() -> None:
    report = "import sys, zoo_watcher.__main__, zoo_watcher.releases.apply; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(AGENT.parent)!r}); {report}"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stdout.split())
    assert "zoo_watcher.releases.repository" in imported
    assert imported & {"argparse", "datetime", "git", "hashlib", "kazoo", "shutil", "tempfile", "uuid"} == set()


AN_AGENT = """\
import sys, kazoo.client
before = set(sys.modules)
from zoo_watcher import __main__, watcher
from zoo_watcher.services.probes import probe

def look(agent):
    for service in agent.config.services:
        probe(service.check)
    at_rest = set(sys.modules)
    print(*at_rest - before)
    from zoo_watcher.releases.apply_process import ApplyProcess, tidy_job
    from zoo_watcher.releases.deployment import Deployment
    ApplyProcess(agent.config).run(tidy_job(agent.config))
    print(*set(sys.modules) - at_rest)
    sys.stdout.flush()

watcher.Watcher.run = look
# The role writes the version beside the code; in a checkout it is looked for elsewhere.
__main__._version = lambda: "0.0.0"
__main__.main()
"""
"""An agent's process that, where its loop would begin, makes each check once, and prints what it has imported; then
what it imports for a deployment, after a job of the apply process."""


def test_what_an_agent_imports_late_is_of_its_own_version_once_an_upgrade_has_moved_the_link(tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "zoo_watcher").mkdir()
    current = tmp_path / "current"
    current.symlink_to(AGENT.parent)
    late = (
        "import os, zoo_watcher.wire; os.remove('current'); os.symlink('next', 'current'); "
        "import zoo_watcher.releases.deployment, zoo_watcher.wire.rollout_rules"
    )
    command = [sys.executable, "-c", late]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(current)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_process_that_holds_the_session_has_in_its_memory_only_what_every_agent_needs(tmp_path: Path) -> None:
    service = {"path": "/service", "address": "127.0.0.1", "port": 1}
    checked = [{**service, "id": kind, "check": {"type": kind, "host": "127.0.0.1"}} for kind in ("tcp", "http")]
    config = {"hosts": "127.0.0.1:1", "base": str(tmp_path / "base"), "services": checked}
    file = tmp_path / "agent.json"
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", AN_AGENT, "run", "--config", str(file)],
        env={"PYTHONPATH": str(AGENT.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, of_a_deployment = (set(line.split()) for line in done.stdout.splitlines())
    assert of_a_deployment - OF_A_DEPLOYMENT == set()
    assert "zoo_watcher.services.http_answer" in imported
    assert imported & SELDOM_NEEDED == set()
    assert {name.partition(".")[0] for name in imported} - AT_REST == set()


@pytest.mark.parametrize("root", [PLUGINS, AGENT, GIT_HOOK], ids=["plugins", "agent", "git_hook"])
def test_no_alias_of_a_union_with_none_is_made_at_run_time_which_python_39_cannot_evaluate(root: Path) -> None:
    found = []
    for path in root.rglob("*.py"):
        nodes, _for_checkers = _by_use(path)
        unions = (node for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr))
        of_none = (node for node in unions if isinstance(node.right, ast.Constant) and node.right.value is None)
        found += [f"{path}:{node.lineno}" for node in of_none]
    assert found == []


@pytest.mark.parametrize("root", [PLUGINS, AGENT, GIT_HOOK], ids=["plugins", "agent", "git_hook"])
def test_no_alias_that_is_made_for_the_type_checker_is_used_at_run_time(root: Path) -> None:
    found = []
    for path in root.rglob("*.py"):
        nodes, for_checkers = _by_use(path)
        made = {node.id for node in for_checkers if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        found += [f"{path}:{node.lineno}" for node in nodes if isinstance(node, ast.Name) and node.id in made]
    assert found == []


def _by_use(path: Path) -> tuple[list[ast.AST], list[ast.AST]]:
    """The nodes of a file that are evaluated at run time, and those only for the type checker; no annotations."""
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    blocks = (node for node in nodes if isinstance(node, ast.If) and _is_for_checkers(node))
    for_checkers = [inner for block in blocks for one in block.body for inner in ast.walk(one)]
    annotations = (getattr(node, name, None) for node in nodes for name in ("annotation", "returns"))
    left_out = {*for_checkers, *(inner for one in annotations if one is not None for inner in ast.walk(one))}
    return [node for node in nodes if node not in left_out], for_checkers


def _is_for_checkers(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_exactly_one_file_of_module_utils_imports_ansible() -> None:
    parts = [part for part in PLUGIN_NEIGHBOURS if part.startswith("module_utils/")]
    assert [part for part in parts if "ansible" in libraries_of(part)] == ["module_utils/ansible_module"]


@pytest.mark.parametrize("program", [AGENT, GIT_HOOK], ids=["agent", "git_hook"])
def test_what_a_program_without_ansible_shares_is_one_file_and_needs_no_ansible(program: Path) -> None:
    shared = {path: f"module_utils/{path.stem}" for path in program.rglob("*.py") if path.is_symlink()}
    assert "module_utils/connection" in shared.values()
    for path, part in shared.items():
        assert path.resolve() == PLUGINS / f"{part}.py"
        assert "ansible" not in libraries_of(part)
        assert PLUGIN_NEIGHBOURS[part] <= set(shared.values()), f"{part} needs a file that is not shared"


@pytest.mark.parametrize(
    ("part", "known"),
    [("module_utils/znode_names", set()), ("module_utils/records", {"module_utils/znode_names"})],
)
def test_records_need_nothing_but_the_standard_library_and_names(part: str, known: set[str]) -> None:
    assert libraries_of(part) == set()
    assert PLUGIN_NEIGHBOURS[part] == known


def test_the_rules_of_a_rollout_know_neither_a_clock_nor_chance_nor_anything_outside() -> None:
    rules = closure(PLUGIN_NEIGHBOURS, "module_utils/rollout_rules")
    assert {"module_utils/rollout_verbs", "module_utils/rollout_plan", "module_utils/records"} <= rules
    pure = {"__future__", "collections", "dataclasses", "functools", "json", "re", "typing", "urllib.parse"}
    for part in rules:
        names = [name for name in imports(PLUGINS, COLLECTION, part) if not name.startswith("ansible_collections.")]
        assert {name.rpartition(".")[0] or name for name in names} <= {*pure, "collections.abc"}, part
        called = {getattr(node, "id", "") for node in ast.walk(ast.parse((PLUGINS / f"{part}.py").read_bytes(), part))}
        assert not called & {"open", "input", "print"}, part


@pytest.mark.parametrize("part", MOST_FILES)
def test_a_plugin_needs_no_more_files_than_it_may(part: str) -> None:
    needed = closure(PLUGIN_NEIGHBOURS, part) - {part}
    assert len(needed) <= MOST_FILES[part], f"{part} needs {len(needed)} files: {', '.join(sorted(needed))}"


def test_each_module_has_a_limit_of_files() -> None:
    assert {part for part in PLUGIN_NEIGHBOURS if part.startswith("modules/")} <= MOST_FILES.keys()


def test_no_two_classes_have_one_name() -> None:
    named_by_ansible = {"ActionModule", "InventoryModule", "LookupModule", "ModuleDocFragment"}
    files = [path for root in (PLUGINS, AGENT, GIT_HOOK) for path in root.rglob("*.py") if not path.is_symlink()]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_bytes()))]
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef) and node.name not in named_by_ansible]
    assert sorted(names) == sorted(set(names))
