"""How an agent ends, hands over, returns, and lets no other take its name."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import runpy
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import WatchedEvent

from support.agent import Agent
from support.playbook import ROOT
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for
from zoo_watcher.errors import AgentError
from zoo_watcher.host.base_lock import agent_pid, lock_base
from zoo_watcher.host.filesystem import open_directory
from zoo_watcher.host.layout import Layout

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]


SLOW_EXEC = """
import os, pathlib, runpy, time
execv, asked, go = os.execv, pathlib.Path({asked!r}), pathlib.Path({go!r})
def slow(*words):
    asked.touch()
    while not go.exists():
        time.sleep(0.01)
    execv(*words)
os.execv = slow
"""
"""An agent that creates `asked` before it executes itself again, and waits for `go`."""
AS_MODULE = 'runpy.run_module("zoo_watcher", run_name="__main__", alter_sys=True)'
AS_SCRIPT = "from zoo_watcher.__main__ import main; raise SystemExit(main())"
"""The ways in which the unit and the console script of a wheel run an agent."""

OWN_ERROR = """
import pathlib
from zoo_watcher import watcher
from zoo_watcher.errors import AgentError
take, asked = watcher.Watcher.{method}, pathlib.Path({asked!r})
def fail(*words):
    if asked.exists():
        raise {error}
    return take(*words)
watcher.Watcher.{method} = fail
"""
"""An agent that hits an internal error once `asked` exists."""


SLOW_DISK = """
import os, pathlib, time
from zoo_watcher.host import filesystem
remove_tree, go = filesystem.remove_tree, pathlib.Path({go!r})
def slow(path, *words):
    while str(path).endswith(".left") and not go.exists():
        time.sleep(0.01)
    remove_tree(path, *words)
filesystem.remove_tree = slow
"""
"""An agent that removes directories named `*.left` only once `go` exists."""


class Watched:
    """Znodes, and every event that a watcher of them sees."""

    def __init__(self, zk: KazooClient, *paths: str) -> None:
        self.zk = zk
        self.events: list[WatchedEvent] = []
        self.created = {path: zk.exists(path, watch=self.events.append).czxid for path in paths}

    def untouched(self) -> bool:
        """Whether the znodes are still the same ones, and no event was seen."""
        now = {path: getattr(self.zk.exists(path), "czxid", None) for path in self.created}
        return now == self.created and not self.events


def is_in(agent: Agent, mask: str, number: int) -> bool:
    """Whether a signal is in one of the masks of an agent's process, see proc_pid_status(5)."""
    assert agent.process
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    value = next(line.split()[1] for line in lines if line.startswith(f"{mask}:"))
    return bool(int(value, 16) & 1 << (number - 1))


def test_sigterm_deletes_status_and_registration_before_the_process_ends(
    serving: Agents, zk: KazooClient, app: str, registrations: Registrations
) -> None:
    agent = serving()
    assert agent.end(signal.SIGTERM) == 0
    # After this, the client reads what the leader has committed.
    zk.sync(app)
    assert registrations() == {}
    assert agent.status == {}


def test_sigterm_while_an_agent_is_being_started_deletes_what_the_previous_one_has_handed_over(
    serving: Agents, zk: KazooClient, app: str, registrations: Registrations
) -> None:
    agent = serving(session_timeout=30)
    assert agent.end(signal.SIGUSR2) == 0
    agent.start()
    assert agent.process
    wait_for(lambda: is_in(agent, "SigBlk", signal.SIGTERM), "it imports what it needs, and signals wait")
    assert agent.end(signal.SIGTERM) == 0
    zk.sync(app)
    assert (registrations(), agent.status) == ({}, {})


def test_a_wait_for_the_first_session_reports_which_members_are_tried_in_vain(
    agents: Agents, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is the role's own check of a host with a wrong address. There is no unit here to ask."""
    agent = agents(hosts="no-such-member.invalid:2181").start()
    prove = runpy.run_path(str(ROOT / "roles/watcher/files/prove.py"))
    unit = {"ActiveState": "active", "Result": "success", "ExecMainStartTimestampMonotonic": "0"}
    monkeypatch.setitem(prove["lacks"].__globals__, "_shown", lambda _unit: unit)
    file = agent.base / ".zoo/status.json"
    wait_for(lambda: file.exists() and json.loads(file.read_text()).get("trying", {}).get("error"), "it has tried")
    version = json.loads(file.read_text())["version"]
    order = {"unit": "x.service", "base": str(agent.base), "version": version, "connected": True, "seconds": 0.2}
    prove["main"](json.dumps(order))
    said = capsys.readouterr().out
    assert said.startswith("it has no session with the ensemble; it tries no-such-member.invalid:2181: ")
    assert "no-such-member.invalid" in said.partition("2181: ")[2]


def test_sigterm_before_there_is_an_ensemble_ends_it_too(agents: Agents) -> None:
    agent = agents(hosts="127.0.0.1:1").start()
    wait_for(lambda: "watching" in agent.log, "it has started")
    assert agent.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_signals_that_follow_sigterm_change_nothing(
    serving: Agents, zk: KazooClient, app: str, registrations: Registrations, number: int
) -> None:
    agent = serving(session_timeout=30)
    process = agent.process
    assert process
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.001)
    assert process.returncode == 0
    zk.sync(app)
    assert (registrations(), agent.status) == ({}, {})


def test_a_signal_that_the_kernel_delivers_to_another_thread_ends_it_immediately_too(serving: Agents) -> None:
    agent = serving()
    assert agent.process
    others = [int(task.name) for task in Path(f"/proc/{agent.process.pid}/task").iterdir()][1:]
    assert ctypes.CDLL(None).tgkill(agent.process.pid, others[0], signal.SIGTERM) == 0
    assert agent.process.wait(20) == 0


@pytest.mark.parametrize(
    ("number", "run"), [(signal.SIGTERM, AS_MODULE), (signal.SIGUSR2, AS_MODULE), (signal.SIGTERM, AS_SCRIPT)]
)
def test_a_signal_while_a_reload_executes_the_agent_again_ends_it_all_the_same(
    agents: Agents,
    registered: dict[str, Any],
    service: Service,
    registrations: Registrations,
    zk: KazooClient,
    app: str,
    tmp_path: Path,
    number: int,
    run: str,
) -> None:
    asked, go = tmp_path / "asked", tmp_path / "go"
    agent = agents(**registered, session_timeout=30)
    agent.program = ("-c", SLOW_EXEC.format(asked=str(asked), go=str(go)) + run)
    agent.start()
    service.open()
    wait_for(registrations, "it is registered")
    assert agent.process
    agent.process.send_signal(signal.SIGHUP)
    wait_for(asked.exists, "it is about to execute itself anew")
    agent.process.send_signal(number)
    wait_for(lambda: not is_in(agent, "ShdPnd", number), "a thread that ends with the old program takes it")
    go.touch()
    assert agent.process.wait(20) == 0
    zk.sync(app)
    assert bool(registrations()) == (number == signal.SIGUSR2)


def test_an_agent_that_reloads_keeps_the_lock_of_its_base(agents: Agents, tmp_path: Path) -> None:
    agent = agents()
    asked, go = tmp_path / "asked", tmp_path / "go"
    agent.program = ("-c", SLOW_EXEC.format(asked=str(asked), go=str(go)) + AS_MODULE)
    agent.start().wait_live()
    assert agent.process
    agent.process.send_signal(signal.SIGHUP)
    wait_for(asked.exists, "it is about to execute itself anew")
    with pytest.raises(AgentError, match="another agent works in"):
        lock_base(Layout(agent.base))
    go.touch()
    wait_for(lambda: agent.log.count("watching, app=") == 2, "it has begun anew")
    with pytest.raises(AgentError, match="another agent works in"):
        lock_base(Layout(agent.base))
    files = [os.readlink(path) for path in Path(f"/proc/{agent.process.pid}/fd").iterdir() if path.is_symlink()]
    assert files.count(str(Layout(agent.base).lock)) == 1
    assert agent_pid(Layout(agent.base)) == agent.process.pid
    assert agent.end(signal.SIGTERM) == 0
    os.close(lock_base(Layout(agent.base)))


def test_sigterm_in_the_middle_of_a_deployment_leaves_the_old_release_live(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    release("0" * 40)
    wait_for(lambda: "was it pushed" in (agent.status.get("message") or ""), "the next release is under way")
    assert agent.end(signal.SIGTERM) == 0
    assert agent.live() == repository.head


@pytest.mark.smoke
def test_a_restart_with_sigusr2_keeps_status_and_registration_with_no_event_at_a_watcher(
    deployed: Agents, zk: KazooClient, app: str, service: Service, registrations: Registrations
) -> None:
    agent = deployed()
    generation = agent.status["generation"]
    watched = Watched(zk, f"{app}/service/server1")
    version = zk.get(f"{app}/agents/server1")[1].version
    assert agent.end(signal.SIGUSR2) == 0
    agent.start()
    wait_for(lambda: zk.get(f"{app}/agents/server1")[1].version > version, "the new process writes its status")
    agent.wait_outcome(generation)
    service.close()
    wait_for(lambda: not registrations(), "the new process holds the registration, and takes it away")
    service.open()
    wait_for(registrations, "and gives it back")
    assert [event.type for event in watched.events] == ["DELETED"], "the only event is that of the closed port"


def test_sighup_puts_the_new_configuration_in_force_with_no_event_at_a_watcher(
    deployed: Agents, zk: KazooClient, app: str, service: Service, registrations: Registrations
) -> None:
    agent = deployed()
    assert agent.process is not None
    watched = Watched(zk, f"{app}/service/server1", f"{app}/agents/server1")
    own = agent.config["services"]
    agent.config["services"] = [*own, {**own[0], "id": "second"}]
    agent.configure()
    zk.get(f"{app}/service/server1", watch=watched.events.append)
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "second" in registrations(), "what the new configuration adds is registered")
    assert agent.process.poll() is None
    assert agent.log.count("watching, app=") == 2
    assert watched.created[f"{app}/service/server1"] == zk.exists(f"{app}/service/server1").czxid
    assert not [event for event in watched.events if event.path == f"{app}/service/server1"]
    service.close()
    wait_for(lambda: not registrations(), "both are taken away when the service is down")
    assert agent.end(signal.SIGTERM) == 0


def test_sighup_does_not_wait_for_a_writer_of_a_configuration_that_is_a_fifo(
    deployed: Agents, service: Service, registrations: Registrations
) -> None:
    agent = deployed()
    assert agent.process is not None
    path = agent.configure()
    path.unlink()
    os.mkfifo(path)
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: f"{path}: not a regular file" in agent.log, "it says so")
    service.close()
    wait_for(lambda: not registrations(), "what is not healthy is not registered")


WRITER = """\
import os, sys
from pathlib import Path
from zoo_watcher import __main__ as program

def write_and_execute(*words, execute=os.execv):
    Path(sys.argv[-1]).write_text('{"hosts": ')
    execute(*words)

os.execv = write_and_execute
sys.exit(program.main())
"""
"""An agent whose configuration is being written at the very moment at which it executes itself again."""


def test_an_agent_reloads_the_configuration_that_was_checked_while_another_is_being_written(
    agents: Agents, zk: KazooClient, app: str
) -> None:
    agent = agents()
    agent.program = ("-c", WRITER)
    agent.start().wait_live()
    assert agent.process
    agent.config["name"] = "server2"
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: zk.exists(f"{app}/agents/server2"), "it goes on as the configuration that was checked says")
    assert "which has changed since" in agent.log
    environment = Path(f"/proc/{agent.process.pid}/environ").read_text()
    assert str(agent.base) not in environment
    assert agent.end(signal.SIGTERM) == 0


def test_sighup_with_a_wrong_configuration_says_why_and_changes_nothing(
    deployed: Agents, zk: KazooClient, app: str, release: Publish, repository: GitRepository
) -> None:
    agent = deployed()
    assert agent.process is not None
    watched = Watched(zk, f"{app}/service/server1")
    good = dict(agent.config)
    agent.config.update(session_timeout="long", digest_username="agent")
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded" in agent.log, "it says so")
    (line,) = [line for line in agent.log.splitlines() if "not reloaded" in line]
    assert "session_timeout" in line
    later = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["commitId"] == later
    assert watched.untouched()
    agent.config = good
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("watching, app=") == 2, "the next one is obeyed")
    assert watched.untouched()


def _has_refused(agent: Agent, times: int) -> bool:
    return agent.log.count("not reloaded") == times


def test_sighup_with_a_base_that_cannot_be_used_says_why_and_changes_nothing(
    deployed: Agents, agents: Agents, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    agent = deployed()
    other = agents("server2").start().wait_live()
    assert agent.process is not None
    watched = Watched(zk, f"{app}/service/server1")
    (tmp_path / "file").touch()
    problems = {
        "/proc/zoo": "no directory can be made in this file system",
        str(tmp_path / "file"): "Not a directory",
        str(other.base): f"another agent works in {other.base}",
    }
    for number, base in enumerate(problems, 1):
        agent.config["base"] = base
        agent.configure()
        agent.process.send_signal(signal.SIGHUP)
        wait_for(partial(_has_refused, agent, number), f"it refuses {base}")
    lines = [line for line in agent.log.splitlines() if "not reloaded" in line]
    assert all(problem in line for line, problem in zip(lines, problems.values(), strict=True)), lines
    del agent.config["base"]
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("watching, app=") == 2, "the next one is obeyed")
    assert agent.process.poll() is None
    assert watched.untouched()


def test_a_killed_agent_resumes_its_session_and_its_host(
    deployed: Agents, zk: KazooClient, app: str, repository: GitRepository, release: Publish
) -> None:
    agent = deployed(session_timeout=10)
    generation = agent.status["generation"]
    watched = Watched(zk, f"{app}/service/server1")
    agent.end(signal.SIGKILL)
    assert agent.live() == repository.head
    agent.start()
    agent.wait_outcome(generation)
    later = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["commitId"] == later
    assert watched.untouched()


@pytest.mark.parametrize(
    ("method", "error", "told"),
    [
        ("_turn", "AgentError('a thread has stopped')", "CRITICAL a thread has stopped"),
        ("_wait_and_look", "KeyError('wrong')", "CRITICAL ended by an internal error"),
        ("_wait_and_look", "MemoryError()", "CRITICAL this host lacks something"),
    ],
)
def test_an_agent_that_ends_with_an_internal_error_hands_its_session_over(
    deployed: Agents,
    tmp_path: Path,
    zk: KazooClient,
    app: str,
    repository: GitRepository,
    release: Publish,
    method: str,
    error: str,
    told: str,
) -> None:
    asked = tmp_path / "asked"
    agent = deployed(session_timeout=20)
    watched = Watched(zk, f"{app}/service/server1", f"{app}/agents/server1")
    agent.end(signal.SIGUSR2)
    program = agent.program
    agent.program = ("-c", OWN_ERROR.format(method=method, error=error, asked=str(asked)) + AS_SCRIPT)
    agent.start()
    wait_for(lambda: agent.log.count("watching, app=") == 2, "it serves")
    asked.touch()
    assert agent.process is not None
    agent.process.send_signal(signal.SIGUSR1)
    assert agent.process.wait(20) == 1
    assert told in agent.log
    agent.program = program
    later = repository.commit({"index.html": "two\n"})
    agent.start()
    assert agent.wait_outcome(release())["commitId"] == later
    assert {path: zk.exists(path).czxid for path in watched.created} == watched.created, "both lasted"
    assert [event.path for event in watched.events] == [f"{app}/agents/server1"], "its status has changed, once"


def test_an_agent_serves_while_the_leftovers_of_an_interrupted_deployment_are_still_being_removed(
    agents: Agents,
    registered: dict[str, Any],
    service: Service,
    registrations: Registrations,
    release: Publish,
    repository: GitRepository,
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    agent = agents(**registered)
    left = agent.base / ".zoo/staging/0123456789.left"
    (left / "below").mkdir(parents=True)
    agent.program = ("-c", SLOW_DISK.format(go=str(go)) + AS_SCRIPT)
    service.open()
    agent.start()
    wait_for(registrations, "it is registered")
    wait_for(lambda: "watching, app=" in agent.log, "it has started")
    generation = release()
    wait_for(lambda: agent.status.get("generation") == generation, "it deploys")
    assert (left.is_dir(), agent.live()) == (True, None)
    go.touch()
    assert agent.wait_outcome(generation)["commitId"] == repository.head
    assert not left.exists()
    assert "troubles" not in agent.status


def test_a_service_that_went_down_while_its_agent_was_stopped_is_no_longer_registered(
    serving: Agents, service: Service, registrations: Registrations
) -> None:
    agent = serving(session_timeout=30)
    agent.end(signal.SIGUSR2)
    service.close()
    agent.start()
    wait_for(lambda: not registrations(), "the new process takes the registration away", 10)


def test_a_service_that_left_the_configuration_is_no_longer_registered(
    serving: Agents, registrations: Registrations
) -> None:
    agent = serving(session_timeout=30)
    agent.end(signal.SIGUSR2)
    agent.config["services"] = []
    agent.start()
    wait_for(lambda: not registrations(), "the new process takes the registration away", 10)


def test_an_agent_whose_memory_is_lost_waits_for_its_old_session_to_expire(
    agents: Agents, zk: KazooClient, app: str, release: Publish
) -> None:
    agent = agents(session_timeout=1).start().wait_live()
    owner = zk.get(f"{app}/agents/server1")[1].ephemeralOwner
    agent.end(signal.SIGKILL)
    (agent.base / ".zoo/session.json").write_text("not a session")
    agent.start()
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert zk.get(f"{app}/agents/server1")[1].ephemeralOwner != owner


def test_after_the_session_was_lost_everything_is_recreated_in_a_new_one(
    deployed: Agents,
    zk: KazooClient,
    app: str,
    repository: GitRepository,
    release: Publish,
    registrations: Registrations,
) -> None:
    agent = deployed(session_timeout=1)
    owner = zk.get(f"{app}/agents/server1")[1].ephemeralOwner
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: not registrations() and not agent.status, "the session expires")
    later = repository.commit({"index.html": "two\n"})
    generation = release()
    agent.process.send_signal(signal.SIGCONT)
    assert agent.wait_outcome(generation)["commitId"] == later
    wait_for(registrations, "it is registered again")
    assert zk.get(f"{app}/agents/server1")[1].ephemeralOwner != owner


def test_a_second_agent_of_the_same_name_takes_nothing_over_until_the_first_has_left(
    serving: Agents,
    zk: KazooClient,
    app: str,
    registered: dict[str, Any],
    tmp_path: Path,
) -> None:
    first = serving()
    watched = Watched(zk, f"{app}/service/server1", f"{app}/agents/server1")
    second = Agent(tmp_path / "elsewhere", first.hosts, app, zk, "server1", {"session_timeout": 1, **registered})
    second.start()
    try:
        wait_for(lambda: "is another agent named server1?" in second.log, "the second one says so")
        assert watched.untouched()
        assert first.end() == 0
        wait_for(lambda: second.status, "its status is in the ensemble once the name is free")
        assert zk.get(f"{app}/agents/server1")[1].czxid != watched.created[f"{app}/agents/server1"]
    finally:
        second.kill()


def test_an_agent_whose_lock_was_removed_locks_its_base_again(serving: Agents) -> None:
    agent = serving()
    assert agent.process is not None
    (agent.base / ".zoo/agent.lock").unlink()
    agent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "the lock of the base was removed" in agent.log, "it says so")
    assert json.loads(agent.control("status", "--json").stdout)["running"] is True
    assert agent.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("remove", ["rm {lock}", "mv {lock} {lock}.before"])
def test_a_hook_that_removes_the_lock_is_not_run_again_for_it(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    registered: dict[str, Any],
    service: Service,
    remove: str,
) -> None:
    """NFS renames a file that is removed while it is open."""
    service.open()
    agent = agents(**registered, healthy_for=1).start()
    agent.wait_outcome(release())
    agent.end()
    runs = agent.root / "runs"
    script = f"echo once >> {runs}; {remove.format(lock=agent.base / '.zoo/agent.lock')}"
    agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", script]}
    repository.commit({"index.html": "two\n"})
    generation = release()
    assert agent.start().wait_outcome(generation)["state"] == "active"
    assert runs.read_text() == "once\n"


def come_up_over_the_base(agent: Agent, late: Path) -> None:
    """Replace the base with a directory, as a late mount does, and make the agent look."""
    agent.base.rename(agent.root / "below")
    late.rename(agent.base)
    assert agent.process is not None
    agent.process.send_signal(signal.SIGUSR1)


def test_what_is_published_goes_live_again_where_a_late_mount_covers_the_base(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    """This is so with a late mount: the agent has worked in the directory below it."""
    agent = agents().start()
    agent.wait_outcome(release())
    agent.end()
    late = agent.root / "late"
    shutil.copytree(agent.base, late, symlinks=True)
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    assert agent.start().wait_outcome(generation)["commitId"] == second
    come_up_over_the_base(agent, late)
    wait_for(lambda: agent.live() == second, "what is published is live there")
    assert agent.wait_outcome(generation)["state"] == "active"


def test_what_is_published_goes_live_again_where_a_late_mount_covers_the_base_during_a_deployment(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    """This is so at boot, when the agent has already begun in the directory below."""
    agent = agents().start()
    agent.wait_outcome(release())
    agent.end()
    late, runs, go = (agent.root / name for name in ("late", "runs", "go"))
    shutil.copytree(agent.base, late, symlinks=True)
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    script = f"touch {runs}; while [ ! -e {go} ]; do sleep 0.05; done"
    agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", script]}
    agent.start()
    wait_for(runs.exists, "the hook runs")
    come_up_over_the_base(agent, late)
    wait_for(lambda: "the lock of the base was removed" in agent.log, "the agent has seen it")
    go.touch()
    wait_for(lambda: agent.live() == second, "what is published is live there")
    assert agent.wait_outcome(generation)["state"] == "active"


SHUT_DOWN = 0x8004587D
"""XFS_IOC_GOINGDOWN."""


@pytest.fixture
def on_xfs(agents: Agents, release: Publish) -> Iterator[Agent]:
    """A stopped agent with an empty XFS mounted over its base, in which a release is live."""
    agent = agents().start()
    agent.wait_outcome(release())
    agent.end()
    image = agent.root / "image"
    with image.open("wb") as file:
        file.truncate(320_000_000)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True, capture_output=True)
    words = ["mount", "-o", "loop", str(image), str(agent.base)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    yield agent
    subprocess.run(["umount", "--lazy", str(agent.base)], check=False, capture_output=True)


def fail_disk(agent: Agent) -> None:
    """Make the XFS of a base behave as after a disk error."""
    with open_directory(agent.base) as disk:
        fcntl.ioctl(disk, SHUT_DOWN, struct.pack("I", 2))


def test_what_is_published_goes_live_again_where_another_disk_replaces_one_that_has_failed(
    repository: GitRepository, release: Publish, on_xfs: Agent
) -> None:
    """Nothing can be found out any more about the lock that was held there."""
    agent = on_xfs
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    assert agent.start().wait_outcome(generation)["commitId"] == second
    fail_disk(agent)
    subprocess.run(["umount", "--lazy", str(agent.base)], check=True)
    assert agent.live() != second
    assert agent.process is not None
    agent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: agent.live() == second, "what is published is live there")
    assert agent.wait_outcome(generation)["state"] == "active"
    wait_for(lambda: "troubles" not in agent.status, "the trouble is over", 40)
    assert json.loads(agent.control("status", "--json").stdout)["running"] is True


def test_a_deployment_that_failed_with_a_disk_is_tried_again_on_the_one_that_replaces_it(
    repository: GitRepository, release: Publish, on_xfs: Agent
) -> None:
    """The agent could not record the failure, which has nothing to do with the other disk."""
    agent = on_xfs
    agent.start().wait_outcome(release())
    agent.end()
    runs, go = agent.root / "runs", agent.root / "go"
    script = f"touch {runs}; while [ ! -e {go} ]; do sleep 0.05; done; ls {agent.base}"
    agent.config["hooks"] = {"before_activate": ["/bin/sh", "-c", script]}
    agent.start()
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    wait_for(runs.exists, "the hook runs")
    fail_disk(agent)
    go.touch()
    assert agent.wait_outcome(generation)["state"] == "failed"
    assert agent.process is not None
    subprocess.run(["umount", "--lazy", str(agent.base)], check=True)
    agent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: agent.live() == second, "what is published is live there")
    assert agent.wait_outcome(generation)["state"] == "active"


def test_what_is_known_of_a_base_outlives_a_deployment_in_the_directory_below_its_mount(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    """That is, which releases were healthy there, and that the published one has failed."""
    agent = agents().start()
    agent.wait_outcome(release())
    agent.end()
    bad = repository.commit({"index.html": "bad\n"})
    generation = release()
    late, runs, go = (agent.root / name for name in ("late", "runs", "go"))
    script = f"! readlink {agent.base}/site | grep -q {bad} || {{ touch {runs}; test -e {go}; }}"
    agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", script]}
    assert agent.start().wait_outcome(generation)["state"] == "rolled_back"
    agent.end()
    known = (agent.base / ".zoo/journal.json").read_text()
    agent.base.rename(late)
    runs.unlink()
    agent.config["hooks"] = {
        "after_activate": ["/bin/sh", "-c", f"touch {runs}; while [ ! -e {go} ]; do sleep 0.05; done"]
    }
    agent.start()
    wait_for(runs.exists, "the hook runs in the directory below")
    come_up_over_the_base(agent, late)
    wait_for(lambda: "the lock of the base was removed" in agent.log, "the agent has seen it")
    go.touch()
    assert agent.wait_outcome(generation)["state"] == "rolled_back"
    assert (agent.base / ".zoo/journal.json").read_text() == known
    assert agent.live() != bad


def test_a_second_agent_in_the_same_base_ends_immediately(agents: Agents, zk: KazooClient, app: str) -> None:
    first = agents().start().wait_live()
    second = Agent(first.root, first.hosts, app, zk, "server2")
    process = second.start().process
    assert process is not None
    assert process.wait(20) == 1
    assert f"another agent works in {first.base}" in second.log
    assert zk.get_children(f"{app}/agents") == ["server1"]


def test_a_persistent_znode_of_its_name_is_reported_and_left_alone(agents: Agents, zk: KazooClient, app: str) -> None:
    zk.create(f"{app}/agents/server1", b"precious", makepath=True)
    agent = agents().start()
    wait_for(lambda: "it is a persistent znode" in agent.log, "the log says what is there")
    assert zk.get(f"{app}/agents/server1")[0] == b"precious"
    zk.delete(f"{app}/agents/server1")
    wait_for(lambda: agent.status.get("state") == "idle", "the agent takes the place once it is free")
