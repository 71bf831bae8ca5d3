"""A bare Debian as a new user has it: a tree made by debootstrap, with git, sudo, and a user who may use sudo.

The trees are made once and kept in `.cache/bare`. The user runs commands in a copy of one, an overlay. The packages
that the user may install are in the tree; the network, the package index and its certificates are the machine's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hosts.lab.minimal import copy_minimal, run_privately
from hosts.lab.mirror import find_mirror
from hosts.lab.places import locked
from support.merged import run_merged
from support.playbook import ROOT
from support.waiting import wait_for

CACHE = ROOT / ".cache" / "bare"
RECIPE = Path(__file__).with_name("bare.sh")
SUITES = ("bookworm", "trixie")
THERE = ["ca-certificates", "git", "sudo"]
OFFERED = [
    *(
        "default-jre-headless",
        "libnetty-java",
        "libslf4j-java",
        "libzookeeper-java",
        "nginx",
        "python3",
        "python3-venv",
    ),
    *(
        "e2fsprogs",
        "gpg",
        "gpg-agent",
        "haproxy",
        "iproute2",
        "nginx-light",
        "openssh-client",
        "openssh-server",
        "openssl",
        "prometheus",
        "strace",
        "xfsprogs",
    ),
]
"""The packages that the quickstart and `tests/run.sh` install."""
INDEX = ("PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Variables that may configure this machine's Python package index; most machines have none of them."""
PRIVATE = ["unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child"]
PROGRAMS = ["debootstrap", "nsenter", "unshare"]
USER = "ann"


def lacking() -> str:
    """Why no bare tree can be made here, in one line; empty if one can."""
    if os.geteuid() != 0:
        return "bare trees need root (chroot, namespaces)"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"bare trees need programs that are not here: {' '.join(missing)}"
    if find_mirror() is None:
        return "bare trees are made from the mirror of a Debian, and this is none"
    tried = subprocess.run([*PRIVATE, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return f"bare trees need namespaces, which are refused here: {tried.stderr.strip()}" if tried.returncode else ""


def bare_tree(suite: str) -> Path:
    """The suite's tree; it is made first, in some minutes, if there is none by this recipe."""
    return tree_with(suite, suite, THERE, OFFERED)


def tree_with(name: str, suite: str, there: list[str], offered: list[str]) -> Path:
    """A tree of the suite with some packages installed and others that can be installed; cached by its name."""
    recipe = RECIPE.read_text() + repr((there, offered))
    tree = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(f"bare-{name}"):
        if not tree.exists():
            for old in CACHE.glob(f"{name}*"):
                shutil.rmtree(old)
            new = CACHE / f"{name}.new"
            shutil.rmtree(new, ignore_errors=True)
            copy_minimal(suite, new)
            _furnish(new, there, offered, CACHE / f"log-{name}")
            new.rename(tree)
    return tree


def _furnish(tree: Path, there: list[str], offered: list[str], log: Path) -> None:
    shutil.copy("/etc/resolv.conf", tree / "etc" / "resolv.conf")
    shutil.copy(RECIPE, tree / "bare.sh")
    words = ["chroot", str(tree), "sh", "/bare.sh", ",".join(there), *offered]
    run_privately(["unshare", "--pid", "--fork", f"--mount-proc={tree}/proc", *words], log)
    (tree / "bare.sh").unlink()


@dataclass
class BareHost:
    """A copy of a bare tree, in namespaces of its own."""

    root: Path
    process: int

    @property
    def home(self) -> Path:
        """The user's home directory, as seen from outside."""
        return Path(f"/proc/{self.process}/root{self.root}/home/{USER}")

    def run(self, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in a login shell."""
        inside = ["nsenter", f"--target={self.process}", "--mount", "--uts", "--pid", "chroot", str(self.root)]
        return run_merged([*inside, "su", "--login", USER, "--command", command], timeout)


@contextlib.contextmanager
def bare_host(tree: Path, directory: Path) -> Iterator[BareHost]:
    """A bare host while the block lasts; its processes end with it. `directory` holds the files that it writes."""
    for name in ("upper", "work", "root"):
        (directory / name).mkdir(parents=True)
    root = directory / "root"
    setup = f"""
        mount -t overlay overlay -o lowerdir={tree},upperdir={directory}/upper,workdir={directory}/work {root} &&
        mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && hostname bare &&
        touch {directory}/ready && exec sleep infinity"""
    with (directory / "log").open("w") as log:
        holder = subprocess.Popen([*PRIVATE, "sh", "-c", setup], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: (directory / "ready").exists() or holder.poll() is not None, "the copy of the tree is there")
        assert holder.poll() is None, (directory / "log").read_text()
        host = BareHost(root, int(_first_process(holder)))
        _let_it_reach_the_index(host)
        yield host
    finally:
        first = _first_process(holder)
        holder.kill()
        holder.wait()
        # The first process of a namespace ends after all others in it: nothing writes any more.
        wait_for(lambda: not _runs(first), "what ran in the copy has ended")
        # Some hundred megabytes, and pytest keeps the directories of three runs.
        shutil.rmtree(directory)


def _first_process(holder: subprocess.Popen[bytes]) -> str:
    """The process that `holder` has started in the namespace; empty if it has ended."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    return children.read_text().strip() if children.exists() else ""


def _runs(process: str) -> bool:
    """Whether a process exists and is not a zombie."""
    status = Path(f"/proc/{process}/stat")
    try:
        return bool(process) and status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _let_it_reach_the_index(host: BareHost) -> None:
    """Give the user this machine's settings for its package index: the environment, and the files that it names."""
    settings = {name: os.environ[name] for name in INDEX if name in os.environ}
    root = host.home.parent.parent
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    for value in settings.values():
        if os.path.isfile(value):
            copy = root / value.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(value, copy)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    (host.home / ".bash_profile").write_text("".join(lines))
