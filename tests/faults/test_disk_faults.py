"""A disk is full or read-only, a directory is where the symlink belongs: the old release stays, the host recovers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.support.host import Host
from faults.support.ledger import Ledger
from support.waiting import wait_for

pytestmark = pytest.mark.storm
Hosts = Callable[..., Host]


def mount(stack: ExitStack, place: Path, *words: str) -> None:
    """Mount something at a directory until the stack ends, or skip the test if mounting is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *words, str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """The mounts of the test, undone at its end."""
    with ExitStack() as stack:
        yield stack


def tmpfs(mounts: ExitStack, host: Host) -> None:
    """A base of 4 MB in memory."""
    mount(mounts, host.agent.base, "-t", "tmpfs", "-o", "size=4m", "tmpfs")


def ext4(mounts: ExitStack, host: Host) -> None:
    """A base of 8 MB on a real file system in a file."""
    image = host.agent.root / "image"
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(8_000_000)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
    mount(mounts, host.agent.base, "-o", "loop", str(image))


def fill(path: Path) -> None:
    """Write a file until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_full_disk_is_named_and_leaves_the_old_release_live_until_there_is_room(
    mounts: ExitStack, host: Hosts, ledger: Ledger, file_system: Callable[[ExitStack, Host], None]
) -> None:
    one = host(min_free_bytes=0, min_free_inodes=0)
    file_system(mounts, one)
    one.start().settle()
    before = one.origin.head
    (one.origin.path / "large").write_bytes(os.urandom(100_000))
    one.origin.commit({})
    ledger.inject(f"a full disk, {file_system.__name__}")
    fill(one.agent.base / "full")
    generation = one.publish()
    status = one.says("No space left on device")
    assert status["state"] not in {"failed", "active"}
    one.check_live(before)
    one.check_registered()
    own = one.agent.base / ".zoo"
    outdated = f"\ntrouble     {own}/status.json: No space left on device; the status may be out of date\n"
    assert outdated in one.agent.control("status").stdout
    done = one.agent.control("drain", "--reason", "it is full")
    assert done.returncode == 3, done.stderr
    assert ": it is full; its reason is not noted: No space left on device; not confirmed by the agent" in done.stdout
    wait_for(lambda: one.zk.exists(one.registration) is None, "it is drained")
    one.agent.control("undrain")
    one.check_registered()
    (one.agent.base / "full").unlink()
    assert outdated not in one.agent.control("status").stdout
    assert one.outcome(generation)["state"] == "active", "nobody needs to publish it again"
    later = one.origin.commit({"index.html": "room again\n"})
    one.settle(later)


@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_release_that_takes_the_agent_down_on_a_full_disk_is_given_up_all_the_same(
    mounts: ExitStack, host: Hosts, ledger: Ledger, file_system: Callable[[ExitStack, Host], None]
) -> None:
    one = host(min_free_bytes=0, min_free_inodes=0)
    file_system(mounts, one)
    one.start().settle()
    before = one.origin.head
    deadly = one.origin.commit({"index.html": "deadly\n"})
    for commit_id in (deadly, before):
        one.settle(commit_id)
    one.agent.end(signal.SIGUSR2)
    one.agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", f"[ $ZOO_COMMIT != {deadly} ] || kill -9 $PPID"]}
    one.start()
    wait_for(lambda: "watching, app=" in one.agent.log[one.logged :], "it has begun")
    ledger.inject(f"a release that takes the agent down on a full disk, {file_system.__name__}")
    fill(one.agent.base / "full")
    generation = one.publish(deadly)
    for _crash in range(2):
        assert one.agent.process is not None
        assert one.agent.process.wait(30) == -signal.SIGKILL
        one.check_live(deadly)
        one.start()
    status = one.outcome(generation)
    assert (status["state"], status["commitId"]) == ("rolled_back", before)
    assert "given up: the agent died 2 times" in status["message"]
    one.check_live(before)
    one.check_registered()


def test_a_disk_that_is_full_of_unneeded_releases_has_room_for_the_next_one(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host(min_free_bytes=1_000_000, min_free_inodes=0)
    tmpfs(mounts, one)
    one.start().settle()
    own = one.agent.base / ".zoo"
    for unneeded in (own / "releases" / ("b" * 40), own / "staging" / "left"):
        unneeded.mkdir()
        with (unneeded / "half").open("wb") as file:
            file.write(bytes(1_500_000))
    ledger.inject("a disk that is full of old releases")
    fill(own / "releases" / ("b" * 40) / "full")
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    assert not (own / "releases" / ("b" * 40)).exists()


def free_bytes(host: Host) -> int:
    """The free bytes on the disk of the base."""
    facts = os.statvfs(host.agent.base)
    return facts.f_bavail * facts.f_frsize


def test_a_deployment_that_would_leave_less_than_min_free_bytes_waits_for_room(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host()
    tmpfs(mounts, one)
    one.start().settle()
    before = one.origin.head
    one.agent.end(signal.SIGUSR2)
    floor = one.agent.config["min_free_bytes"] = free_bytes(one) - 300_000
    (one.origin.path / "large").write_bytes(os.urandom(400_000))
    one.origin.commit({})
    ledger.inject("a release for which there is too little room")
    one.start()
    generation = one.publish()
    status = one.says("bytes, all there is above min_free_bytes: make room; tried again")
    assert (status["state"], status["commitId"]) == ("fetching", before)
    assert free_bytes(one) >= floor - 100_000, "the pack was cut off"
    one.check_live(before)
    (one.agent.base / "more").write_bytes(bytes(300_000))
    one.says("to stay free (min_free_bytes): make room; tried again")
    one.check_registered()
    (one.agent.base / "more").unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(one.agent.base)], check=True)
    assert one.outcome(generation)["state"] == "active", "nobody needs to publish it again"
    one.check_live(one.origin.head)


def test_a_disk_that_fills_up_under_a_restarted_agent_stops_neither_service_nor_status(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host()
    tmpfs(mounts, one)
    one.start().settle()
    before = one.origin.head
    ledger.inject("a full disk while an agent starts")
    one.agent.end()
    fill(one.agent.base / "full")
    one.start()
    one.outcome(one.publish(before))
    one.check_live(before)
    one.check_registered()
    (one.agent.base / "full").unlink()
    one.origin.commit({"index.html": "room again\n"})
    one.settle()


def test_a_read_only_disk_is_named_and_leaves_the_old_release_live_until_it_can_be_written(
    host: Hosts, ledger: Ledger
) -> None:
    one = host().start()
    one.settle()
    before = one.origin.head
    one.origin.commit({"index.html": "two\n"})
    ledger.inject("a read-only disk")
    with ExitStack() as mounts:
        read_only(mounts, one)
        generation = one.publish()
        status = one.says("Read-only file system")
        assert (status["commitId"], status["state"] in {"failed", "active"}) == (before, False)
        own = one.agent.base / ".zoo"
        outdated = f"\ntrouble     {own}/status.json: Read-only file system; the status may be out of date\n"
        assert outdated in one.agent.control("status").stdout
        done = one.agent.control("hold", "--reason", "disk swap")
        assert (done.returncode, done.stderr) == (1, f"zoo-watcher: {own}: Read-only file system\n")
        one.check_live(before)
        one.check_registered()
    assert one.outcome(generation)["state"] == "active", "nobody needs to publish it again"


def read_only(mounts: ExitStack, host: Host) -> None:
    """Remount the base as it is, but read-only."""
    mount(mounts, host.agent.base, "--bind", str(host.agent.base))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(host.agent.base)], check=True)


def test_an_agent_that_starts_on_a_read_only_disk_registers_and_deploys_once_it_can_be_written(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host(drain_seconds=0.1, session_timeout=30)
    created = one.start().settle()
    before = one.origin.head
    ledger.inject("a read-only disk while an agent starts")
    one.agent.end(signal.SIGUSR2)
    read_only(mounts, one)
    one.start()
    status = wait_for(lambda: one.status if one.status.get("troubles") else None, "the status says so")
    assert status is not None
    # There may be other troubles beside it, such as one about another file of the agent.
    told = "status.json: Read-only file system; no release is deployed until it can be written"
    assert [trouble for trouble in status["troubles"] if trouble.endswith(told)], status["troubles"]
    one.check_same(created)
    one.origin.commit({"index.html": "two\n"})
    generation = one.publish()
    one.says("Read-only file system")
    one.check_live(before)
    generation = one.publish(before, ref="kept")
    one.outcome(generation)
    one.check_same(created)
    later = one.publish()
    one.says("Read-only file system")
    mounts.close()
    status = one.outcome(later)
    assert (status["state"], status["commitId"]) == ("active", one.origin.head)
    wait_for(lambda: "troubles" not in one.status, "the trouble is over", 40)
    one.check_registered()


def test_a_host_is_not_drained_for_a_release_on_a_read_only_disk(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host(drain_seconds=0.1, session_timeout=30)
    one.start().settle()
    first = one.origin.head
    one.origin.commit({"index.html": "two\n"})
    created = one.settle()
    second = one.origin.head
    ledger.inject("a read-only disk before a kept release is activated")
    read_only(mounts, one)
    generation = one.publish(first)
    status = one.says("Read-only file system; tried again")
    assert (status["state"], status["commitId"]) == ("queued", second)
    one.check_same(created)
    mounts.close()
    assert one.outcome(generation)["state"] == "active"
    one.check_live(first)


def test_a_host_whose_disk_becomes_read_only_after_the_drain_serves_until_it_can_be_written(
    mounts: ExitStack, host: Hosts, ledger: Ledger
) -> None:
    one = host(drain_seconds=0.1)
    one.start().settle()
    before = one.origin.head
    base = one.agent.base
    one.agent.end(signal.SIGUSR2)
    script = f"cd / && mount --bind {base} {base} && mount -o remount,ro,bind {base}"
    one.agent.config["hooks"] = {"before_activate": ["/bin/sh", "-c", script]}
    ledger.inject("a disk that becomes read-only after the drain")
    mounts.callback(subprocess.run, ["umount", "--lazy", str(base)], check=True)
    one.start()
    one.origin.commit({"index.html": "two\n"})
    generation = one.publish()
    status = one.says("Read-only file system; tried again")
    assert status["commitId"] == before
    one.check_registered()
    mounts.close()
    assert one.outcome(generation)["state"] == "active"
    one.check_live(one.origin.head)


def test_a_directory_where_the_symlink_belongs_is_named_and_left_alone(host: Hosts, ledger: Ledger) -> None:
    one = host().start()
    one.settle()
    precious = one.agent.base / "elsewhere" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine\n")
    ledger.inject("a directory where the symlink belongs")
    status = one.outcome(one.publish(relativePath="elsewhere"))
    assert status["state"] == "failed"
    assert str(precious.parent) in status["message"]
    assert precious.read_text() == "mine\n"
    one.check_live(one.origin.head)
    one.origin.commit({"index.html": "two\n"})
    one.settle()
