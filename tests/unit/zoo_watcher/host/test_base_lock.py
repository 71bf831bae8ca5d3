"""Only one agent works in a base: a second one ends, and any user can see whether one is running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import SOURCE
from support.immutable import immutable
from support.other_user import NOBODY
from zoo_watcher.errors import AgentError
from zoo_watcher.host.base_lock import (
    FLOCK,
    agent_pid,
    check_base,
    is_locked,
    keep_lock,
    lock_base,
    pass_on,
    try_base,
)
from zoo_watcher.host.filesystem import remove_tree
from zoo_watcher.host.layout import Layout


@contextlib.contextmanager
def locking(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, whose script prints `locked` once it holds a base."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"locked\n"
        yield agent


def test_a_base_is_locked_until_its_agent_lets_go(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    assert not is_locked(layout)
    lock = lock_base(layout)
    assert is_locked(layout)
    assert layout.lock.stat().st_mode & 0o777 == 0o600, "nobody else can hold it"
    with pytest.raises(AgentError, match=f"another agent works in {layout.base}; this one ends"):
        lock_base(layout)
    os.close(lock)
    assert not is_locked(layout)
    os.close(lock_base(layout))


def test_a_lock_that_is_passed_on_is_reused_for_its_base_and_released_for_another(tmp_path: Path) -> None:
    layout, other = Layout(tmp_path / "base"), Layout(tmp_path / "other")
    lock = lock_base(layout)
    pass_on(lock)
    assert os.get_inheritable(lock)
    assert lock_base(layout) == lock
    assert not os.get_inheritable(lock)
    pass_on(lock)
    os.close(lock_base(other))
    assert not is_locked(layout)
    assert not is_locked(other)


def test_a_lock_that_is_passed_on_but_was_removed_meanwhile_is_not_mistaken_for_the_present_one(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path / "base")
    pass_on(lock_base(layout))
    layout.lock.unlink()
    os.close(lock_base(layout))
    assert not is_locked(layout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_sees_that_an_agent_runs_and_cannot_take_its_lock(open_path: Path) -> None:
    layout = Layout(open_path / "base")
    lock = lock_base(layout)
    assert seen_by_nobody(layout) == (True, False)
    os.close(lock)
    assert seen_by_nobody(layout) == (False, False)
    layout.lock.unlink()
    assert seen_by_nobody(layout) == (False, False)


def seen_by_nobody(layout: Layout) -> tuple[bool, bool]:
    """Whether a user other than the agent's sees that it is running, and whether that user can open its lock."""
    os.seteuid(NOBODY)
    try:
        return is_locked(layout), os.access(layout.lock, os.R_OK, effective_ids=True)
    finally:
        os.seteuid(0)


def test_a_lock_that_everybody_could_hold_is_made_private_to_the_agent(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    layout.make()
    layout.lock.touch(mode=0o644)
    os.close(lock_base(layout))
    assert layout.lock.stat().st_mode & 0o777 == 0o600


def test_the_kernel_reports_which_process_holds_the_lock(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    assert agent_pid(layout) is None
    script = "import sys; from pathlib import Path; from zoo_watcher.host.base_lock import *\n"
    script += f"lock_base(Layout(Path({str(layout.base)!r}))); print('locked', flush=True); sys.stdin.read()"
    with locking(script) as agent:
        assert agent_pid(layout) == agent.pid
        agent.kill()
    assert agent_pid(layout) is None


def test_an_agent_in_another_pid_namespace_has_no_pid_to_wake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path / "base")
    os.close(lock_base(layout))
    held = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    monkeypatch.setattr("zoo_watcher.host.base_lock.fcntl.fcntl", lambda *_words: held)
    assert agent_pid(layout) is None


def test_a_lock_that_is_only_held_for_an_instant_is_waited_for(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    lock = lock_base(layout)
    threading.Timer(0.2, os.close, [lock]).start()
    os.close(lock_base(layout))


def test_a_base_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match=f"^base: {tmp_path}/file/base: Not a directory$"):
        lock_base(Layout(tmp_path / "file" / "base"))


def test_a_fifo_in_place_of_the_lock_is_named_and_not_waited_for(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    layout.make()
    os.mkfifo(layout.lock)
    with pytest.raises(AgentError, match=f"^base: {layout.lock}: agent.lock is not a regular file$"):
        lock_base(layout)
    assert not is_locked(layout)
    assert agent_pid(layout) is None


def test_anything_else_in_place_of_a_running_agents_lock_is_a_mistake_before_a_reload(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    lock = lock_base(layout)
    try_base(layout, layout)
    aside = layout.lock.rename(tmp_path / "aside")
    for put in (os.mkfifo, os.mkdir, lambda path: os.symlink(aside, path)):
        put(layout.lock)
        with pytest.raises(AgentError, match=f"^base: {layout.lock}: agent.lock is not a regular file; move it away$"):
            try_base(layout, layout)
        remove_tree(layout.lock)
    os.close(lock)


def test_a_lock_that_was_opened_read_only_reveals_its_holder_once_a_reload_can_write_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    script = "import fcntl, os, sys; from pathlib import Path; from zoo_watcher.host.base_lock import *\n"
    script += f"layout = Layout(Path({str(layout.base)!r})); layout.make(); layout.lock.touch()\n"
    script += "held = os.open(layout.lock, os.O_RDONLY); fcntl.flock(held, fcntl.LOCK_EX); pass_on(held)\n"
    script += "assert lock_base(layout) == held; print('locked', flush=True); sys.stdin.read()"
    with locking(script) as agent:
        assert agent_pid(layout) == agent.pid
        assert is_locked(layout)
        agent.kill()


@pytest.mark.parametrize("name", ["", ".zoo", ".zoo/releases", ".zoo/manifests", ".zoo/staging"])
@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_anything_else_in_place_of_a_directory_is_named_with_what_to_do(tmp_path: Path, name: str, kind: str) -> None:
    place = tmp_path / "base" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to("nowhere") if kind == "symlink" else place.touch()
    with pytest.raises(AgentError, match=f"^base: {place}: not a directory; move it away$"):
        lock_base(Layout(tmp_path / "base"))


@pytest.mark.parametrize("name", ["agent.lock", ""])
def test_an_agent_serves_even_while_its_files_cannot_be_written(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / "base")
    os.close(lock_base(layout))
    layout.staging.rmdir()
    with immutable(layout.own / name):
        lock = lock_base(layout)
        assert is_locked(layout)
        os.close(lock)


@pytest.mark.parametrize("name", ["releases", "manifests", "staging"])
def test_an_agent_serves_even_with_something_else_in_place_of_a_directory(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / "base")
    os.close(lock_base(layout))
    (layout.own / name).rmdir()
    (layout.own / name).touch()
    lock = lock_base(layout)
    assert is_locked(layout)
    os.close(lock)


@pytest.mark.parametrize("base", ["/proc/zoo", "/sys/zoo/a", "/etc/passwd", "/etc/passwd/base"])
def test_a_base_that_cannot_exist_is_refused(base: str) -> None:
    with pytest.raises(AgentError, match=r"^base: "):
        check_base(Layout(Path(base)))


@pytest.mark.parametrize("part", ["own", "releases", "staging"])
def test_a_base_in_which_no_release_could_be_renamed_is_refused(tmp_path: Path, part: str) -> None:
    layout = Layout(tmp_path / "base")
    elsewhere: Path = getattr(layout, part)
    elsewhere.parent.mkdir(parents=True)
    elsewhere.symlink_to("/proc")
    with pytest.raises(AgentError, match=f"^base: {elsewhere} is in another file system than {layout.base}, so that"):
        check_base(layout)
    elsewhere.unlink()
    layout.make()
    check_base(layout)


def test_checking_a_base_creates_nothing_and_needs_no_permission(tmp_path: Path) -> None:
    check_base(Layout(tmp_path / "a" / "base"))
    assert not list(tmp_path.iterdir())
    tmp_path.chmod(0o500)
    check_base(Layout(tmp_path / "base"))


def test_trying_the_base_of_the_running_agent_leaves_its_lock_intact(tmp_path: Path) -> None:
    running = Layout(tmp_path / "base")
    lock = lock_base(running)
    (tmp_path / "link").symlink_to("base")
    for base in ("base", "link", "other"):
        try_base(Layout(tmp_path / base), running)
    assert not is_locked(Layout(tmp_path / "other"))
    script = "import sys; from pathlib import Path; from zoo_watcher.host.base_lock import *\n"
    script += f"print(agent_pid(Layout(Path({str(running.base)!r}))))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    asked = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == str(os.getpid())
    os.close(lock)


def test_a_lock_that_was_removed_is_recreated_and_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = Layout(tmp_path / "base")
    lock = lock_base(layout)
    assert keep_lock(layout, lock) == lock
    assert not caplog.text
    shutil.rmtree(layout.own)
    renewed = keep_lock(layout, lock)
    assert f"the lock of the base was removed, and is recreated, path={layout.lock}" in caplog.text
    assert is_locked(layout)
    assert keep_lock(layout, renewed) == renewed
    os.close(renewed)
    assert not is_locked(layout)


def test_a_lock_that_another_agent_has_recreated_belongs_to_that_agent(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    lock = lock_base(layout)
    layout.lock.unlink()
    other = lock_base(layout)
    with pytest.raises(AgentError, match=f"another agent works in {layout.base}; this one ends"):
        keep_lock(layout, lock)
    os.close(other)


def test_a_lock_that_cannot_be_recreated_now_is_an_error_that_passes(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    lock = lock_base(layout)
    shutil.rmtree(layout.base)
    layout.base.touch()
    with pytest.raises(OSError, match="base"):
        keep_lock(layout, lock)
    layout.base.unlink()
    assert keep_lock(layout, lock) != lock
