"""What is beside a path on each level, which Landlock is told to allow, and what it then denies."""

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


def test_everything_but_a_path_is_beside_it_except_symlinks_which_may_lead_to_it(place: Path) -> None:
    assert beside(place / "secret") == {f"{place}/open"}
    assert beside(place / "open", place / "secret/key") == set()
    assert set(landlock.beside(["/proc"])) >= {"/usr", "/dev"}


def test_what_is_hidden_twice_is_hidden_entirely(place: Path) -> None:
    """For example a key among the credentials that systemd passes."""
    (place / "secret/password").touch()
    assert beside(place / "secret", place / "secret/key") == {f"{place}/open"}


def test_a_path_that_does_not_exist_has_those_beside_it_that_do(place: Path) -> None:
    assert beside(place / "none", place / "open/none") == {f"{place}/secret", f"{place}/open/file"}


def test_a_symlink_to_a_secret_hides_what_it_leads_to(place: Path) -> None:
    assert beside(place / "link") == {f"{place}/open"}


def test_a_remote_mount_is_not_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_remote_mounts", lambda: {f"{place}/open"})
    assert beside(place / "secret") == set()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_or_a_system_call_filter_without_landlock_has_version_0(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_words: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(linux, "system_call", refuse)
    assert landlock.version() == 0


def test_the_first_version_which_forbids_all_moves_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_what_is_hidden_is_denied_except_for_what_is_needed(place: Path) -> None:
    """That a directory above is also needed opens nothing in it."""
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
