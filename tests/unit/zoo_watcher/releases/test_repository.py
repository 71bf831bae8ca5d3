"""The object store of a host: it fetches exactly the commit, from any server, and runs nothing of it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from support.git_server import git_daemon, install_old_ssh
from support.immutable import immutable
from support.ports import free_ports
from support.repository import GitRepository
from support.signer import Signer
from zoo_watcher.errors import DeployError, KilledError, PassingError
from zoo_watcher.host.filesystem import remove_tree
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.repository import Access, CorruptError, Repository
from zoo_watcher.releases.room import CutOff, Floor, NoRoomError
from zoo_watcher.wire.records import Release

ABSENT = "0123456789" * 4


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty base."""
    made = Layout(tmp_path / "base")
    made.make()
    return made


@pytest.fixture
def store(layout: Layout) -> Repository:
    """An object store that may fetch by file, git, ssh and http."""
    made = Repository(layout, Access(("file", "git", "ssh", "http")))
    made.open()
    return made


def release(url: str, commit_id: str) -> Release:
    """A release to be put at `site`."""
    return Release(url=url, commit_id=commit_id, relative_path="site")


def deploy(store: Repository, url: str, commit_id: str) -> Path:
    """Fetch and check out a commit; returns the directory with its files."""
    store.fetch(release(url, commit_id))
    assert store.has(commit_id)
    tree = store.layout.staging / commit_id
    tree.mkdir()
    store.check_out(commit_id, tree, None)
    return tree


def commits(store: Repository) -> int:
    """The number of commits in the object store."""
    listed = store.git.text("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    return str(listed).split().count("commit")


def history(repository: GitRepository, count: int = 5) -> list[str]:
    """Commits on `main`, the oldest first; each has its number in `index.html`."""
    return [repository.commit({"index.html": f"{number}\n"}) for number in range(count)]


def test_exactly_the_commit_is_fetched_and_none_of_its_history(store: Repository, repository: GitRepository) -> None:
    made = history(repository)
    tree = deploy(store, repository.url, made[2])
    assert (tree / "index.html").read_text() == "2\n"
    assert commits(store) == 1
    assert not store.has(made[4])


def test_further_commits_are_fetched_beside_it(store: Repository, repository: GitRepository) -> None:
    made = history(repository)
    for number in (1, 3, 0):
        assert (deploy(store, repository.url, made[number]) / "index.html").read_text() == f"{number}\n"
    assert commits(store) == 3


def test_a_release_is_the_entire_tree_with_modes_and_links_and_without_git(
    store: Repository, repository: GitRepository
) -> None:
    (repository.path / "run").write_text("#!/bin/sh\n")
    (repository.path / "run").chmod(0o755)
    (repository.path / "link").symlink_to("index.html")
    commit_id = repository.commit({"a/b/größe ü.txt": "deep\n"})
    tree = deploy(store, repository.url, commit_id)
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if not path.is_dir()) == [
        *("a/b/größe ü.txt", "index.html", "link", "run"),
    ]
    assert os.readlink(tree / "link") == "index.html"
    assert os.access(tree / "run", os.X_OK)


def test_a_commit_that_nobody_has_pushed_is_tried_again_later(store: Repository, repository: GitRepository) -> None:
    with pytest.raises(PassingError, match=f"{repository.url} has no commit {ABSENT}; was it pushed") as refused:
        store.fetch(release(repository.url, ABSENT))
    assert refused.value.reason == "commit"
    assert not store.has(ABSENT)


@pytest.mark.parametrize("kind", ["tree", "blob", "tag"])
def test_the_id_of_anything_but_a_commit_is_refused(store: Repository, repository: GitRepository, kind: str) -> None:
    repository.git("tag", "-a", "-m", "annotated", "v1")
    object_id = repository.git("rev-parse", {"tree": "HEAD^{tree}", "blob": "HEAD:index.html", "tag": "v1"}[kind])
    with pytest.raises(DeployError, match=object_id):
        store.fetch(release(repository.url, object_id))
    assert not store.has(object_id)


def test_a_missing_repository_is_named_in_one_line(store: Repository, tmp_path: Path) -> None:
    with pytest.raises(PassingError, match=f"fetching from file://{tmp_path}/none: ") as refused:
        store.fetch(release(f"file://{tmp_path}/none", ABSENT))
    assert "\n" not in str(refused.value)
    assert refused.value.reason == "fetch"


def test_a_git_daemon_that_is_down_is_tried_again_and_serves_when_it_is_up(
    store: Repository, repository: GitRepository
) -> None:
    made = history(repository)
    (port,) = free_ports(1)
    with pytest.raises(PassingError, match="Connection refused"):
        store.fetch(release(f"git://127.0.0.1:{port}/origin", made[1]))
    with git_daemon(repository, port) as url:
        assert (deploy(store, url, made[1]) / "index.html").read_text() == "1\n"
        with pytest.raises(PassingError, match="has no commit"):
            store.fetch(release(url, ABSENT))
    assert commits(store) == 1


def test_a_server_that_does_not_serve_a_single_commit_is_asked_for_its_branches(
    layout: Layout, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_old_ssh(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    repository.git("config", "uploadpack.allowAnySHA1InWant", "false")
    made = history(repository)
    store = Repository(layout, Access(("ssh",)))
    store.open()
    url = f"ssh://old.example.org{repository.path}"
    assert (deploy(store, url, made[2]) / "index.html").read_text() == "2\n"
    assert commits(store) > 1
    with pytest.raises(PassingError, match="has no commit"):
        store.fetch(release(url, ABSENT))
    later = repository.commit({"index.html": "later\n"})
    repository.commit({"index.html": "latest\n"})
    assert (deploy(store, url, later) / "index.html").read_text() == "later\n"


def test_a_web_server_that_only_serves_files_will_do(store: Repository, repository: GitRepository) -> None:
    made = history(repository)
    repository.git("update-server-info")
    with web_server(repository.path / ".git") as url:
        assert (deploy(store, url, made[1]) / "index.html").read_text() == "1\n"
        with pytest.raises(PassingError, match="has no commit"):
            store.fetch(release(url, ABSENT))


def test_a_server_with_empty_responses_may_not_be_a_git_server(store: Repository, tmp_path: Path) -> None:
    """For example a proxy that swallows everything."""
    (tmp_path / "web" / "info").mkdir(parents=True)
    for name in ("HEAD", "info/refs"):
        (tmp_path / "web" / name).touch()
    with web_server(tmp_path / "web") as url, pytest.raises(PassingError, match="is a git repository there") as told:
        store.fetch(release(url, ABSENT))
    assert told.value.reason == "commit"


def test_a_branch_that_has_become_a_directory_of_branches_does_not_prevent_a_fetch(
    store: Repository, repository: GitRepository
) -> None:
    repository.git("branch", "feature")
    repository.git("update-server-info")
    with web_server(repository.path / ".git") as url:
        deploy(store, url, repository.head)
        repository.git("branch", "-D", "feature")
        repository.git("branch", "feature/login")
        later = repository.commit({"index.html": "two\n"})
        repository.git("update-server-info")
        assert (deploy(store, url, later) / "index.html").read_text() == "two\n"


@contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """The address of a web server with the files of a directory."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory))) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    """A web server for files that writes nothing to the terminal."""

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


def test_a_protocol_that_the_host_does_not_allow_is_not_used(layout: Layout, repository: GitRepository) -> None:
    store = Repository(layout, Access(("https",)))
    store.open()
    with pytest.raises(PassingError, match="'file' not allowed"):
        store.fetch(release(repository.url, repository.head))
    assert commits(store) == 0


def test_settings_and_hooks_of_the_agents_user_do_nothing(
    layout: Layout, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change", "post-merge"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {proof}\n")
        (hooks / name).chmod(0o755)
    settings = (
        f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = {hooks}/post-merge\n"
        f'[filter "evil"]\n\tsmudge = {hooks}/post-merge\n'
        f'[url "ext::sh -c touch% {proof}"]\n\tinsteadOf = {repository.url}\n'
    )
    (tmp_path / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Repository(layout, Access(("file",)))
    store.open()
    shutil.copytree(hooks, layout.repository / "hooks")
    commit_id = repository.commit({".gitattributes": "* filter=evil\n"})
    assert (deploy(store, repository.url, commit_id) / "index.html").read_text() == "one\n"
    assert not proof.exists()


def test_hooks_of_the_repository_that_is_fetched_from_do_nothing(store: Repository, repository: GitRepository) -> None:
    proof = repository.path.with_name("ran")
    for name in ("post-checkout", "pre-receive", "reference-transaction"):
        hook = repository.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
        hook.chmod(0o755)
    repository.git("config", "uploadpack.packObjectsHook", f"touch {proof}")
    deploy(store, repository.url, repository.head)
    assert not proof.exists()


def test_a_tree_that_would_write_into_git_is_refused(store: Repository, repository: GitRepository) -> None:
    inner = repository.git("rev-parse", "HEAD^{tree}")
    listed = f"040000 tree {inner}\t.git\n"
    evil = subprocess.run(
        ["git", "mktree"], cwd=repository.path, input=listed, check=True, capture_output=True, text=True
    ).stdout.strip()
    commit_id = repository.git("commit-tree", evil, "-m", "evil")
    with pytest.raises(DeployError, match=f"git refuses what {repository.url} has: object {evil}: .*'.git'") as refused:
        deploy(store, repository.url, commit_id)
    assert not isinstance(refused.value, PassingError), "it is not fetched for ever"
    deploy(store, repository.url, repository.head)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user_on_this_host_is_fetched_from(
    store: Repository, repository: GitRepository
) -> None:
    for place in (repository.path, *repository.path.rglob("*")):
        os.chown(place, 65534, 65534, follow_symlinks=False)
    store.fetch(release(repository.url, store.git.text("ls-remote", repository.url, "HEAD").split()[0]))


def test_leftovers_of_a_killed_git_are_removed(layout: Layout, store: Repository, repository: GitRepository) -> None:
    deploy(store, repository.url, repository.head)
    later = repository.commit({"index.html": "two\n"})
    (layout.repository / "packed-refs.lock").touch()
    (layout.repository / "shallow.lock").touch()
    (layout.repository / f"refs/zoo/releases/{later}.lock").touch()
    packs = layout.repository / "objects" / "pack"
    # The second and third are of a repack: complete, but not in their place yet.
    begun = [packs / "tmp_pack_x", *(packs / f".tmp-4711-pack-{40 * 'a'}.{end}" for end in ("pack", "idx"))]
    for path in begun:
        path.write_text("half a pack")
    again = Repository(layout, Access(("file",)))
    again.open()
    assert (deploy(again, repository.url, later) / "index.html").read_text() == "two\n"
    assert not [path for path in begun if path.exists()]


def test_the_pack_of_a_fetch_that_was_killed_before_its_end_is_repacked_too(
    layout: Layout, store: Repository, repository: GitRepository
) -> None:
    deploy(store, repository.url, repository.head)
    deploy(store, repository.url, repository.commit({"index.html": "two\n"}))
    packs = layout.repository / "objects" / "pack"
    # Git marks a pack like this until the ref is made.
    (next(packs.glob("*.pack")).with_suffix(".keep")).write_text("fetch-pack 4711 on here\n")
    again = Repository(layout, Access(("file",)))
    again.open()
    again.tidy()
    assert len(list(packs.glob("*.pack"))) == 1


def test_an_incomplete_store_is_recreated(layout: Layout, repository: GitRepository) -> None:
    (layout.repository / "objects").mkdir(parents=True)
    store = Repository(layout, Access(("file",)))
    store.open()
    deploy(store, repository.url, repository.head)


FILES = ("HEAD", "config", "shallow", "packed-refs", "info/attributes", "cut-off.json", "HEAD.lock", "shallow.lock")
DIRECTORIES = ("objects", "objects/pack", "objects/info", "refs", "info")
"""The files and directories that are or may be in an object store."""


@pytest.mark.parametrize("name", [*FILES, *DIRECTORIES, "objects/pack/tmp_pack_x", "refs/zoo/releases"])
def test_a_store_with_a_directory_in_place_of_a_file_or_the_reverse_is_used_or_recreated(
    layout: Layout, store: Repository, repository: GitRepository, name: str
) -> None:
    first, second = history(repository, 2)
    deploy(store, repository.url, first)
    place = layout.repository / name
    was_directory = place.is_dir()
    remove_tree(place)
    if was_directory:
        place.write_text("in its place\n")
    else:
        (place / "in its place").mkdir(parents=True)
    again = Repository(layout, store.access)
    again.open()
    again.fit(second)
    try:
        deploy(again, repository.url, second)
    except CorruptError:
        again.discard(second)
        deploy(again, repository.url, second)


def test_a_commit_that_is_forgotten_can_be_fetched_again(store: Repository, repository: GitRepository) -> None:
    commit_id = repository.head
    deploy(store, repository.url, commit_id)
    store.keep_only([])
    assert not store.has(commit_id)
    store.fetch(release(repository.url, commit_id))
    assert store.has(commit_id)


def test_a_commit_that_was_fetched_and_refused_is_not_kept_permanently(
    store: Repository, repository: GitRepository
) -> None:
    refused, kept, latest = history(repository, 3)
    for commit_id in (refused, kept, latest):
        store.fetch(release(repository.url, commit_id))
    store.keep_only([kept, latest])
    assert [store.has(commit_id) for commit_id in (refused, kept, latest)] == [False, True, True]
    store.tidy()
    assert commits(store) == 2


def test_a_commit_of_a_few_objects_and_a_million_paths_is_refused_before_they_are_all_read(
    layout: Layout, repository: GitRepository
) -> None:
    store = Repository(layout, Access(("file",), most=5_000))
    store.open()
    commit_id = repository.nest(6, "abcdefghij")
    store.fetch(release(repository.url, commit_id))
    with pytest.raises(DeployError, match=rf"^{commit_id} has more than 5000 files \(max_release_files\)$"):
        store.files(commit_id)


def test_an_object_that_is_damaged_on_disk_is_noticed(store: Repository, repository: GitRepository) -> None:
    text = "".join(f"{number * number}\n" for number in range(20_000))
    before = repository.commit({"big": text})
    after = repository.commit({"big": text + "more\n"})
    store.fetch(release(repository.url, before))
    (pack,) = (store.layout.repository / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    pack.write_bytes(content)
    assert not store.is_broken(every_byte=False)
    with pytest.raises(CorruptError):
        store.fetch(release(repository.url, after))
    tree = store.layout.unused("tree")
    tree.mkdir()
    with pytest.raises(CorruptError):
        store.check_out(before, tree, None)
    store.discard(after)
    store.fetch(release(repository.url, after))
    store.check_out(after, tree, None)
    assert (tree / "big").read_text() == f"{text}more\n"


@pytest.mark.parametrize("name", ["objects/pack", "objects/of another user"])
@pytest.mark.parametrize("remade", ["discard", "renew"])
def test_a_store_that_cannot_be_removed_completely_is_recreated_beside_it(
    layout: Layout, store: Repository, repository: GitRepository, name: str, remade: str
) -> None:
    store.fetch(release(repository.url, repository.head))
    kept = layout.repository / name
    kept.mkdir(exist_ok=True)
    with immutable(kept):
        if remade == "discard":
            store.discard(repository.head)
        else:
            store.renew()
        store.fetch(release(repository.url, repository.head))
        (left,) = layout.in_staging()
    assert left.name.startswith("repository.")


@pytest.mark.parametrize(
    ("free", "releases", "untidy"),
    [(1.9, 2, True), (2.1, 2, False), (1.9, 3, False), (None, 2, False)],
    ids=["soon no room", "room", "nothing is gone", "no floor"],
)
def test_the_packs_of_releases_that_were_removed_are_repacked_while_there_is_room_for_it(
    layout: Layout,
    store: Repository,
    repository: GitRepository,
    monkeypatch: pytest.MonkeyPatch,
    free: float | None,
    releases: int,
    untidy: bool,
) -> None:
    for number, commit_id in enumerate(history(repository, 3)):
        store.fetch(release(repository.url, commit_id))
        if number < releases:
            layout.release(commit_id).mkdir()
    packed = sum(pack.stat().st_size for pack in layout.repository.glob("objects/pack/*.pack"))
    monkeypatch.setattr(Floor, "room", lambda _floor, _path: None if free is None else int(free * packed))
    assert store.untidy == untidy


@pytest.mark.parametrize("stays", [False, True])
def test_a_store_in_the_lower_layer_of_an_overlay_which_cannot_be_renamed_is_removed_in_place(
    layout: Layout, store: Repository, repository: GitRepository, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """For example one that came with the image of a container."""
    rename = os.replace

    def replace(first: Path, second: Path) -> None:
        if first == layout.repository:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(first), None, str(second))
        rename(first, second)

    store.fetch(release(repository.url, repository.head))
    monkeypatch.setattr(os, "replace", replace)
    if stays:
        monkeypatch.setattr("zoo_watcher.releases.repository.remove_tree", lambda _path: None)
        with pytest.raises(DeployError, match=r"removing the object store: .* Invalid cross-device link"):
            store.renew()
        assert store.has(repository.head)
    else:
        store.renew()
        assert not store.has(repository.head)
        store.fetch(release(repository.url, repository.head))
    assert layout.in_staging() == []


@pytest.mark.parametrize(
    ("levels", "name"), [(300, "d"), (20, "d" * 200), (20, "ü" * 100)], ids=["deep", "long", "long in bytes"]
)
def test_a_path_that_no_application_could_use_is_refused(
    store: Repository, repository: GitRepository, levels: int, name: str
) -> None:
    commit_id = repository.nest(levels, [name])
    store.fetch(release(repository.url, commit_id))
    with pytest.raises(DeployError, match=rf"has a path of more than 200 directories or 3000 bytes: {name[:2]}"):
        store.files(commit_id)


def test_a_lost_pack_is_noticed_and_an_error_of_the_server_is_not_mistaken_for_one(
    store: Repository, repository: GitRepository
) -> None:
    store.fetch(release(repository.url, repository.head))
    assert not store.is_broken()
    with pytest.raises(PassingError) as absent:
        store.fetch(release(repository.url, ABSENT))
    assert not isinstance(absent.value, CorruptError)
    for pack in (store.layout.repository / "objects" / "pack").iterdir():
        pack.unlink()
    assert store.is_broken()
    with pytest.raises(CorruptError, match=r"^git ls-tree: "):
        store.files(repository.head)
    store.discard(repository.head)
    store.fetch(release(repository.url, repository.head))
    assert store.files(repository.head)


def test_the_mirror_with_the_longest_beginning_comes_before_the_repository_itself() -> None:
    mirrors = (("https://git.example.org/", "https://a/"), ("https://git.example.org/web/", "https://b/"))
    access = Access(("https",), mirrors=mirrors)
    assert access.addresses("https://git.example.org/web/site.git") == [
        "https://b/site.git",
        "https://git.example.org/web/site.git",
    ]
    assert access.addresses("https://git.example.org/site.git")[0] == "https://a/site.git"
    assert access.addresses("https://other.example.org/x") == ["https://other.example.org/x"]


def test_a_mirror_is_fetched_from_and_one_that_lacks_the_commit_is_skipped(
    layout: Layout, repository: GitRepository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirrors"
    repository.git("clone", "-q", "--mirror", repository.url, str(mirror / "site.git"))
    url = "file:///no/such/place/site.git"
    store = Repository(layout, Access(("file",), mirrors=(("file:///no/such/place/", f"file://{mirror}/"),)))
    store.open()
    store.fetch(release(url, repository.head))
    assert store.has(repository.head)
    later = repository.commit({"index.html": "two\n"})
    behind = Repository(layout, Access(("file",), mirrors=((repository.url, f"file://{mirror}/site.git"),)))
    behind.open()
    behind.fetch(release(repository.url, later))
    assert behind.has(later)
    assert f"fetching from {repository.url} instead of its mirror" in capfd.readouterr().err


def git_that(monkeypatch: pytest.MonkeyPatch, directory: Path, name: str, script: str) -> None:
    """Have the git command `name` run a line of shell first, which may end the process."""
    program = directory / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nif [ "$1" = {name} ]; then {script}; fi\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_git_that_is_killed_after_the_fetch_says_nothing_about_the_commit(
    store: Repository, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = release(repository.url, repository.head)
    git_that(monkeypatch, tmp_path, "rev-parse", "kill -9 $$")
    with pytest.raises(KilledError):
        store.fetch(wanted)


@pytest.mark.parametrize("name", ["rev-parse", "fetch", "ls-tree", "diff-tree", "read-tree", "verify-commit", "repack"])
@pytest.mark.parametrize("is_there", [True, False], ids=["without a library", "gone"])
def test_a_git_that_cannot_be_run_now_says_nothing_about_a_release_or_the_object_store(
    layout: Layout,
    repository: GitRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    is_there: bool,
) -> None:
    """As while a package of the host is being upgraded."""
    (tmp_path / "signers").write_text("")
    store = Repository(layout, Access(("file",), signers=str(tmp_path / "signers")))
    store.open()
    wanted = release(repository.url, repository.head)
    store.fetch(wanted)
    tree = layout.staging / wanted.commit_id
    tree.mkdir()
    if is_there:
        script = "echo 'git: error while loading shared libraries: libz.so.1: cannot open' >&2; exit 127"
        git_that(monkeypatch, tmp_path, f"{name} -o $1 = fsck", script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    ask: dict[str, Callable[[], object]] = {
        "rev-parse": partial(store.has, wanted.commit_id),
        "fetch": partial(store.fetch, wanted),
        "ls-tree": partial(store.files, wanted.commit_id),
        "diff-tree": partial(store.changed, wanted.commit_id, wanted.commit_id),
        "read-tree": partial(store.check_out, wanted.commit_id, tree, None),
        "verify-commit": partial(store.verify, wanted.commit_id),
        "repack": store.tidy,
    }
    with pytest.raises(PassingError, match=r"git can't be run: .+; is it being upgraded\?") as told:
        ask[name]()
    assert told.value.reason == "process"
    assert not store.is_broken()


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("error: unable to write file big.txt", True),
        ("fatal: sha1 file a.lock write error. Out of diskspace", True),
        ("error: unable to create file a: No space left on device", True),
        ("error: unable to create file a: Read-only file system", True),
        ("error: unable to create file a: Input/output error", True),
        ("fatal: cannot fork: Resource temporarily unavailable", True),
        ("error: unable to create file a: File name too long", False),
    ],
)
def test_a_checkout_that_fails_because_of_the_disk_is_tried_again(
    store: Repository,
    repository: GitRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    passes: bool,
) -> None:
    store.fetch(release(repository.url, repository.head))
    git_that(monkeypatch, tmp_path, "read-tree", f"echo '{said}' >&2; exit 128")
    with pytest.raises(DeployError, match=said) as raised:
        store.check_out(repository.head, store.layout.unused("tree"), None)
    assert isinstance(raised.value, PassingError) is passes
    assert not isinstance(raised.value, CorruptError)


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN]
)
def test_a_store_that_cannot_be_checked_now_does_not_count_as_broken(
    store: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    git_that(monkeypatch, tmp_path, "fsck", f"echo 'error: open: {os.strerror(number)}' >&2; exit 1")
    assert not store.is_broken()


def test_a_commit_of_a_few_objects_and_a_million_directories_is_refused_before_they_are_all_read(
    layout: Layout, repository: GitRepository
) -> None:
    store = Repository(layout, Access(("file",), most=5_000))
    store.open()
    commit_id = repository.nest(7, "abcdefgh", file=False)
    store.fetch(release(repository.url, commit_id))
    with pytest.raises(DeployError, match=r"has more than 5000 directories \(max_release_files\)"):
        store.files(commit_id)


def test_a_token_of_a_mirror_is_not_in_the_log(
    layout: Layout, repository: GitRepository, capfd: pytest.CaptureFixture[str]
) -> None:
    mirrors = ((repository.url, f"http://s3cret@127.0.0.1:{free_ports(1)[0]}/a"),)
    store = Repository(layout, Access(("file", "http"), mirrors=mirrors))
    store.open()
    store.fetch(release(repository.url, repository.head))
    said = capfd.readouterr().err
    assert "instead of its mirror: fetching from http://127.0.0.1" in said
    assert "s3cret" not in said


def test_a_git_that_is_killed_while_it_verifies_says_nothing_about_the_signature(
    layout: Layout, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signers").touch()
    store = Repository(layout, Access(("file",), signers=str(tmp_path / "signers")))
    store.open()
    store.fetch(release(repository.url, repository.head))
    git_that(monkeypatch, tmp_path, "verify-commit", "kill -9 $$")
    with pytest.raises(KilledError):
        store.verify(repository.head)


def test_packs_stay_as_they_are_where_there_is_no_room_for_all_of_them_twice(
    layout: Layout, repository: GitRepository
) -> None:
    store = Repository(layout, Access(("file",)), Floor(2**62))
    store.open()
    with pytest.raises(NoRoomError, match="min_free_bytes"):
        store.tidy()
    store.floor = Floor(0, 0)
    store.fetch(release(repository.url, repository.head))
    store.tidy()
    assert store.has(repository.head)


def test_what_a_failed_repack_has_written_is_removed_immediately(
    store: Repository, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.fetch(release(repository.url, repository.head))
    begun = store.layout.repository / "objects" / "pack" / "tmp_pack_x"
    git_that(monkeypatch, tmp_path, "repack", f"echo half > {begun}; echo 'fatal: write error' >&2; exit 128")
    with pytest.raises(DeployError, match="git repack: fatal: write error"):
        store.tidy()
    assert not begun.exists()


@pytest.fixture
def demanding(layout: Layout, tmp_path: Path) -> Repository:
    """An object store of a host that demands signatures."""
    (tmp_path / "signers").touch()
    made = Repository(layout, Access(("file",), signers=str(tmp_path / "signers")))
    made.open()
    return made


def test_a_commit_that_the_store_lacks_is_not_reported_as_unsigned(demanding: Repository) -> None:
    lacking = f"^the signature of {ABSENT} can't be verified: the object store of this host does not have the commit$"
    with pytest.raises(DeployError, match=lacking) as raised:
        demanding.verify(ABSENT)
    assert not isinstance(raised.value, PassingError)


def test_a_commit_that_is_broken_in_the_store_is_not_reported_as_unsigned(
    demanding: Repository, repository: GitRepository
) -> None:
    demanding.fetch(release(repository.url, repository.head))
    for pack in (demanding.layout.repository / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:-40] + bytes(40))
    with pytest.raises(CorruptError):
        demanding.verify(repository.head)


def test_a_host_that_lacks_something_to_verify_a_signature_says_nothing_about_it(
    demanding: Repository, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demanding.fetch(release(repository.url, repository.head))
    git_that(monkeypatch, tmp_path, "verify-commit", "echo 'error: open: Too many open files' >&2; exit 1")
    with pytest.raises(PassingError, match="git verify-commit: error: open: Too many open files"):
        demanding.verify(repository.head)


@pytest.mark.parametrize(
    ("script", "reason", "said"),
    [
        (None, "process", r"cannot run ssh-keygen: .+; is it being upgraded\?"),
        ("echo 'error while loading shared libraries: libz.so.1' >&2; exit 127", "process", "libz.so.1; is it being"),
        ("kill -9 $$", "killed", "was killed, or lacked memory"),
    ],
    ids=["gone", "without a library", "killed"],
)
def test_a_verifier_that_cannot_be_run_now_says_nothing_about_the_signature(
    layout: Layout,
    repository: GitRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    reason: str,
    said: str,
) -> None:
    ann = Signer(tmp_path, "ann")
    (tmp_path / "signers").write_text(ann.line)
    store = Repository(layout, Access(("file",), signers=str(tmp_path / "signers")))
    store.open()
    commit_id = ann.commit(repository, "two\n")
    store.fetch(release(repository.url, commit_id))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git") or "git")
    if script is not None:
        (programs / "ssh-keygen").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "ssh-keygen").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(programs))
        with pytest.raises(PassingError, match=said) as told:
            store.verify(commit_id)
    assert told.value.reason == reason
    store.verify(commit_id)


def fetches(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Callable[[], int]:
    """A function that returns how often git has been told to fetch from now on."""
    git_that(monkeypatch, directory, "fetch", f"echo fetch >> {directory}/fetches")
    told = directory / "fetches"
    return lambda: len(told.read_text().splitlines()) if told.exists() else 0


def test_a_release_without_room_leaves_nothing_and_is_fetched_again_only_where_there_is_more(
    layout: Layout, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_id = repository.commit({"large": random.Random(1).randbytes(400_000).hex()})
    room = [100_000]
    monkeypatch.setattr(Floor, "room", lambda _floor, _path: room[0])
    count = fetches(monkeypatch, tmp_path)

    def fetch(commit_id: str) -> None:
        store = Repository(layout, Access(("file",)))
        store.open()
        store.fetch(release(repository.url, commit_id))

    for room[0] in (100_000, 100_000, 105_000):
        with pytest.raises(
            NoRoomError, match=f"more than {room[0]} bytes, all there is above min_free_bytes: make room"
        ):
            fetch(commit_id)
        assert not list((layout.repository / "objects" / "pack").glob("*tmp_*"))
    assert count() == 1
    other = repository.commit({"large": "small"})
    fetch(other)
    assert count() == 2, "of another release nothing is known"
    room[0] = 150_000
    with pytest.raises(NoRoomError):
        fetch(commit_id)
    assert count() == 3
    room[0] = 2**30
    fetch(commit_id)
    assert count() == 4


def test_a_release_that_was_cut_off_shortly_before_the_limit_is_fetched_once_there_is_room_up_to_it(
    layout: Layout, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Repository(layout, Access(("file",), largest=1_000_000))
    store.open()
    CutOff(repository.head, 990_000, time.time()).save(layout.repository / "cut-off.json")
    monkeypatch.setattr(Floor, "room", lambda _floor, _path: 1_000_000)
    store.fetch(release(repository.url, repository.head))
    assert store.has(repository.head)
