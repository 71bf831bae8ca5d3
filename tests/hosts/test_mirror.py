"""Where the trees of hosts come from: the archive that this machine's apt uses for its own packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosts.lab.mirror import Mirror, find_mirror

OTHERS = """\
Types: deb
URIs: https://packages.example.com/apt
Suites: nodistro
Components: main

Types: deb-src
URIs: http://sources.example.com/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://off.example.com/debian
Suites: bookworm
Components: main
Enabled: no
"""
DEB822 = """\
# Ours
Types: deb
# and this week's
URIs: http://mirror.example.com/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg
"""
ONE_LINE = """\
# deb http://old.example.com/debian bookworm main
deb [arch=amd64] https://packages.example.com/apt bookworm-tools main
deb-src http://sources.example.com/debian bookworm main
deb [ signed-by=/usr/share/keyrings/archive.gpg arch=amd64 ] http://mirror.example.com/debian bookworm main contrib
deb http://second.example.com/debian bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The /etc of a Debian 12 without apt sources."""
    (tmp_path / "os-release").write_text('PRETTY_NAME="Debian 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n')
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "files", [{"sources.list.d/a.sources": OTHERS, "sources.list.d/debian.sources": DEB822}, {"sources.list": ONE_LINE}]
)
def test_the_source_of_the_machines_own_suite_is_the_mirror(etc: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (etc / "apt" / name).write_text(text)
    assert find_mirror(etc) == Mirror("http://mirror.example.com/debian", "/usr/share/keyrings/archive.gpg")


def test_a_list_of_mirrors_is_read(etc: Path) -> None:
    mirrors = etc / "mirrors"
    mirrors.write_text("http://one.example.com/debian\nhttp://two.example.com/debian\n")
    (etc / "apt" / "sources.list").write_text(f"deb mirror+file:{mirrors} bookworm main\n")
    assert find_mirror(etc) == Mirror("http://one.example.com/debian")


def test_without_such_a_source_there_is_no_mirror(etc: Path) -> None:
    (etc / "apt" / "sources.list.d" / "a.sources").write_text(OTHERS)
    assert find_mirror(etc) is None
    (etc / "apt" / "sources.list").write_text("deb http://mirror.example.com/ubuntu jammy main\n")
    (etc / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=jammy\n")
    assert find_mirror(etc) is None
