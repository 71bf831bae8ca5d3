"""What the documentation names exists, and what it should name is named.

docs/architecture.md is checked against the code: packages, znodes, records, states, a host's directories.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.module_utils.lock import LockRecord
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    STATES,
    AgentStatus,
    AppPaths,
    FileStatus,
    Release,
    RosterEntry,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import HostEntry, RolloutRecord
from support.documents import DOCUMENTS, FENCED, ROOT
from zoo_watcher.command_line import CONTROLS
from zoo_watcher.host.layout import Layout

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

HOME = re.compile(r"https://(?:github|raw\.githubusercontent)\.com/zoo-deploy/zoo\.deploy/(?:(?:blob|tree)/)?main/(.*)")
"""Matches the link to a file of this repository on a page that is also shown elsewhere."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NAMED_PATH = re.compile(
    r"(?<![\w./<-])(?:changelogs|docs|extensions|meta|playbooks|plugins|roles|tests|\.ci|\.github)/[\w.*/-]*[\w*/]"
)


def section(title: str) -> str:
    """The text below a heading of the architecture, up to the next heading of its level or above."""
    level, rest = re.split(rf"^(#+) {re.escape(title)}\n", ARCHITECTURE, maxsplit=1, flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def block(text: str, language: str) -> str:
    """The first fenced block of a language."""
    return next(str(body) for found, body in FENCED.findall(text) if found == language)


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes from a document's headings."""
    titles = HEADING.findall(prose(path))
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


def commands(path: Path) -> str:
    """The code in a document's sentences, and the blocks that are typed into a shell."""
    text = path.read_text(encoding="utf-8")
    shell = [body for language, body in FENCED.findall(text) if language in {"bash", "console", "sh"}]
    return "\n".join([*CODE.findall(FENCED.sub("", text)), *shell])


def tree(text: str) -> Iterator[str]:
    """The paths of a directory tree that is drawn by indentation, two spaces a level."""
    above: list[str] = []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in (word for word in line.split() if word.endswith("/")):
            above[depth:] = [name]
            yield "".join(above)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        here = HOME.match(target)
        if ("://" in target and not here) or target.startswith("mailto:"):
            continue
        name, _hash, anchor = (here[1] if here else target).partition("#")
        file = ((ROOT if here else path.parent) / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_path_that_is_named_exists(path: Path) -> None:
    for named in NAMED_PATH.findall(commands(path)):
        assert any([*ROOT.glob(named.rstrip("/")), *path.parent.glob(named.rstrip("/"))]), named


def test_a_variable_of_a_role_that_is_documented_for_users_exists() -> None:
    specifications = list(ROOT.glob("roles/*/meta/argument_specs.yml"))
    read = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in specifications)
    known = {name for one in read for name in one["argument_specs"]["main"]["options"]}
    text = "\n".join(commands(path) for path in DOCUMENTS if path.name not in {"CONTRIBUTING.md", "architecture.md"})
    roles = "|".join(path.parents[1].name for path in specifications)
    named = set(re.findall(rf"(?<![\w/<-])(?:{roles})_[a-z_0-9]*[a-z0-9]\b(?![\w.(-])", text))
    assert named - known == set()


def test_the_readme_names_all_that_is_in_the_collection() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## All content\n")[2]
    content = [
        *(path.stem for kind in ("modules", "inventory", "lookup") for path in ROOT.glob(f"plugins/{kind}/*.py")),
        *(path.stem for path in ROOT.glob("extensions/eda/plugins/event_source/*.py")),
        *(path.parent.parent.name for path in ROOT.glob("roles/*/meta/argument_specs.yml")),
        *(path.stem for path in ROOT.glob("playbooks/*.yml")),
    ]
    words = set(re.findall(r"\w+", text))
    assert [name for name in content if name not in words] == []


def test_a_command_of_the_agent_is_one_that_a_host_has() -> None:
    alerts = (ROOT / "docs/monitoring/alerts.yml").read_text(encoding="utf-8")
    text = "\n".join([*map(commands, DOCUMENTS), " ".join(alerts.split())])
    assert set(re.findall(r"(?<![\w-])zoo-watcher ([a-z]+)", text)) == {"status", "run", "check", *CONTROLS}
    # The host's own Python does not know the package: these two are started by the unit and by the agent.
    assert set(re.findall(r"python -m zoo_watcher (\w+)", text)) == {"run", "apply"}


def test_every_directory_of_code_has_its_place_in_the_tree() -> None:
    drawn = {path.rstrip("/") for path in tree(block(section("Where a line lives"), "text"))}
    for directory in sorted(drawn):
        assert (ROOT / directory).is_dir(), f"{directory} is drawn, and is not there"
    code = {
        str(path.parent.relative_to(ROOT))
        for below in ("plugins", "roles/watcher/files/zoo_watcher")
        for path in (ROOT / below).rglob("*.py")
    }
    suites = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").iterdir() if any(path.rglob("*.py"))}
    assert code | suites <= drawn


def test_what_is_said_to_be_in_a_file_is_defined_there() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \| ([^|]+) \|$", section("Where is ..."), re.MULTILINE)
    assert rows
    for file, names in rows:
        code = (ROOT / file).read_text(encoding="utf-8")
        for word in re.findall(r"\w+", names):
            assert re.search(rf"^ *(class|def) {word}\b", code, re.MULTILINE), f"{file}: {word}"


def test_every_znode_of_an_application_is_in_the_map() -> None:
    paths = AppPaths("/app")
    named = [value for name, value in inspect.getmembers(paths) if not name.startswith("_") and name != "root"]
    znodes = {
        value(*(f"<{parameter}>" for parameter in inspect.signature(value).parameters)) if callable(value) else value
        for value in named
    }
    mapped = re.findall(r"^\| `([^`]+)`", section("The znodes"), re.MULTILINE)
    assert {"/app/config", "/app/agents/<name>"} <= znodes
    for znode in znodes:
        pattern = znode.replace("/app/", "<app>/")
        assert pattern in {path.replace("<sequence>", "") for path in mapped}, pattern


def test_the_state_machine_has_every_state_of_an_agent_and_no_other() -> None:
    diagram = block(section("States"), "mermaid")
    assert set(re.findall(r"\w+(?= -->)|(?<=--> )\w+", diagram)) == set(STATES)


@pytest.mark.parametrize(
    ("title", "record"),
    [
        ("Release", Release),
        ("Lock", LockRecord),
        ("Rollout", RolloutRecord),
        ("Rollout", HostEntry),
        ("Agent status", AgentStatus),
        ("Roster entry", RosterEntry),
        ("File status", FileStatus),
    ],
)
def test_every_key_of_a_record_is_explained(title: str, record: Any) -> None:
    keys = {spec.metadata["key"] for spec in fields(record) if "key" in spec.metadata}
    explained = set(CODE.findall("\n".join(re.findall(r"^\| (`[^|]+) \|", section(title), re.MULTILINE))))
    assert keys <= explained


def test_the_examples_of_records_are_records() -> None:
    release = block(section("Release"), "json").encode()
    assert Release.from_node(release).to_object() == json.loads(release)
    status = AgentStatus.from_node(block(section("Agent status"), "json").encode())
    assert status.extra == {}
    assert status.files is not None
    assert all(not FileStatus.from_object(one).extra for one in status.files.values())
    assert LockRecord.from_node(block(section("Lock"), "json").encode()).extra == {}
    entry = block(section("Roster entry"), "json").encode()
    assert RosterEntry.from_node(entry).extra == {}


def test_everything_in_the_agents_own_directory_is_explained() -> None:
    layout = Layout(Path("/base"))
    own = {
        str(path.relative_to("/base"))
        for name, path in inspect.getmembers(layout)
        if isinstance(path, Path) and name not in {"base", "own"}
    }
    explained = {path.partition("/<")[0] for path in re.findall(r"^\| `([^`]+)`", section("On a host"), re.MULTILINE)}
    assert own <= explained
