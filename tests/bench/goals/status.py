"""P18: `status.yml` for 10,000 agents, against a playbook with a raw multiRead of the same and one template.

The yardstick's module is `modules/raw_statuses.py`. In one more line the yardstick is the same without Ansible: a
program that reads on a bare socket and renders the same template.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import yaml

from bench.harness import BenchError, Comparison, Side, goal, timed
from bench.workbench import CHUNK, HERE, Workbench
from zoo_watcher.wire.records import AgentStatus, AppPaths, Release, RosterEntry

LIMIT = 1.5
MANY, QUICK = 10_000, 500
APP = AppPaths("/bench/p18")
COMMIT = "b" * 40
SINCE = "2026-11-30T12:00:00+00:00"
STATUS = HERE.parent.parent / "playbooks" / "status.yml"
NAME = re.compile(r"web-\d{5}")
SHOWN = 20
"""Agents that the table shows. It states how many there are."""
TEMPLATE = """\
commit {{ release.commitId }} of {{ release.url }} at {{ release.relativePath }}
{% for status in (statuses | sort(attribute='name'))[:most] %}
{{ '%-20s %-12s %-10s %s' | format(status.name, status.state, status.commitId[:10], status.message | default('')) }}
{% endfor %}
{{ statuses | length }} of {{ names | length }}
"""


@goal("P18")
def status(bench: Workbench) -> Iterator[Comparison]:
    """The table, the page and the JSON where these exist, and the table against a program."""
    count = bench.sized(MANY, QUICK)
    create_fleet(bench, APP, count)
    work = f"{count:,} agents, {{}}; raw module + template"
    table = partial(same_table, count)
    yield Comparison("P18", work.format("table"), LIMIT, status_side(bench, APP), playbook_side(bench, APP), table)
    for form in ("html", "json") if "zoo_format" in STATUS.read_text() else ():
        sides = status_side(bench, APP, form), playbook_side(bench, APP, all_agents=True)
        yield Comparison("P18", work.format(form), LIMIT, *sides, partial(same_file, count))
    work = f"{count:,} agents, table; raw reads + template, no Ansible"
    yield Comparison("P18", work, None, status_side(bench, APP), program_side(bench, APP), table)


def create_fleet(bench: Workbench, app: AppPaths, count: int, history: int = 1) -> None:
    """Create a release that was published `history` times, and `count` agents that have proved it."""
    client = bench.client
    for path in (app.agents, app.roster, app.history):
        client.ensure_path(path)
    release = Release("https://git.example/site.git", COMMIT, "site", ref="main", published_at=SINCE)
    transaction = client.transaction()
    transaction.create(app.config, release.to_node())
    for _entry in range(history):
        transaction.create(f"{app.history}/release-", release.to_node(), sequence=True)
    _commit(transaction)
    generation = client.exists(app.config).mzxid
    names = [f"web-{number:05}" for number in range(count)]
    for begin in range(0, count, CHUNK // 2):
        transaction = client.transaction()
        for name in names[begin : begin + CHUNK // 2]:
            entry = RosterEntry(name, SINCE, {"zone": name[-1]}, "0.0.0")
            transaction.create(app.roster_entry(name), entry.to_node())
            transaction.create(app.agent(name), _status_of(name, generation).to_node(), ephemeral=True)
        _commit(transaction)


def _status_of(name: str, generation: int) -> AgentStatus:
    timings = {"fetching": 0.0512, "staging": 0.0211, "activating": 0.0032, "checking": 0.0121}
    return AgentStatus(name, "active", generation, COMMIT, "a" * 40, None, SINCE, timings, version="0.0.0")


def _commit(transaction: object) -> None:
    failed = [answer for answer in transaction.commit() if isinstance(answer, Exception)]  # type: ignore[attr-defined]
    if failed:
        raise BenchError(f"can't create a fleet: {failed[0]!r}")


def status_side(bench: Workbench, app: AppPaths, form: str = "table") -> Side:
    """A side with our playbook, whose result is what it prints or writes."""
    output = bench.directory / f"p18.{form}"
    variables = {"zoo_hosts": bench.ensemble.hosts, "zoo_app": app.root}
    if form != "table":
        variables.update(zoo_format=form, zoo_output=str(output))

    def run() -> str:
        printed = bench.ansible("ansible-playbook", STATUS, "-e", json.dumps(variables))
        return printed if form == "table" else output.read_text()

    return timed(run)


def playbook_side(bench: Workbench, app: AppPaths, *, all_agents: bool = False) -> Side:
    """A play with a module that reads on a bare socket and a template, shown, or written to a file with all agents."""
    template = bench.write("p18.j2", TEMPLATE)
    output = bench.directory / "p18.out"
    port = str(bench.ensemble.members[0].client_port)
    read = {"raw_statuses": {"port": port, "app": app.root, "tests": str(HERE.parent)}, "register": "fleet"}
    variables = {name: f"{{{{ fleet.{name} }}}}" for name in ("release", "names", "statuses")}
    text = f"{{{{ lookup('ansible.builtin.template', '{template}') | split('\\n') }}}}"
    if all_agents:
        show = {"ansible.builtin.template": {"src": str(template), "dest": str(output)}}
    else:
        show = {"ansible.builtin.debug": {"msg": text}}
    tasks = [read, {**show, "vars": {**variables, "most": None if all_agents else SHOWN}}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    playbook = bench.write(f"{app.root[1:]}-{all_agents}.yml", yaml.safe_dump([play]))

    def run() -> str:
        output.unlink(missing_ok=True)
        printed = bench.ansible("ansible-playbook", playbook, ANSIBLE_LIBRARY=str(HERE / "modules"))
        return output.read_text() if all_agents else printed

    return timed(run)


def program_side(bench: Workbench, app: AppPaths) -> Side:
    """A side with a program that reads on a bare socket and renders the template."""
    port = bench.ensemble.members[0].client_port
    words = [HERE / "bare_status.py", port, app.root, bench.write("p18.j2", TEMPLATE), SHOWN]
    return timed(lambda: bench.run(Path(sys.executable), *words))


def same_table(count: int, ours: str, yardstick: str) -> None:
    """Expect both to state the number of agents, and to name some of them and the release."""
    for what, text in ("status.yml", ours), ("the yardstick", yardstick):
        if f"{count} of {count}" not in text or len(set(NAME.findall(text))) != min(count, SHOWN) or COMMIT not in text:
            raise BenchError(f"{what} does not show {count} agents:\n{text[:5000]}")


def same_file(count: int, ours: str, yardstick: str) -> None:
    """Expect both to name every agent and the release."""
    for what, text in ("status.yml", ours), ("the yardstick", yardstick):
        names = set(NAME.findall(text))
        if len(names) != count or COMMIT not in text:
            raise BenchError(f"{what} names {len(names)} of {count} agents:\n{text[:2000]}")
