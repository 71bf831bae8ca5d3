"""A release made from the previous one: by hard links, by reflinks, or by a full checkout where neither is safe."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.repository import GitRepository
from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.linux import reflink
from zoo_watcher.releases.release_directory import is_deployable, is_unmodified
from zoo_watcher.releases.repository import Access, Repository
from zoo_watcher.releases.staging import Making, hard_link, make_release
from zoo_watcher.wire.records import Release


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty base."""
    made = Layout(tmp_path / "base")
    made.make()
    return made


@pytest.fixture
def two(repository: GitRepository) -> tuple[str, str]:
    """Two commits that differ in one of four files, and remove another."""
    first = repository.commit({"a": "a\n", "b/c": "c\n", "d": "one\n", "e": "e\n", "index.html": None})
    return first, repository.commit({"d": "two\n", "e": None, "f": "new\n"})


def make(
    layout: Layout,
    url: str,
    commit_id: str,
    earlier: tuple[str, ...] = (),
    *,
    hard_links: bool = True,
    shared_paths: tuple[str, ...] = (),
    outside_symlinks: bool = False,
) -> Path:
    """Fetch a commit and make its release directory."""
    store = Repository(layout, Access(("file",)))
    store.open()
    store.fit(commit_id)
    store.fetch(Release(url=url, commit_id=commit_id, relative_path="site"))
    make_release(Making(layout, commit_id, shared_paths, hard_links, None, earlier, outside_symlinks), store)
    assert is_deployable(layout, commit_id, shared_paths)
    return layout.release(commit_id)


def texts(tree: Path) -> dict[str, str]:
    """Every file's content by its path."""
    return {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()}


SECOND = {"a": "a\n", "b/c": "c\n", "d": "two\n", "f": "new\n"}


def test_files_that_two_commits_share_have_the_same_inode_and_cannot_be_written_by_mistake(
    layout: Layout, repository: GitRepository, two: tuple[str, str]
) -> None:
    before = make(layout, repository.url, two[0])
    after = make(layout, repository.url, two[1], (two[0],))
    assert texts(after) == SECOND
    assert os.stat(before / "a").st_ino == os.stat(after / "a").st_ino
    assert os.stat(before / "d").st_ino != os.stat(after / "d").st_ino
    assert not any(os.stat(after / path).st_mode & 0o222 for path in SECOND)
    assert texts(before) == {"a": "a\n", "b/c": "c\n", "d": "one\n", "e": "e\n"}


def test_a_release_that_somebody_has_touched_is_not_linked_from(
    layout: Layout, repository: GitRepository, two: tuple[str, str]
) -> None:
    before = make(layout, repository.url, two[0])
    os.chmod(before / "a", 0o644)
    (before / "a").write_text("x\n")
    assert not is_deployable(layout, two[0], ())
    after = make(layout, repository.url, two[1], (two[0],))
    assert texts(after) == SECOND
    assert os.stat(before / "a").st_ino != os.stat(after / "a").st_ino


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK])
def test_a_commit_is_fully_checked_out_where_a_file_of_the_previous_release_cannot_be_linked(
    layout: Layout, repository: GitRepository, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """This is so where the files belong to the application's user, or one has reached its maximum of links."""

    def link(source: str, target: str) -> None:
        if source.endswith("/b/c"):
            raise OSError(number, os.strerror(number), source, None, target)
        hard_link(source, target)

    def no_reflink(*_paths: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("zoo_watcher.releases.staging.reflink", no_reflink)
    monkeypatch.setattr("zoo_watcher.releases.staging.hard_link", link)
    before = make(layout, repository.url, two[0])
    after = make(layout, repository.url, two[1], (two[0],))
    assert texts(after) == SECOND
    assert os.stat(before / "a").st_ino != os.stat(after / "a").st_ino
    assert layout.in_staging() == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_modified_release_is_replaced_where_the_file_system_cannot_exchange_two_directories(
    layout: Layout, repository: GitRepository, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Such file systems are NFS, and ZFS before 2.2."""

    def exchange(_first: Path, second: Path) -> None:
        raise OSError(number, os.strerror(number), str(second))

    monkeypatch.setattr("zoo_watcher.releases.staging.exchange", exchange)
    (make(layout, repository.url, two[1]) / "stranger").write_text("x\n")
    assert texts(make(layout, repository.url, two[1])) == SECOND
    assert layout.in_staging() == []


def test_a_release_that_cannot_be_replaced_stays_where_it_is(
    layout: Layout, repository: GitRepository, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be live, if it was verified against other signers."""

    def exchange(_first: Path, second: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(second))

    def replace(first: Path, second: Path) -> None:
        if second == release and failures:
            raise failures.pop()
        rename(first, second)

    failures = [OSError(errno.EIO, os.strerror(errno.EIO))]
    rename, release = os.replace, make(layout, repository.url, two[1])
    (release / "stranger").write_text("x\n")
    monkeypatch.setattr("zoo_watcher.releases.staging.exchange", exchange)
    monkeypatch.setattr("zoo_watcher.releases.staging.os.replace", replace)
    with pytest.raises(PassingError, match="Input/output error"):
        make(layout, repository.url, two[1])
    assert texts(release) == {**SECOND, "stranger": "x\n"}
    assert layout.in_staging() == []


@pytest.mark.parametrize("is_live", [False, True])
def test_a_release_in_the_lower_layer_of_an_overlay_is_replaced_unless_it_is_live(
    layout: Layout, repository: GitRepository, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, is_live: bool
) -> None:
    """A release that came with a container's image is one: its directory can be emptied and removed, not renamed."""

    def refuse(first: Path, second: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(first), None, str(second))

    def replace(first: Path, second: Path) -> None:
        (refuse if first == release else rename)(first, second)

    rename, release = os.replace, make(layout, repository.url, two[1])
    (release / "stranger").write_text("x\n")
    if is_live:
        (layout.base / "site").symlink_to(os.path.relpath(release, layout.base))
    monkeypatch.setattr("zoo_watcher.releases.staging.exchange", refuse)
    monkeypatch.setattr("zoo_watcher.releases.staging.os.replace", replace)
    if is_live:
        with pytest.raises(DeployError, match="Invalid cross-device link"):
            make(layout, repository.url, two[1])
        assert texts(release) == {**SECOND, "stranger": "x\n"}
    else:
        assert texts(make(layout, repository.url, two[1])) == SECOND
    assert layout.in_staging() == []


def test_a_release_that_nothing_can_be_renamed_to_is_not_removed(
    layout: Layout, repository: GitRepository, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is so where something was mounted over the staging directory after the release was made."""

    def refuse(first: Path, second: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(first), None, str(second))

    def replace(first: Path, second: Path) -> None:
        (refuse if release in (first, second) else rename)(first, second)

    rename, release = os.replace, make(layout, repository.url, two[1])
    (release / "stranger").write_text("x\n")
    monkeypatch.setattr("zoo_watcher.releases.staging.exchange", refuse)
    monkeypatch.setattr("zoo_watcher.releases.staging.os.replace", replace)
    with pytest.raises(DeployError, match="Invalid cross-device link"):
        make(layout, repository.url, two[1])
    assert texts(release) == {**SECOND, "stranger": "x\n"}
    assert layout.in_staging() == []


def test_a_release_with_an_extra_file_is_not_linked_from(
    layout: Layout, repository: GitRepository, two: tuple[str, str]
) -> None:
    before = make(layout, repository.url, two[0])
    (before / "stranger").write_text("x\n")
    after = make(layout, repository.url, two[1], (two[0],))
    assert texts(after) == SECOND
    assert os.stat(before / "a").st_ino != os.stat(after / "a").st_ino


def test_without_hard_links_every_file_is_a_new_one_that_can_be_written(
    layout: Layout, repository: GitRepository, two: tuple[str, str]
) -> None:
    before = make(layout, repository.url, two[0], hard_links=False)
    after = make(layout, repository.url, two[1], (two[0],), hard_links=False)
    assert texts(after) == SECOND
    assert os.stat(before / "a").st_ino != os.stat(after / "a").st_ino
    assert os.stat(after / "a").st_mode & 0o200


def test_a_release_that_was_made_without_hard_links_is_not_modified_once_they_are_allowed(
    layout: Layout, repository: GitRepository, two: tuple[str, str]
) -> None:
    before = make(layout, repository.url, two[0], hard_links=False)
    after = make(layout, repository.url, two[1], (two[0],))
    assert is_deployable(layout, two[0], ())
    assert is_unmodified(layout, two[0], ())
    assert os.access(before / "a", os.W_OK)
    assert (after / "a").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("of_a_parent", [False, True])
def test_a_symlink_above_a_shared_path_is_refused_and_nothing_behind_it_is_read_or_removed(
    layout: Layout, repository: GitRepository, tmp_path: Path, of_a_parent: bool
) -> None:
    outside = tmp_path / "outside"
    (outside / "var" / "data" / "uploads").mkdir(parents=True)
    (outside / "var" / "data" / "uploads" / "file").write_text("years of work\n")
    link, target = ("var", outside / "var") if of_a_parent else ("var/data", outside / "var" / "data")
    (repository.path / link).parent.mkdir(exist_ok=True)
    (repository.path / link).symlink_to(target)
    commit_id = repository.commit({"a/seed": "seed\n"})
    with pytest.raises(DeployError, match=f"^shared_paths: {link} is a symlink in this commit$"):
        make(layout, repository.url, commit_id, shared_paths=("a", "var/data/uploads"), outside_symlinks=True)
    assert texts(outside) == {"var/data/uploads/file": "years of work\n"}
    assert not layout.shared.exists()
    assert list(layout.staging.iterdir()) == []


def test_a_commit_with_a_symlink_to_a_shared_path_deletes_nothing_there(
    layout: Layout, repository: GitRepository
) -> None:
    make(layout, repository.url, repository.head, shared_paths=("data/uploads",))
    (layout.shared / "data" / "uploads" / "photo").write_text("years of work\n")
    (repository.path / "data").symlink_to("../../shared/data")
    with pytest.raises(DeployError, match="data is a symlink"):
        make(layout, repository.url, repository.commit({}), shared_paths=("data/uploads",), outside_symlinks=True)
    assert texts(layout.shared) == {"data/uploads/photo": "years of work\n"}


def test_a_file_above_a_shared_path_is_refused_by_name(layout: Layout, repository: GitRepository) -> None:
    with pytest.raises(DeployError, match=r"^shared_paths: index\.html is a file in this commit$"):
        make(layout, repository.url, repository.head, shared_paths=("index.html/cache",))


@pytest.mark.parametrize("path", ["data.yml", "database/b", "var/data"])
def test_what_is_only_named_like_a_shared_path_is_a_file_of_the_release(
    layout: Layout, repository: GitRepository, path: str
) -> None:
    """Such a file counts when the release is checked for being complete and unmodified."""
    commit_id = repository.commit({"data/seed": "seed\n", path: "own\n"})
    release = make(layout, repository.url, commit_id, shared_paths=("data",))
    assert (release / path).read_text() == "own\n"
    os.utime(release / path, (0, 0))
    assert not is_deployable(layout, commit_id, ("data",))


def test_the_first_contents_of_a_shared_path_are_durable_before_they_have_its_name(
    layout: Layout, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def sync(path: Path) -> None:
        new = layout.shared / ".data.new" / "seed"
        seen.append(path == layout.shared and new.exists() and not (layout.shared / "data").exists())

    monkeypatch.setattr("zoo_watcher.releases.staging.sync_file_system", sync)
    make(layout, repository.url, repository.commit({"data/seed": "seed\n"}), shared_paths=("data",))
    assert seen[0]
    assert texts(layout.shared) == {"data/seed": "seed\n"}


def test_a_repository_with_longer_ids_is_deployed_and_then_one_with_shorter_again(
    layout: Layout, repository: GitRepository, tmp_path: Path
) -> None:
    longer = GitRepository(tmp_path / "longer")
    longer.path.mkdir()
    longer.git("init", "-q", "-b", "main", "--object-format=sha256")
    longer.git("config", "uploadpack.allowAnySHA1InWant", "true")
    first, second = longer.commit({"a": "one\n", "b": "b\n"}), longer.commit({"a": "two\n"})
    assert len(first) == 64
    make(layout, repository.url, repository.head)
    make(layout, longer.url, first, (repository.head,))
    assert texts(make(layout, longer.url, second, (first,))) == {"a": "two\n", "b": "b\n"}
    shorter = repository.commit({"c": "c\n"})
    assert texts(make(layout, repository.url, shorter, (second,))) == {"index.html": "one\n", "c": "c\n"}
    assert sorted(layout.staged()) == sorted([first, second, shorter, repository.git("rev-parse", "HEAD~1")])


MODES = {
    **dict.fromkeys(("104755", "102755", "101755", "107777", "100777", "100755", "100711", "100100"), 0o755),
    **dict.fromkeys(("104644", "102644", "101666", "100666", "100664", "100600"), 0o644),
}
"""Modes that a tree may contain, though git itself writes only two, and the modes of the files that result."""


def tree_of(repository: GitRepository, entries: list[tuple[str, str, str]]) -> str:
    """Write a tree of modes, names and objects as given, even one that git would refuse, and return its ID."""
    data = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(found) for mode, name, found in entries)
    command = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    done = subprocess.run(command, cwd=repository.path, input=data, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("hard_links", [True, False])
def test_no_mode_in_a_commit_makes_a_file_setuid_or_writable_by_others(
    layout: Layout, repository: GitRepository, hard_links: bool
) -> None:
    blob = repository.git("hash-object", "-w", "index.html")
    files = [(mode, f"f{mode}", blob) for mode in sorted(MODES)]
    inner = tree_of(repository, files)
    names = {"40777": "open", "42755": "setgid", "41777": "sticky"}
    outer = tree_of(repository, [(mode, name, inner) for mode, name in names.items()])
    commit_id = repository.git("commit-tree", "-m", "modes", outer)
    tree = make(layout, repository.url, commit_id, hard_links=hard_links)
    writable = 0o555 if hard_links else 0o777
    for name in names.values():
        assert stat.S_IMODE((tree / name).stat().st_mode) == 0o755
        for mode, made in MODES.items():
            assert stat.S_IMODE((tree / name / f"f{mode}").stat().st_mode) == made & writable, mode


@pytest.mark.parametrize("mode", ["60000", "20666", "10644", "140755", "160777", "4755"])
def test_a_commits_entry_that_is_not_a_file_directory_or_symlink_becomes_an_empty_directory(
    layout: Layout, repository: GitRepository, mode: str
) -> None:
    blob = repository.git("hash-object", "-w", "index.html")
    commit_id = repository.git("commit-tree", "-m", "device", tree_of(repository, [(mode, "odd", blob)]))
    odd = make(layout, repository.url, commit_id) / "odd"
    assert stat.S_ISDIR(odd.lstat().st_mode)
    assert list(odd.iterdir()) == []


def test_a_mode_that_begins_with_a_zero_is_refused_by_git(layout: Layout, repository: GitRepository) -> None:
    blob = repository.git("hash-object", "-w", "index.html")
    commit_id = repository.git("commit-tree", "-m", "padded", tree_of(repository, [("0104755", "padded", blob)]))
    with pytest.raises(DeployError, match=r"git refuses what .* has: .* zeroPaddedFilemode"):
        make(layout, repository.url, commit_id)
    assert not layout.release(commit_id).exists()


@pytest.mark.parametrize("mode", ["120000", "120777", "127755"])
def test_a_symlink_that_leads_out_is_refused_whatever_its_mode(
    layout: Layout, repository: GitRepository, mode: str
) -> None:
    (repository.path / "target").write_text("/etc/passwd")
    blob = repository.git("hash-object", "-w", "target")
    commit_id = repository.git("commit-tree", "-m", "link", tree_of(repository, [(mode, "odd", blob)]))
    with pytest.raises(DeployError, match='has the symlink "odd" to "/etc/passwd", which leads out of the release'):
        make(layout, repository.url, commit_id)
    assert not layout.release(commit_id).exists()


@pytest.fixture
def reflinking(tmp_path: Path) -> Iterator[Layout]:
    """A base on a file system that has reflinks: XFS in a file."""
    image, place = tmp_path / "image", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(320_000_000)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True, capture_output=True)
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"can't mount here: {mounted.stderr.strip()}")
    try:
        made = Layout(place / "base")
        made.make()
        yield made
    finally:
        subprocess.run(["umount", str(place)], check=True)


def shared_blocks(path: Path) -> bool:
    """Whether a file shares its blocks with another, according to the file system."""
    output = subprocess.run(["filefrag", "-v", str(path)], check=True, capture_output=True, text=True).stdout
    return "shared" in output


def test_where_the_file_system_has_reflinks_a_file_is_its_own_and_shares_its_blocks(
    reflinking: Layout, repository: GitRepository
) -> None:
    large = "x" * 100_000
    first = repository.commit({"a": large, "b": "b\n", "c": "c\n"})
    second = repository.commit({"b": "two\n"})
    before = make(reflinking, repository.url, first, hard_links=False)
    after = make(reflinking, repository.url, second, (first,), hard_links=False)
    assert (after / "a").read_text() == large
    assert os.stat(before / "a").st_ino != os.stat(after / "a").st_ino
    assert shared_blocks(after / "a")
    (after / "a").write_text("written by the application\n")
    assert (before / "a").read_text() == large


def test_a_reflink_of_a_symlink_is_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("somewhere/else")
    reflink(str(tmp_path / "link"), str(tmp_path / "copy"))
    assert os.readlink(tmp_path / "copy") == "somewhere/else"
