"""A znode's value as a file on the host: each creation, change, deletion and recreation arrives and is reported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import SOURCE, Agent
from support.ensemble import Ensemble
from support.files import Host, Reader
from support.repository import GitRepository
from support.waiting import wait_for
from zoo_watcher.files.reconciler import STATUS_BURST, STATUS_INTERVAL

Agents = Callable[..., Agent]
Publish = Callable[..., int]


@pytest.fixture
def host(agents: Agents, zk: KazooClient, app: str, tmp_path: Path) -> Host:
    """A host whose agent renders files, and the znodes of an application's configuration."""
    return Host(agents, zk, f"{app}/mxn", tmp_path / "etc")


@pytest.mark.smoke
def test_a_value_arrives_as_it_is_when_it_is_created_changed_deleted_and_created_again(host: Host) -> None:
    host.add("a.conf").start()
    assert host.wait("a.conf", "missing")["znode"] == host.path("a.conf")
    assert not host.dest("a.conf").exists()
    host.write("a.conf", b"muxiaonong666\r\n\x00\xff")
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b"muxiaonong666\r\n\x00\xff"
    host.write("a.conf", b"muxiaonong6969")
    status = host.wait_proved("a.conf")
    assert (host.read("a.conf"), status["version"]) == (b"muxiaonong6969", 1)
    host.delete("a.conf")
    host.wait_proved("a.conf", "missing")
    assert host.read("a.conf") == b"muxiaonong6969", "on_delete is keep by default"
    host.write("a.conf", b"again")
    status = host.wait_proved("a.conf")
    assert (host.read("a.conf"), status["version"]) == (b"again", 0)


def test_a_file_has_its_mode_and_owner_and_nothing_is_left_beside_it(host: Host) -> None:
    host.write("a.conf", b"one")
    host.write("b.conf", b"two")
    host.add("a.conf", mode="0640", owner="daemon", group="games").add("b.conf").start()
    host.wait_proved("a.conf")
    host.wait_proved("b.conf")
    found = host.dest("a.conf").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 1, 60)
    assert host.dest("b.conf").stat().st_mode & 0o7777 == 0o644
    assert sorted(os.listdir(host.etc)) == ["a.conf", "b.conf"]


def test_an_empty_value_is_an_empty_file(host: Host) -> None:
    host.write("a.conf", b"")
    host.add("a.conf").start()
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b""


def test_a_file_whose_znode_is_deleted_is_removed_where_that_is_asked_for(host: Host) -> None:
    host.write("a.conf", b"one")
    host.add("a.conf", on_delete="remove", on_change=host.note("a")).start()
    host.wait_proved("a.conf")
    host.wait_notes("a", 1)
    host.delete("a.conf")
    assert "mzxid" not in host.wait_proved("a.conf", "missing")
    assert not host.dest("a.conf").exists()
    host.wait_notes("a", 2)
    host.write("a.conf", b"two")
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b"two"


def test_a_file_that_the_agent_did_not_make_is_never_removed(host: Host) -> None:
    host.dest("a.conf").write_bytes(b"the package's own")
    host.add("a.conf", on_delete="remove").start()
    host.wait("a.conf", "missing")
    assert host.read("a.conf") == b"the package's own"


def test_a_file_whose_znode_was_deleted_while_no_agent_ran_is_removed_by_the_next_one(host: Host) -> None:
    host.write("a.conf", b"one")
    agent = host.add("a.conf", on_delete="remove").start()
    host.wait_proved("a.conf")
    agent.end(signal.SIGKILL)
    host.delete("a.conf")
    host.start()
    host.wait_proved("a.conf", "missing")
    assert not host.dest("a.conf").exists()


def test_a_file_that_is_right_is_not_written_again_and_nothing_acts(host: Host) -> None:
    host.write("a.conf", b"one")
    agent = host.add("a.conf", on_change=host.note("a")).start()
    host.wait_notes("a", 1)
    host.wait_proved("a.conf")
    before = host.dest("a.conf").stat()
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL):
        agent.end(number)
        host.start()
        wait_for(lambda: agent.log.count("watching,") > 1, "it is back")
        host.wait_proved("a.conf")
    after = host.dest("a.conf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert host.notes("a") == 1


def test_what_was_there_before_the_agent_is_taken_over_without_a_write(host: Host) -> None:
    host.dest("a.conf").write_bytes(b"one")
    host.dest("a.conf").chmod(0o644)
    before = host.dest("a.conf").stat()
    host.write("a.conf", b"one")
    host.add("a.conf", on_delete="remove", on_change=host.note("a")).start()
    host.wait_proved("a.conf")
    assert host.dest("a.conf").stat().st_mtime_ns == before.st_mtime_ns
    assert host.notes("a") == 0
    host.delete("a.conf")
    host.wait_proved("a.conf", "missing")
    assert not host.dest("a.conf").exists()


def test_files_that_change_together_are_acted_on_once(host: Host) -> None:
    names = [f"{number}.conf" for number in range(20)]
    for name in names:
        host.add(name, on_change=host.note("all"))
    host.start()
    for name in names:
        host.wait(name, "missing")
    transaction = host.zk.transaction()
    for name in names:
        transaction.create(host.path(name), b"x")
    transaction.commit()
    written = zk_of(host.zk, host.path(names[0]))
    for name in names:
        host.wait(name, "current", written)
    assert host.notes("all") == 1
    (dests,) = host.noted("all")
    assert dests.split() == sorted(str(host.dest(name)) for name in names)


def test_of_many_changes_in_one_instant_the_newest_counts_and_a_reader_sees_only_whole_values(host: Host) -> None:
    host.add("a.conf").start()
    host.wait("a.conf", "missing")
    status = f"{host.agent.app}/agents/server1"
    written, begin = host.zk.get(status)[1].version, time.monotonic()
    with Reader(host.dest("a.conf")) as reader:
        for number in range(200):
            host.write("a.conf", f"{number:06} ".encode() * 2_000)
        host.wait_proved("a.conf")
        assert host.read("a.conf") == b"000199 " * 2_000
    assert reader.values > 1
    assert reader.broken == []
    most = STATUS_BURST + (time.monotonic() - begin) / STATUS_INTERVAL + 1
    assert host.zk.get(status)[1].version - written <= most, "not each change is published"


def test_a_value_that_validate_refuses_changes_nothing_until_the_next_one(host: Host) -> None:
    host.write("a.json", b"{}")
    host.add("a.json", validate=["python3", "-m", "json.tool", "%s"], on_change=host.note("a")).start()
    host.wait_proved("a.json")
    host.write("a.json", b"{")
    status = host.wait_proved("a.json", "failed")
    assert "Expecting property name" in status["message"]
    assert status["version"] == 0
    assert host.read("a.json") == b"{}"
    host.write("a.json", b'{"a": 1}')
    host.wait_proved("a.json")
    assert (host.read("a.json"), host.notes("a")) == (b'{"a": 1}', 2)
    assert sorted(os.listdir(host.etc)) == ["a.json"]


def test_an_action_that_fails_is_in_the_status_and_the_next_change_acts_again(host: Host) -> None:
    host.add("a.conf", on_change=["sh", "-c", 'grep good "$ZOO_FILES"']).start()
    host.write("a.conf", b"bad")
    status = host.wait_proved("a.conf", "failed")
    assert "on_change sh ended with status 1" in status["message"]
    assert host.read("a.conf") == b"bad"
    host.write("a.conf", b"good")
    assert "message" not in host.wait_proved("a.conf")


def test_units_are_restarted_at_the_longest_of_their_intervals_and_the_newest_state_gets_its_restart(
    host: Host,
) -> None:
    host.add("a.conf", restart_units=["web.service"], min_interval=1)
    host.add("b.conf", restart_units=["web.service"])
    host.start()
    host.wait("a.conf", "missing")
    number = 0
    while len(host.restarts("web.service")) < 3:
        name = "ab"[number % 2] + ".conf"
        host.write(name, str(number).encode())
        host.wait_read(name)
        number += 1
    assert number > 3, "there were more changes than restarts"
    host.wait_proved("a.conf")
    host.wait_proved("b.conf")
    times = host.restarts("web.service")
    assert min(later - earlier for earlier, later in zip(times, times[1:])) >= 0.99
    assert times[-1] >= max(host.dest(name).stat().st_ctime for name in ("a.conf", "b.conf"))


def test_an_interval_holds_across_a_restart_of_the_agent(host: Host) -> None:
    agent = host.add("a.conf", restart_units=["web.service"], min_interval=3).start()
    host.write("a.conf", b"one")
    host.wait_proved("a.conf")
    agent.end(signal.SIGKILL)
    host.write("a.conf", b"two")
    host.start()
    host.wait_proved("a.conf")
    first, second = host.restarts("web.service")
    assert second - first >= 2.99


def test_an_action_that_was_pending_when_the_agent_was_killed_is_run_by_the_next(host: Host) -> None:
    host.write("a.conf", b"one")
    gate = host.etc.parent / "gate"
    agent = host.add("a.conf", on_change=["sh", "-c", f"test -e {gate} || exec sleep 60; echo x >> {gate}"]).start()
    wait_for(lambda: host.dest("a.conf").exists(), "the file is in place")
    wait_for(lambda: json.loads((agent.base / ".zoo/files.json").read_text())["owed"], "the action is noted")
    agent.end(signal.SIGKILL)
    gate.touch()
    host.start()
    host.wait_proved("a.conf")
    assert gate.read_text() == "x\n"


def test_a_pending_action_is_run_by_the_next_agent_even_where_no_ensemble_answers(host: Host) -> None:
    host.write("a.conf", b"one")
    notes, gate = host.etc.with_name("notes.a"), host.etc.with_name("gate")
    script = f"echo begin >> {notes}; test -e {gate} || exec sleep 60; echo end >> {notes}"
    agent = host.add("a.conf", on_change=["sh", "-c", script]).start()
    wait_for(notes.exists, "the action runs")
    agent.end(signal.SIGKILL)
    gate.touch()
    host.start(hosts="127.0.0.1:1")
    wait_for(lambda: notes.read_text() == "begin\nbegin\nend\n", "it is run again")


def test_files_and_a_release_are_handled_side_by_side(host: Host, repository: GitRepository, release: Publish) -> None:
    agent = host.add("a.conf", on_change=["sleep", "60"]).start()
    host.write("a.conf", b"one")
    host.wait("a.conf", "pending")
    assert agent.wait_outcome(release())["state"] == "active"
    assert agent.live() == repository.head
    assert agent.status["files"][str(host.dest("a.conf"))]["state"] == "pending"


def test_an_agent_without_files_has_none_in_its_status(agents: Agents) -> None:
    assert "files" not in agents().start().wait_live().status
    # The modules that render files are not even loaded.
    loads = "import sys, zoo_watcher.watcher as _; print(*(name for name in sys.modules if 'zoo_watcher.' in name))"
    command = [sys.executable, "-c", loads]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)})
    loaded = {name.removeprefix("zoo_watcher.") for name in done.stdout.split()}
    assert "convergence" in loaded
    assert not {name for name in loaded if name.partition(".")[0] == "files"}


def test_znodes_of_files_are_below_the_chroot(
    agents: Agents, zk: KazooClient, app: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    zk.create(f"{app}/mxn/myZNode", b"one", makepath=True)
    dest = tmp_path / "value"
    agent = agents(hosts=f"{ensemble.hosts}{app}", files=[{"znode": "/mxn/myZNode", "dest": str(dest)}])
    agent.app = "/app/business"
    agent.start()
    wait_for(lambda: dest.exists() and dest.read_bytes() == b"one", f"the value has arrived; log:\n{agent.log}")
    zk.set(f"{app}/mxn/myZNode", b"two")
    wait_for(lambda: dest.read_bytes() == b"two", "the change has arrived")


@pytest.mark.parametrize("trouble", ["killed", "expired"])
def test_what_changes_while_there_is_no_session_arrives_after_it(host: Host, ensemble: Ensemble, trouble: str) -> None:
    host.write("a.conf", b"one")
    agent = host.add("a.conf", on_delete="remove").add("b.conf").start(session_timeout=1)
    host.wait_proved("a.conf")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    if trouble == "expired":
        wait_for(lambda: not agent.status, "the session expires")
    else:
        port = int(re.findall(r"server=127.0.0.1:(\d+)", agent.log)[-1])
        (member,) = (member for member in ensemble.members if member.client_port == port)
        member.kill()
        assert ensemble.leader is not member
        host.zk.retry(host.zk.exists, host.root)
    host.delete("a.conf")
    host.write("b.conf", b"two")
    agent.process.send_signal(signal.SIGCONT)
    host.wait_proved("a.conf", "missing")
    host.wait_proved("b.conf")
    assert not host.dest("a.conf").exists()
    ensemble.start()
    host.write("a.conf", b"three")
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b"three"


def test_the_status_command_lists_files_even_where_no_agent_runs(host: Host) -> None:
    host.write("a.conf", b"one")
    host.add("a.conf").add("b.conf", validate=["sh", "-c", "echo no; echo never; false", "%s"])
    agent = host.start()
    host.write("b.conf", b"two")
    a, b = host.wait_proved("a.conf"), host.wait_proved("b.conf", "failed")
    assert b["message"] == "validate ended with status 1: no | never"
    agent.end()
    command = [sys.executable, "-m", "zoo_watcher", "status", "--config", str(agent.root / "agent.json")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert [line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith("file ")] == [
        f"{host.dest('a.conf')} is current as of {a['zxid']}, it has version 0, mzxid {a['mzxid']} of {a['znode']}",
        f"{host.dest('b.conf')} is failed as of {b['zxid']}, it has no value of {b['znode']}: {b['message']}",
    ]


def zk_of(zk: KazooClient, path: str) -> int:
    """The transaction that last set a znode."""
    return int(zk.get(path)[1].mzxid)


def described(status: dict[str, Any]) -> str:
    """A file's status in one line."""
    return f"{status['state']}: {status.get('message')}"


def test_a_value_of_more_than_a_million_bytes_is_refused_by_name(host: Host) -> None:
    host.write("a.conf", b"x" * 1_000_001)
    host.add("a.conf").start()
    assert described(host.wait_proved("a.conf", "failed")) == "failed: 1000001 bytes: expected at most 1000000"
    assert not host.dest("a.conf").exists()
