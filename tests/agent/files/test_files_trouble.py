"""An obstacle to a file is named, leaves the file as it was, and is overcome once it is removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from operator import ge
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from support.agent import Agent
from support.ensemble import Ensemble
from support.files import Host, Reader
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]


@pytest.fixture
def host(agents: Agents, zk: KazooClient, app: str, tmp_path: Path) -> Host:
    """A host whose agent renders files, and the znodes of an application's configuration."""
    return Host(agents, zk, f"{app}/mxn", tmp_path / "etc")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_the_directory_of_a_file_is_not_made_but_waited_for(host: Host) -> None:
    host.write("sub", b"one")
    host.add("sub")
    directory = host.etc / "later"
    host.agent.config["files"][0]["dest"] = f"{directory}/a.conf"
    host.start()
    message = wait_for(lambda: failed(host, f"{directory}/a.conf"), "it is in the status")
    assert message == f"no directory {directory} on this host; make it, then restart the agent"
    assert not directory.exists()
    directory.mkdir()
    wait_for((directory / "a.conf").exists, "it is tried again")


def test_a_directory_that_is_created_in_a_read_only_place_has_to_be_made_before_the_agent_starts(
    host: Host, small_disk: Path
) -> None:
    host.write("conf.d/a.conf", b"one")
    dest = small_disk / "conf.d"
    host.add("conf.d", format="directory").add("b.conf")
    host.agent.config["files"][0]["dest"] = str(dest)
    host.write("b.conf", b"two")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    host.start()
    message = wait_for(lambda: failed(host, str(dest)), "it is in the status")
    assert message == f"no directory {dest} on this host; make it, then restart the agent"
    host.wait_proved("b.conf")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    dest.mkdir()
    wait_for((dest / "a.conf").exists, "it is tried again")


def failed(host: Host, dest: str) -> str | None:
    """Why a file failed."""
    status = host.agent.status.get("files", {}).get(dest, {})
    return status["message"] if status.get("state") == "failed" else None


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_anything_but_a_file_in_its_place_is_left_untouched_and_named(host: Host, kind: str) -> None:
    dest, other = host.dest("a.conf"), host.etc / "other"
    other.write_bytes(b"other")
    make: dict[str, Callable[[], None]] = {
        "symlink": lambda: dest.symlink_to(other),
        "directory": dest.mkdir,
        "fifo": lambda: os.mkfifo(dest),
    }
    make[kind]()
    host.write("a.conf", b"one")
    host.add("a.conf", on_delete="remove").start()
    status = host.wait_proved("a.conf", "failed")
    assert "is in the file's place, and is left untouched: move it away" in status["message"]
    assert other.read_bytes() == b"other"
    assert dest.is_symlink() == (kind == "symlink")
    dest.rename(host.etc / "moved")
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b"one"


@pytest.mark.parametrize("other", ["cp %s %s.2 && mv %s.2 %s", "rm %s; ln {foreign} %s"])
def test_a_file_that_replaces_the_new_one_while_it_is_checked_is_not_used_and_keeps_its_mode(
    host: Host, other: str
) -> None:
    foreign = host.etc / "foreign"
    foreign.write_bytes(b"foreign")
    foreign.chmod(0o600)
    host.write("a.conf", b"one")
    host.add("a.conf", mode="0666", validate=["sh", "-c", other.format(foreign=foreign)]).start()
    message = host.wait_proved("a.conf", "failed")["message"]
    assert message == "the new file was replaced by another before it was in place: it is not used"
    assert (foreign.read_bytes(), foreign.stat().st_mode & 0o777) == (b"foreign", 0o600)
    assert not host.dest("a.conf").exists()


def test_a_full_disk_is_named_and_the_value_comes_when_there_is_room(host: Host, small_disk: Path) -> None:
    host.write("a.conf", b"x" * 300_000)
    host.add("a.conf")
    dest = small_disk / "a.conf"
    host.agent.config["files"][0]["dest"] = str(dest)
    agent = host.start()
    wait_for(dest.exists, "the first value is there")
    full = small_disk / "full"
    full.write_bytes(b"\0" * 600_000)
    host.write("a.conf", b"y" * 300_000)
    assert "No space left on device" in wait_for(lambda: failed(host, str(dest)), "it is in the status")
    assert dest.read_bytes() == b"x" * 300_000
    assert sorted(os.listdir(small_disk)) == ["a.conf", "full"], "nothing half made takes room"
    full.unlink()
    wait_for(lambda: dest.read_bytes() == b"y" * 300_000, f"it is tried again; log:\n{agent.log}")


def test_a_read_only_disk_is_named_and_the_value_comes_when_it_is_not(host: Host, small_disk: Path) -> None:
    host.write("conf.d/a.conf", b"one")
    dest = small_disk / "conf.d"
    host.add("conf.d", format="directory")
    host.agent.config["files"][0]["dest"] = str(dest)
    host.start()
    wait_for((dest / "a.conf").exists, "the first value is there")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    host.write("conf.d/a.conf", b"two")
    assert "Read-only file system" in wait_for(lambda: failed(host, str(dest)), "it is in the status")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    wait_for(lambda: (dest / "a.conf").read_bytes() == b"two", "it is tried again")


def test_an_owner_that_does_not_exist_is_named(host: Host) -> None:
    host.write("a.conf", b"one")
    host.add("a.conf", owner="nobody-of-this-name").start()
    assert "nobody-of-this-name" in host.wait_proved("a.conf", "failed")["message"]
    assert os.listdir(host.etc) == []


def test_a_znode_that_may_not_be_read_is_named_and_read_when_it_may(host: Host) -> None:
    host.write("a.conf", b"one")
    host.zk.set_acls(host.path("a.conf"), [make_acl("world", "anyone", admin=True)])
    host.add("a.conf").start()
    assert "ACL does not let" in host.wait_proved("a.conf", "failed")["message"]
    host.zk.set_acls(host.path("a.conf"), [make_acl("world", "anyone", all=True)])
    host.wait_proved("a.conf")
    assert host.read("a.conf") == b"one"


def test_a_command_that_hangs_is_ended_and_stops_neither_session_nor_registration(
    host: Host, service: Service, registered: dict[str, object], registrations: Callable[[], dict[str, list[str]]]
) -> None:
    host.write("a.conf", b"one")
    host.add("a.conf", validate=["sh", "-c", "sleep 60", "%s"])
    agent = host.start(hook_timeout=3, session_timeout=1, **registered)
    wait_for(lambda: host.status("a.conf").get("state") == "pending", "it is being proved")
    service.open()
    wait_for(registrations, "it is registered meanwhile", 3)
    assert "validate not ended within 3 s" in host.wait_proved("a.conf", "failed")["message"]
    assert registrations()
    assert "Expired" not in agent.log


def test_a_reload_waits_for_an_action_that_runs(host: Host, tmp_path: Path) -> None:
    notes, gate = tmp_path / "actions", tmp_path / "gate"
    script = f"echo begin >> {notes}; while [ ! -e {gate} ]; do sleep 0.02; done; echo end >> {notes}"
    agent = host.add("a.conf", on_change=["/bin/sh", "-c", script]).start()
    assert agent.process is not None
    host.write("a.conf", b"one")
    wait_for(notes.exists, "its action runs")
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloading as soon as" in agent.log, "the agent says that it waits")
    host.write("a.conf", b"two")
    gate.touch()
    host.wait_proved("a.conf")
    assert agent.log.count("watching, app=") == 2
    assert notes.read_text() == "begin\nend\nbegin\nend\n"


@pytest.mark.parametrize(
    "end", ["kill -9 $PPID", "kill -TERM $PPID; exec sleep 60", "kill -USR2 $PPID; sleep 1; exit 1"]
)
def test_an_action_that_takes_the_agent_down_is_given_up_until_its_file_changes(
    host: Host, service: Service, app: str, registrations: Callable[[], dict[str, list[str]]], end: str
) -> None:
    service.open()
    script = f'echo >> {host.etc}.runs; grep -q well "$ZOO_FILES" || {{ {end}; }}'
    host.add("a.conf", on_change=["sh", "-c", script]).add("b.conf", on_change=host.note("b"))
    services = [{"path": f"{app}/service", "port": service.port, "check": {"type": "tcp"}}]
    host.write("a.conf", b"ill")
    agent = host.start(services=services)
    for _life in range(3):
        assert agent.process is not None
        agent.process.wait(20)
        host.start()
    problem = "on_change sh is not run again until the file changes: the agent ended 3 times while it ran"
    assert host.wait_proved("a.conf", "failed")["message"].startswith(problem)
    wait_for(registrations, "the service is registered")
    assert problem in agent.log
    host.write("b.conf", b"one")
    host.wait_proved("b.conf")
    agent.end()
    host.start()
    assert host.wait_proved("a.conf", "failed")["message"].startswith(problem)
    runs = host.etc.with_name("etc.runs")
    assert runs.read_text() == 3 * "\n"
    host.write("a.conf", b"well")
    host.wait_proved("a.conf")
    assert runs.read_text() == 4 * "\n"


def test_a_broken_journal_is_replaced_by_a_new_one(host: Host) -> None:
    host.write("a.conf", b"one")
    agent = host.add("a.conf").start()
    host.wait_proved("a.conf")
    agent.end(signal.SIGKILL)
    for text in ("", "[1]", '{"made": 1}', '{"made": {}, "owed": [[]], "runs": {"x": "y"}}'):
        (agent.base / ".zoo/files.json").write_text(text)
        host.write("a.conf", text.encode() + b"x")
        host.start()
        host.wait_proved("a.conf")
        agent.end(signal.SIGKILL)


def test_no_file_changes_while_its_pending_actions_cannot_be_recorded(host: Host) -> None:
    journal = host.agent.base / ".zoo/files.json"
    (journal / "in its place").mkdir(parents=True)
    host.write("a.conf", b"one")
    host.add("a.conf", on_change=host.note("a")).start()
    assert host.wait_proved("a.conf", "failed")["message"].startswith(f"{journal}: ")
    assert os.listdir(host.etc) == []
    shutil.rmtree(journal)
    host.wait_proved("a.conf")
    host.wait_notes("a", 1)


def wakes(pid: int) -> int:
    """How often the threads of a process have gone to sleep, since they were started."""
    statuses = (status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0]) for text in statuses)


def test_an_agent_that_lost_its_server_in_the_middle_of_a_read_waits_and_does_not_spin(
    agents: Agents, tmp_path: Path
) -> None:
    servers = Ensemble(tmp_path / "ensemble", size=1)
    (member,) = servers.members
    with servers:
        # The directory does not exist, so the agent keeps reading, also before it notices that the server is silent.
        files = [{"znode": "/", "dest": str(tmp_path / "nowhere" / "a")}]
        agent = agents(hosts=servers.hosts, files=files, session_timeout=10).start()
        wait_for(lambda: "no directory" in agent.log, "it has read")
        member.signal(signal.SIGSTOP)
        wait_for(lambda: "trouble with ZooKeeper, tried again: files" in agent.log, "a read is not answered", 60)
        member.kill()
        wait_for(lambda: "session Disconnected" in agent.log, "the connection is lost")
        assert agent.process is not None
        before, begin = wakes(agent.process.pid), time.monotonic()
        wait_for(lambda: time.monotonic() > begin + 3, "three seconds have gone by")
        assert wakes(agent.process.pid) - before < 150
        servers.start()
        (tmp_path / "nowhere").mkdir()
        wait_for((tmp_path / "nowhere" / "a").exists, "it goes on", 60)


def test_an_agent_killed_at_any_instant_leaves_complete_files_and_the_next_one_writes_the_newest(host: Host) -> None:
    host.add("a.conf", on_change=host.note("a")).add("b.conf", validate=["test", "-s", "%s"])
    host.add("conf.d", format="directory", on_delete="remove")
    names = ("a.conf", "b.conf", "conf.d/c.conf", "conf.d/sub/d.conf")
    agent = host.start(session_timeout=10)
    host.wait("a.conf", "missing")
    done = threading.Event()
    numbers = iter(range(1_000_000))

    def change() -> None:
        while not done.is_set():
            value = f"{next(numbers):06} ".encode() * 2_000
            for name in names:
                host.write(name, value)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with contextlib.ExitStack() as reading:
            readers = [reading.enter_context(Reader(host.dest(name))) for name in names]
            for round_number in range(5):
                wanted = [reader.values + round_number + 1 for reader in readers]
                wait_for(lambda: all(map(ge, (reader.values for reader in readers), wanted)), "values come")
                agent.end(signal.SIGKILL)
                host.start()
    finally:
        done.set()
        changing.join()
    for name in ("a.conf", "b.conf", "conf.d"):
        host.wait_proved(name)
    assert {name: host.read(name) for name in names} == {name: host.zk.get(host.path(name))[0] for name in names}
    assert [reader.broken for reader in readers] == [[]] * len(names)
    assert sorted(os.listdir(host.etc)) == ["a.conf", "b.conf", "conf.d"]
    assert sorted(os.listdir(host.dest("conf.d"))) == ["c.conf", "sub"]
