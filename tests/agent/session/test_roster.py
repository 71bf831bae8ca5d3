"""An agent's host is in the roster of its application, and stays there when the agent ends."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, NotEmptyError
from kazoo.security import make_acl, make_digest_acl

from support.agent import Agent, expire_session
from support.ensemble import Ensemble
from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.errors import AgentError
from zoo_watcher.zookeeper import kazoo_client, roster_exit

Agents = Callable[..., Agent]
LABELS = {"zone": "a", "rack": "17"}


def entry(zk: KazooClient, agent: Agent) -> dict[str, Any]:
    """The roster's entry of the agent's host, empty if it does not exist."""
    try:
        return dict(json.loads(zk.get(path(agent))[0]))
    except NoNodeError:
        return {}


def path(agent: Agent) -> str:
    """The path of the entry of the agent's host."""
    return f"{agent.app}/roster/{agent.name}"


def enrolled(zk: KazooClient, agent: Agent, **keys: Any) -> dict[str, Any]:
    """Wait until the host is in the roster, with these keys."""

    def found() -> dict[str, Any] | None:
        now = entry(zk, agent)
        return now if now and all(now.get(key) == value for key, value in keys.items()) else None

    return wait_for(found, f"{agent.name} is in the roster with {keys}; its log:\n{agent.log}") or {}


def test_a_host_is_entered_in_the_roster_and_stays_there_when_its_agent_ends(agents: Agents, zk: KazooClient) -> None:
    agent = agents(labels=LABELS).start()
    made = enrolled(zk, agent)
    assert sorted(made) == ["labels", "name", "since", "version"]
    assert (made["name"], made["labels"], made["version"]) == (agent.name, LABELS, agent.wait_live().status["version"])
    agent.end(signal.SIGTERM)
    assert not agent.status
    assert entry(zk, agent) == made


def test_an_application_that_is_deleted_and_recreated_has_its_live_hosts_in_the_roster(
    agents: Agents, zk: KazooClient
) -> None:
    agent = agents(labels=LABELS).start().wait_live()
    enrolled(zk, agent)
    # The roster first: while it is being deleted, the agent recreates its status.
    for part in ("roster", "agents"):
        wait_for(lambda: is_deleted(zk, f"{agent.app}/{part}"), f"{part} is deleted")  # called immediately
    assert enrolled(zk, agent)["labels"] == LABELS


def test_a_roster_that_is_deleted_after_the_statuses_has_its_live_hosts_again(agents: Agents, zk: KazooClient) -> None:
    agent = agents(labels=LABELS).start().wait_live()
    enrolled(zk, agent)
    status = f"{agent.app}/agents/{agent.name}"
    zk.delete(status)
    wait_for(lambda: zk.exists(status), "it has its status again")
    in_session(agent)
    zk.delete(f"{agent.app}/roster", recursive=True)
    # It checks its entry every minute, and after a command.
    assert agent.control("undrain").returncode == 0
    assert enrolled(zk, agent)["labels"] == LABELS


def is_deleted(zk: KazooClient, subtree: str) -> bool:
    """Delete a subtree, and return whether nobody has created a znode in it meanwhile."""
    try:
        zk.delete(subtree, recursive=True)
    except NotEmptyError:
        return False
    return True


def test_a_restart_with_the_same_configuration_writes_nothing_and_other_labels_are_written(
    agents: Agents, zk: KazooClient
) -> None:
    agent = agents(labels=LABELS).start()
    made = enrolled(zk, agent)
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL):
        agent.end(number)
        agent.start().wait_live()
        in_session(agent)
        assert zk.get(path(agent))[1].version == 0
    agent.end(signal.SIGUSR2)
    agent.config["labels"] = {"zone": "b"}
    agent.start()
    assert enrolled(zk, agent, labels={"zone": "b"}) == {**made, "labels": {"zone": "b"}}
    agent.end(signal.SIGUSR2)
    del agent.config["labels"]
    agent.start()
    wait_for(lambda: "labels" not in entry(zk, agent), "it has no labels any more")


def in_session(agent: Agent) -> None:
    """Wait until the agent has taken all steps of a turn, with nothing left to try again."""
    wait_for(lambda: agent.status and not agent.status.get("troubles"), f"no troubles; its log:\n{agent.log}")


@pytest.mark.parametrize("log", [None, Path("/dev/full")], ids=["logged", "nothing can be logged"])
def test_labels_are_read_again_by_a_reload(agents: Agents, zk: KazooClient, log: Path | None) -> None:
    agent = agents(labels=LABELS)
    agent.log_to = log
    agent.start()
    enrolled(zk, agent, labels=LABELS)
    agent.config["labels"] = {"zone": "b"}
    agent.configure()
    assert agent.process
    agent.process.send_signal(signal.SIGHUP)
    enrolled(zk, agent, labels={"zone": "b"})


def test_since_and_foreign_keys_of_an_entry_are_kept(agents: Agents, zk: KazooClient) -> None:
    agent = agents(labels=LABELS)
    before = {"name": agent.name, "since": "2026-11-02T08:00:00+00:00", "ticket": "OPS-7"}
    zk.create(path(agent), json.dumps(before).encode(), makepath=True)
    agent.start()
    made = enrolled(zk, agent, labels=LABELS)
    assert {key: made[key] for key in before} == before


def test_an_entry_that_is_not_valid_is_rewritten(agents: Agents, zk: KazooClient) -> None:
    agent = agents()
    zk.create(path(agent), b"no entry", makepath=True)
    agent.start()

    def written() -> bool:
        return bool(zk.get(path(agent))[0] != b"no entry")

    wait_for(written, "it is written")
    assert entry(zk, agent)["name"] == agent.name


def test_an_entry_that_was_deleted_is_recreated_with_the_next_session(agents: Agents, zk: KazooClient) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    zk.delete(path(agent))
    expire_session(agent)
    enrolled(zk, agent)


def test_a_roster_that_refuses_writes_is_a_trouble_and_stops_nothing_else(
    agents: Agents, zk: KazooClient, app: str, release: Callable[..., int]
) -> None:
    zk.create(f"{app}/roster", makepath=True)
    zk.set_acls(f"{app}/roster", [make_acl("world", "anyone", read=True, admin=True)])
    agent = agents().start()
    assert agent.wait_outcome(release())["state"] == "active"
    (trouble,) = wait_for(lambda: agent.status.get("troubles"), "the status says so") or []
    assert trouble.startswith(f"roster entry not written: {path(agent)}: ")
    assert "NoAuth" in trouble
    zk.set_acls(f"{app}/roster", [make_acl("world", "anyone", all=True)])
    enrolled(zk, agent)
    wait_for(lambda: "troubles" not in agent.status, "the trouble is over")


def test_an_entry_that_may_not_be_read_is_a_trouble(agents: Agents, zk: KazooClient) -> None:
    agent = agents()
    zk.create(path(agent), b"{}", makepath=True)
    zk.set_acls(path(agent), [make_digest_acl("ann", "secret", all=True)])
    agent.start()
    (trouble,) = wait_for(lambda: agent.status.get("troubles"), "the status says so") or []
    assert trouble.startswith(f"roster entry not written: {path(agent)}: ")


def test_of_two_agents_with_one_name_only_the_first_writes_the_entry(agents: Agents, zk: KazooClient) -> None:
    first = agents(labels={"zone": "a"}).start()
    made = enrolled(zk, first)
    second = agents(labels={"zone": "b"})
    second.root = second.root / "second"
    second.start()
    wait_for(lambda: "is another agent named" in second.log, "the second says so")
    assert entry(zk, first) == made
    first.end(signal.SIGTERM)
    enrolled(zk, second, labels={"zone": "b"})


def move_name(agent: Agent) -> None:
    """Take another name."""
    agent.name = "server2"


def move_app(agent: Agent) -> None:
    """Serve another application."""
    agent.app += "/other"


@pytest.mark.parametrize("move", [move_name, move_app])
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_moves_deletes_its_former_entry(
    agents: Agents, zk: KazooClient, move: Callable[[Agent], None], number: int
) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    wait_for((agent.base / ".zoo/roster.json").exists, "it knows which entry is its own")
    former = path(agent)
    agent.end(number)
    move(agent)
    agent.start()
    enrolled(zk, agent)
    wait_for(lambda: not zk.exists(former), "nothing is left behind")


def test_a_former_entry_of_a_name_that_is_live_now_is_left(agents: Agents, zk: KazooClient) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    former = path(agent)
    agent.end(signal.SIGTERM)
    zk.create(f"{agent.app}/agents/{agent.name}", b'{"state": "idle"}', ephemeral=True)
    agent.name = "server2"
    agent.start()
    enrolled(zk, agent)
    in_session(agent)
    assert zk.exists(former)


def leave(agent: Agent) -> tuple[int, str]:
    """Take the agent's host out of the roster, and return the exit status and the output."""
    done = agent.run("leave", "--config", str(agent.configure()))
    return done.returncode, (done.stdout + done.stderr).strip()


def test_a_host_whose_agent_has_ended_leaves_the_roster_once(agents: Agents, zk: KazooClient) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    agent.end(signal.SIGTERM)
    assert leave(agent) == (0, f"left the roster: {path(agent)}")
    assert not entry(zk, agent)
    assert leave(agent) == (0, f"not in the roster: {path(agent)}")


def test_the_end_of_an_agent_that_was_killed_is_waited_for(agents: Agents, zk: KazooClient) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    agent.kill()
    assert leave(agent) == (0, f"left the roster: {path(agent)}")


def test_a_host_whose_agent_is_live_stays_in_the_roster(agents: Agents, zk: KazooClient) -> None:
    agent = agents().start()
    enrolled(zk, agent)
    assert leave(agent) == (1, f"zoo-watcher: {path(agent)}: still in the roster: its agent is live")
    assert entry(zk, agent)


def test_a_roster_that_is_unreachable_is_a_one_line_error(agents: Agents) -> None:
    agent = agents(hosts="127.0.0.1:1")
    said = f"zoo-watcher: {path(agent)}: still in the roster: no session within 10 s, hosts=127.0.0.1:1"
    assert leave(agent) == (1, said)


def test_an_ensemble_that_is_lost_while_a_host_leaves_is_not_waited_for_indefinitely(
    tmp_path: Path, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[KazooClient] = []
    said: list[str] = []

    def new_client(*words: Any) -> KazooClient:
        clients.append(kazoo_client.new_client(*words))
        return clients[0]

    def lose_ensemble(_seconds: float) -> None:
        servers.members[0].kill()
        wait_for(lambda: not clients[0].connected, "the connection is lost")

    def leave_roster() -> None:
        try:
            said.append(roster_exit.leave_roster(config))
        except AgentError as exc:
            said.append(str(exc))

    monkeypatch.setattr(roster_exit, "new_client", new_client)
    monkeypatch.setattr(roster_exit, "CONNECT_TIMEOUT", 3.0)
    clock = SimpleNamespace(sleep=lose_ensemble, monotonic=time.monotonic)
    monkeypatch.setattr(roster_exit, "time", clock)
    with Ensemble(tmp_path / "ensemble", size=1) as servers:
        client = KazooClient(servers.hosts)
        client.start()
        try:
            agent = Agent(tmp_path / "server1", servers.hosts, app, client, config={"session_timeout": 10})
            agent.start().wait_live()
            agent.kill()
            config = Config.from_file(str(agent.configure()))
            threading.Thread(target=leave_roster, daemon=True).start()
            wait_for(lambda: said, "it has ended", 60)
        finally:
            client.stop()
    assert said == [f"{path(agent)}: still in the roster: no session within 3 s, hosts={servers.hosts}"]
