"""The git server is unreachable, slow, cut off or wrong, a commit is missing, or full of pitfalls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from faults.support.host import Host
from faults.support.ledger import Ledger
from faults.support.proxy import Proxy
from support.git_server import git_daemon
from support.repository import GitRepository

pytestmark = pytest.mark.storm
Hosts = Callable[..., Host]
LARGE = 300_000
"""Bytes of a file that make a pack large enough to be cut in the middle."""


class Server:
    """A git daemon behind a proxy, and a host that reaches it only through that."""

    def __init__(self, way: Proxy, host: Host) -> None:
        self.way = way
        self.host = host
        self.url = f"git://127.0.0.1:{way.port}/{host.origin.path.name}"
        host.start()
        self.settle()

    def publish(self, commit_id: str | None = None) -> int:
        """Publish a commit, to be fetched from the server."""
        return self.host.publish(commit_id, url=self.url)

    def settle(self, commit_id: str | None = None) -> None:
        """Publish a commit, and check that the host converges."""
        commit_id = commit_id or self.host.origin.head
        self.host.settle(commit_id, self.publish(commit_id))

    def commit_large(self) -> str:
        """Commit a file that does not pack well."""
        (self.host.origin.path / "large").write_bytes(os.urandom(LARGE))
        return self.host.origin.commit({})


@pytest.fixture
def server(host: Hosts, repository: GitRepository) -> Iterator[Server]:
    """The server, with the first commit of its repository live on the host."""
    with ExitStack() as stack:
        daemon = stack.enter_context(git_daemon(repository))
        way = stack.enter_context(closing(Proxy(int(daemon.split(":")[2].split("/")[0]))))
        yield Server(way, host(allowed_schemes=["git"], fetch_timeout=2, session_timeout=30))


def flip(data: bytes) -> bytes:
    """The same bytes with one bit flipped in the middle, if there are enough to be a piece of a pack."""
    middle = len(data) // 2
    return data if len(data) < 4096 else data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def misbehave(way: Proxy, trouble: str) -> None:
    """Begin a trouble."""
    if trouble == "away":
        way.refuse()
    elif trouble == "swallowing":
        way.swallow()
    elif trouble == "too slow":
        way.delay = 1.5
    elif trouble == "cut in the middle of a pack":
        way.budget = LARGE // 2
    elif trouble == "flipping bits in a pack":
        way.edit_answer = flip


@pytest.mark.parametrize(
    "trouble", ["away", "swallowing", "too slow", "cut in the middle of a pack", "flipping bits in a pack"]
)
def test_a_git_server_in_trouble_is_tried_again_and_the_host_converges_by_itself_afterwards(
    server: Server, ledger: Ledger, trouble: str
) -> None:
    before, later = server.host.origin.head, server.commit_large()
    ledger.inject(f"git server: {trouble}")
    misbehave(server.way, trouble)
    generation = server.publish()
    status = server.host.says("tried again in")
    assert (status["state"], status["generation"]) == ("fetching", generation)
    server.host.check_live(before)
    server.host.check_registered()
    server.way.behave()
    server.host.settle(later, generation)


def test_a_git_server_that_answers_with_another_commit_is_not_believed(server: Server, ledger: Ledger) -> None:
    before = server.host.origin.head
    wrong = server.host.origin.commit({"index.html": "wrong\n"})
    wanted = server.host.origin.commit({"index.html": "wanted\n"})
    ledger.inject("git server: the pack of another commit")
    server.way.edit_request = lambda data: data.replace(b"want " + wanted.encode(), b"want " + wrong.encode())
    generation = server.publish(wanted)
    server.host.says("tried again in")
    server.host.check_live(before)
    server.way.behave()
    server.host.settle(wanted, generation)


def test_a_git_server_whose_objects_are_broken_is_tried_again_until_they_are_mended(
    server: Server, ledger: Ledger
) -> None:
    origin = server.host.origin
    before, later = origin.head, origin.commit({"index.html": "two\n"})
    blob = origin.git("rev-parse", f"{later}:index.html")
    path = origin.path / ".git/objects" / blob[:2] / blob[2:]
    good = path.read_bytes()
    path.chmod(0o644)
    ledger.inject("git server: a corrupt object")
    path.write_bytes(good[: len(good) // 2] + b"broken")
    generation = server.publish(later)
    server.host.says("tried again in")
    server.host.check_live(before)
    path.write_bytes(good)
    server.host.settle(later, generation)


def test_a_commit_that_a_forced_push_removed_is_waited_for_and_a_newer_one_is_deployed(
    server: Server, ledger: Ledger
) -> None:
    origin = server.host.origin
    before, removed = origin.head, origin.commit({"index.html": "removed\n"})
    remove(origin, before)
    ledger.inject("a forced push that removes a published commit")
    server.publish(removed)
    assert "was it pushed" in server.host.says("tried again in")["message"]
    server.host.check_live(before)
    origin.commit({"index.html": "instead\n"})
    server.settle()


def test_a_live_commit_that_a_forced_push_removed_stays_and_can_be_rolled_back_to(
    server: Server, ledger: Ledger
) -> None:
    origin = server.host.origin
    before, removed = origin.head, origin.commit({"index.html": "removed\n"})
    server.settle(removed)
    ledger.inject("a forced push that removes the live commit")
    remove(origin, before)
    server.host.agent.end()
    server.host.start()
    server.host.settle(removed, server.publish(removed))
    instead = origin.commit({"index.html": "instead\n"})
    server.settle(instead)
    server.settle(removed)


def test_a_release_for_another_place_that_cannot_be_fetched_leaves_the_host_registered(
    server: Server, ledger: Ledger
) -> None:
    registration = server.host.check_registered()
    ledger.inject("a release for another place, of a commit that nobody has")
    server.host.publish("0" * 40, url=server.url, relativePath="elsewhere")
    server.host.says("was it pushed")
    server.host.check_live(server.host.origin.head)
    server.host.check_same(registration)


def remove(origin: GitRepository, back_to: str) -> None:
    """Reset the branch, and make the server forget the later commits."""
    origin.git("reset", "--hard", "-q", back_to)
    origin.git("reflog", "expire", "--expire=now", "--all")
    origin.git("gc", "-q", "--prune=now")


def test_a_rollback_needs_no_git_server(server: Server, ledger: Ledger) -> None:
    before = server.host.origin.head
    server.host.origin.commit({"index.html": "two\n"})
    server.settle()
    ledger.inject("git server: away while a host is to go back")
    server.way.refuse()
    server.settle(before)


def test_an_object_store_that_is_broken_on_the_host_is_recreated(server: Server, ledger: Ledger) -> None:
    packs = server.host.agent.base / ".zoo/repository.git/objects/pack"
    for number, break_it in enumerate((os.unlink, truncate)):
        ledger.inject("a broken object store on the host")
        for pack in packs.glob("*.pack"):
            pack.chmod(0o644)
            break_it(pack)
        server.host.origin.commit({"index.html": f"after {number}\n"})
        server.settle()


def truncate(path: Path) -> None:
    """Cut a file off, as a crash of the machine could."""
    os.truncate(path, 40)


def fill(origin: GitRepository) -> None:
    """Fill the work tree with everything that a deployment could stumble over."""
    path = origin.path
    (path / "out").symlink_to("../../../../../../../../etc/passwd")
    (path / "absolute").symlink_to("/etc")
    (path / "nowhere").symlink_to("no/such/place")
    (path / "itself").symlink_to("itself")
    (path / ("n" * 255)).write_text("long\n")
    (path / ("é" * 127) / ("d" * 255)).mkdir(parents=True)
    (path / ("é" * 127) / ("d" * 255) / "file").write_text("deep\n")
    (path / "new\nline \t'quoted' \"name\"").write_text("odd\n")
    (path / "-dash").write_text("option?\n")
    os.close(os.open(os.fsencode(path) + b"/not-utf8-\xff", os.O_CREAT | os.O_WRONLY))
    (path / ".gitattributes").write_text(
        "* text=auto eol=crlf ident filter=evil\n*.utf16 working-tree-encoding=UTF-16\n*.ex export-ignore\n"
        "[attr]evil filter=evil diff=evil merge=evil\n*.html evil crlf\n"
    )
    (path / "ident.txt").write_bytes(b"$Id$ $Id: somebody $\nunix\ndos\r\n")
    (path / "a.utf16").write_text("eight bits\n")
    (path / "kept.ex").write_text("kept\n")
    program = path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def commit_all(origin: GitRepository, submodule: str) -> str:
    """Commit the work tree as it is, byte for byte, with a submodule."""
    settings = ["-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null"]
    (origin.path / ".git/info").mkdir(exist_ok=True)
    (origin.path / ".git/info/attributes").write_text("* -text -eol -ident -filter -working-tree-encoding\n")
    (origin.path / ".gitmodules").write_text(
        f'[submodule "library"]\n\tpath = library\n\turl = {origin.url}\n'
        '[submodule "deep"]\n\tpath = a/deep\n\turl = ../x\n'
    )
    origin.git(*settings, "add", "-A")
    for place in ("library", "a/deep"):
        origin.git("update-index", "--add", "--cacheinfo", f"160000,{submodule},{place}")
    origin.git("commit", "-q", "-m", "odd")
    return origin.head


def test_a_commit_of_odd_things_is_deployed_byte_for_byte_and_runs_nothing(
    host: Hosts, repository: GitRepository, ledger: Ledger, tmp_path: Path
) -> None:
    one = host(allowed_schemes=["file"], allow_outside_symlinks=True).start()
    one.settle()
    evil = tmp_path / "evil-ran"
    repository.git("config", "filter.evil.smudge", f"touch {evil}; cat")
    submodule = repository.head
    fill(repository)
    odd = commit_all(repository, submodule)
    ledger.inject("a commit with symlinks out of its tree, names of 255 bytes, submodules, attributes that filter")
    one.settle(odd)
    # The work tree has no directory for a submodule, and git would treat its absence as a removal.
    (repository.path / "index.html").write_text("after\n")
    repository.git("commit", "-q", "-m", "one file", "--", "index.html")
    ledger.inject("the same by difference from the release before")
    one.settle(repository.head)
    assert not evil.exists()


def test_files_that_become_directories_and_symlinks_and_back_are_followed_byte_for_byte(
    host: Hosts, repository: GitRepository, ledger: Ledger
) -> None:
    one = host().start()
    files: dict[str, str | None] = {f"same/{number}": f"{number}\n" for number in range(8)}
    repository.commit({**files, "thing": "file\n", "swap/x": "x\n"})
    one.settle()
    ledger.inject("a commit that makes a directory of a file, a symlink of a directory")
    repository.git("rm", "-q", "thing", "swap/x")
    (repository.path / "swap").symlink_to("same")
    repository.commit({"thing/inner": "directory\n"})
    one.settle()
    ledger.inject("a commit that makes a file of a directory, a directory of a symlink")
    repository.git("rm", "-q", "thing/inner", "swap")
    repository.commit({"thing": "file again\n", "swap/0": "new\n"})
    (repository.path / "same/0").chmod(0o755)
    repository.commit({})
    one.settle()


def test_a_release_larger_than_the_host_allows_is_refused_by_name(
    host: Hosts, repository: GitRepository, ledger: Ledger
) -> None:
    one = host(max_release_bytes=100_000).start()
    one.settle()
    before = repository.head
    (repository.path / "large").write_bytes(os.urandom(LARGE))
    repository.commit({})
    ledger.inject("a release larger than the host allows")
    status = one.outcome(one.publish())
    assert (status["state"], status["commitId"]) == ("failed", before)
    assert "max_release_bytes" in status["message"]
    one.check_live(before)
    repository.commit({"large": None})
    one.settle()
