"""What is beside a path on the way down, which is what Landlock is told to allow; and what it then denies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.agent import SOURCE
from zoo_watcher.host import landlock, linux


def beside(*paths: Path) -> set[str]:
    """What is beside the paths, in the directory of the test."""
    root = f"{paths[0].parent}/"
    return {path for path in landlock.beside(map(str, paths)) if path.startswith(root)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two others in it, and a symlink to one of them."""
    for name in ("secret/key", "open/file"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text")
    (tmp_path / "link").symlink_to("secret")
    return tmp_path.resolve()


def test_all_but_a_path_is_beside_it_and_no_symlink_which_may_lead_to_it(place: Path) -> None:
    assert beside(place / "secret") == {f"{place}/open"}
    assert beside(place / "open", place / "secret/key") == set()
    assert set(landlock.beside(["/proc"])) >= {"/usr", "/dev"}


def test_what_is_hidden_twice_is_hidden_as_a_whole(place: Path) -> None:
    """As a key among the credentials that systemd hands over."""
    (place / "secret/password").touch()
    assert beside(place / "secret", place / "secret/key") == {f"{place}/open"}


def test_a_path_that_is_not_there_has_those_beside_it_that_are(place: Path) -> None:
    assert beside(place / "none", place / "open/none") == {f"{place}/secret", f"{place}/open/file"}


def test_a_symlink_to_a_secret_hides_what_it_leads_to(place: Path) -> None:
    assert beside(place / "link") == {f"{place}/open"}


def test_the_mount_of_a_server_is_not_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_remote_mounts", lambda: {f"{place}/open"})
    assert beside(place / "secret") == set()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_or_a_filter_of_system_calls_without_it_has_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_words: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(linux, "system_call", refuse)
    assert landlock.version() == 0


def test_the_first_version_by_which_nothing_could_be_moved_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, found in {1: 0, 2: 2, 7: 7}.items():
        monkeypatch.setattr(linux, "system_call", lambda *_words, present=present: present)
        assert landlock.version() == found


SCRIPT = """
import sys
from pathlib import Path
from zoo_watcher.host.landlock import confine
place = Path(sys.argv[1])
confine([f"{place}/open"], [f"{place}/secret"], [f"{place}/secret/needed", str(place)], None)
for name in ("secret/key", "secret/needed", "open/file", "other"):
    try:
        print(name, (place / name).read_text())
    except PermissionError:
        print(name, "denied")
(place / "open/new").mkdir()
(place / "open/file").rename(place / "open/new/file")
print("NoNewPrivs:\\t1" in Path("/proc/self/status").read_text())
"""


@pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")
def test_what_is_hidden_is_denied_but_for_what_is_needed(place: Path) -> None:
    """That a directory above is said to be needed opens nothing in it."""
    (place / "secret/needed").write_text("needed")
    (place / "other").write_text("other")
    words = [sys.executable, "-c", SCRIPT, str(place)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "secret/key denied",
        "secret/needed needed",
        "open/file text",
        "other other",
        "True",
    ]
