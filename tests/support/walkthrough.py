"""The example of an article about central configuration, run with an agent and tasks, as a page of the documentation.

The article: http://xie.infoq.cn/article/4b1201a0a50a9e3b5d572d62a. Its program is connected to `/mxn`, and prints the
value of `/mxn/myZNode` before it exists, and when it is created, changed, deleted and created again.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from support.agent import Agent
from support.ensemble import Ensemble
from support.playbook import run_playbook
from support.sight import shown
from support.waiting import wait_for
from zoo_watcher.zookeeper.session_states import ACTIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "central-configuration.md"
COMMAND = "ZOO_WRITE_GUIDE=1 .venv/bin/pytest tests/integration/test_central_configuration.py"
HOSTS = "zk1:2181,zk2:2181,zk3:2181"
DIRECTORY = "/srv/server1"
WRITTEN = re.compile(r'(mzxid(?:=|": ))(\d+)')
"""Matches the id of a transaction that wrote the value, in a log or a status."""

HEAD = f"""\
# Central configuration

A value is changed in one znode, and a moment later each host has it in a file, validated, acted on, and reported.
This page follows an
[article about central configuration with ZooKeeper](http://xie.infoq.cn/article/4b1201a0a50a9e3b5d572d62a). Its program
is connected to `/mxn`, and prints the value of `/mxn/myZNode` before it exists, and when it is created, changed,
deleted and created again. Here you write no program: an agent renders the value to a file, and tasks change it.

All output is of a real run on an ensemble of three, written by

    {COMMAND}

The tests run all of it again and compare. Values that differ from run to run are replaced by names: the ensemble's
addresses (`zk1:2181` and so on), the host's directory (`{DIRECTORY}`), `<session>`, `<server>`, and the ids of
transactions, `<zxid>`; those that wrote the value are numbered in order, `<mzxid 1>`, `<mzxid 2>`. Times in the log
are omitted.
"""


@dataclass(frozen=True)
class Step:
    """A part of the run: its title, its explanation, and its tasks, as a user would write them."""

    title: str
    text: str
    tasks: str


def _write(name: str, options: str) -> str:
    """The tasks that change the znode and wait for its file."""
    return f"""\
- name: {name}
  zoo.deploy.zk_znode:
    hosts: {HOSTS}/mxn
    path: /myZNode
{textwrap.indent(options, "    ")}

- name: Wait for the file
  zoo.deploy.zk_fleet_info:
    hosts: {HOSTS}/mxn
    app: /business
    wait_for_files: [/myZNode]
  register: fleet

- name: Who has proved it
  ansible.builtin.debug:
    msg: "{{{{ fleet.agents | map(attribute='name') | join(', ') }}}}"
"""


STEPS = (
    Step(
        "The znode does not exist",
        "As in the article, `/mxn` has to exist, because it is the chroot of every connection, and it is empty.\n"
        "The agent waits.",
        f"""\
- name: The chroot
  zoo.deploy.zk_znode:
    hosts: {HOSTS}
    path: /mxn
""",
    ),
    Step(
        "It is created",
        "The second task ends when each live agent that renders this znode has proved that the file is in place and\n"
        "acted on.",
        _write("Create it", "value: muxiaonong666"),
    ),
    Step(
        "It is changed",
        "The new value is written next to the file and renamed over it: a reader sees the complete old or new value.",
        _write("Change it", "value: muxiaonong6969"),
    ),
    Step(
        "It is deleted",
        "The file stays, because `on_delete` is `keep` by default, and the agent reports that the znode is missing.\n"
        "With `on_delete: remove` the file would be deleted, too.",
        _write("Delete it", "state: absent"),
    ),
    Step(
        "It is created again",
        "The agent never stopped waiting. A new znode begins with version 0, so the values are distinguished by the\n"
        "transactions that wrote them.",
        _write("Create it again", "value: muxiaonong666"),
    ),
)

STATES = """\
## When the connection is not as it should be

The states are ZooKeeper's own. The agent logs each one and what it does about it. `status.json` in its directory
`.zoo` and `zoo-watcher status` show the present state (`session`) and when each was last entered (`sessionStates`). The
metrics are `zoo_watcher_session_state` and `zoo_watcher_session_changes_total`, with the label `state`. The status in
the ensemble is ephemeral: it exists as long as the session.

| State | What the agent does |
|---|---|
"""

NOTES = """
No state changes a file: it keeps the last value that was proved.

- **Disconnected**: `registered` in the status stays as it is for one session timeout. After that it is empty,
  because the ensemble may have ended the session.
- **Expired**: the agent reads everything again in the new session, and so finds all changes, whatever events it
  missed.
- **AuthFailed**: the credentials are tried once at each server, then once every 1.5 session timeouts. So the session
  ends, and no registration stays that the agent could not withdraw. When a server accepts them, everything is
  recreated; nobody has to restart the agent.
- **ConnectedReadOnly**: servers support this only with `-Dreadonlymode.enabled=true`, best on all of them, and accept
  an agent only with `localSessionsEnabled=true` and `localSessionsUpgradingEnabled=true` in `zoo.cfg`. Otherwise the
  state is Disconnected. The agent uses such a server only if no server gives it a writable connection, and looks for
  one that does every second. Its own session is not affected: within the session timeout, its registrations stay as
  they are. It takes neither a release nor a value from such a server, because these may be older than the host's.
"""


@dataclass
class Walkthrough:
    """Runs the steps on a real ensemble with a real agent, and records what a user sees."""

    directory: Path
    ensemble: Ensemble
    agent: Agent
    parts: list[str] = field(default_factory=list)
    _logged: int = 0

    @property
    def dest(self) -> Path:
        """The file."""
        return self.agent.root / "etc" / "address"

    def walk(self) -> str:
        """Run all steps, and return the page."""
        first, *others = STEPS
        self._run(first)
        self._start_agent()
        self._see("missing")
        for step in others:
            self._run(step)
            self._see("missing" if "absent" in step.tasks else "current")
        table = "\n".join(f"| {state} | {action} |" for state, action in ACTIONS.items())
        return "\n".join([HEAD, *map(self._named, self.parts), f"{STATES}{table}\n{NOTES}"])

    def _start_agent(self) -> None:
        self.dest.parent.mkdir(parents=True)
        file = {"znode": "/myZNode", "dest": str(self.dest), "on_change": ["cat", str(self.dest)]}
        self.agent.config["files"] = [file]
        variables = {"watcher_hosts": f"{HOSTS}/mxn", "watcher_app": "/business", "watcher_files": [file]}
        self.parts.append(
            "The role `zoo.deploy.watcher` installs an agent with these variables. Like the article's program, it\n"
            f"prints the value: `on_change` does.\n\n{_block('yaml', yaml.safe_dump(variables, sort_keys=False))}"
        )
        self.agent.start()

    def _run(self, step: Step) -> None:
        """Run the tasks, and record their output."""
        self.parts.append(f"## {step.title}\n\n{step.text}\n\n{_block('yaml', step.tasks)}")
        playbook = self.directory / "playbook.yml"
        tasks = yaml.safe_load(step.tasks.replace(HOSTS, self.ensemble.hosts))
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        playbook.write_text(json.dumps([play]))
        done = run_playbook(playbook, "--diff", env={"COLUMNS": "80"})
        assert done.returncode == 0, done.stdout + done.stderr + self.agent.log
        output = done.stdout[done.stdout.index("TASK [") : done.stdout.index("PLAY RECAP")]
        self.parts.append(_block("console", output))

    def _see(self, state: str) -> None:
        """Record the log, file and status on the agent's host once the file is in `state`."""
        dest = str(self.dest)
        wait_for(lambda: shown(self.agent).get("files", {}).get(dest, {}).get("state") == state, f"{dest} is {state}")
        log = self.agent.log
        new_lines, self._logged = log[self._logged :], len(log)
        content = f"holds `{self.dest.read_text()}`" if self.dest.exists() else "does not exist"
        status = json.dumps(shown(self.agent)["files"], indent=2)
        logged = f"The agent's log:\n\n{_block('', new_lines)}" if new_lines else "The agent logs nothing new.\n"
        self.parts.append(f"{logged}\nThe file {content}. Its status:\n\n{_block('text', status)}")

    def _named(self, part: str) -> str:
        """A part of the page, with names for values that differ from run to run."""
        for number, member in enumerate(self.ensemble.members, 1):
            part = part.replace(f"127.0.0.1:{member.client_port}", f"zk{number}:2181")
        part = part.replace(str(self.agent.root), DIRECTORY)
        part = re.sub(r"server=zk\d:2181 session=0x[0-9a-f]+", "server=<server> session=<session>", part)
        part = re.sub(r"^[-0-9]+T[.:0-9]+\+00:00 ", "", part, flags=re.MULTILINE)
        part = re.sub(r'"zxid": \d+', '"zxid": <zxid>', part)
        return WRITTEN.sub(lambda match: f"{match[1]}<mzxid {self._number(match[2])}>", part)

    def _number(self, mzxid: str) -> int:
        """The number of a transaction that wrote the value, the first being 1."""
        mzxids = {int(match[2]) for part in self.parts for match in WRITTEN.finditer(part)}
        return sorted(mzxids).index(int(mzxid)) + 1


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```\n"


def write_if_asked(page: str) -> None:
    """Write the page if the environment asks for it."""
    if os.environ.get("ZOO_WRITE_GUIDE") == "1":
        PAGE.write_text(page, encoding="utf-8")
