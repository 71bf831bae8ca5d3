# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store of one host, and the only file that knows git. It runs only in the apply process."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zoo_watcher.errors import DeployError, KilledError, PassingError
from zoo_watcher.host.filesystem import (
    MAY_BE_REMOVED,
    disk_errors,
    read_regular,
    remove_tree,
    sync_directory,
    write_regular,
)
from zoo_watcher.host.layout import Layout
from zoo_watcher.logs import print_warning
from zoo_watcher.wire.git_errors import ABSENT, REFUSED, reason, says
from zoo_watcher.wire.records import Release, without_userinfo

from .git_command import Git, GitError, GitMissingError
from .keyring import PROGRAM, keyring, why_ended, why_untrusted
from .room import CutOff, Floor, NoRoomError, files_up_to

KEPT = "refs/zoo/releases"
"""A ref for each kept commit: its objects stay, and the next fetch is the difference to it."""
ALL = "refs/zoo/all"
"""Where branches and tags go if a server does not serve single commits."""
MANY_PACKS = 30
"""Each fetch leaves a pack; this many are merged when nothing else is to be done."""
CREDENTIALS = (
    *("could not read username", "could not read password", "authentication failed", "returned error: 401"),
    *("returned error: 403", "permission denied (", "access denied", "unable to read askpass"),
)
"""The server requires credentials, or does not accept those of this host."""
NO_MEMORY = ("out of memory", "cannot allocate memory", "memory exhausted", "mmap failed")
MAY_PASS = (
    *("no space left on device", "out of diskspace", "disk quota exceeded", "read-only file system"),
    "input/output error",
    *("stale file handle", "transport endpoint is not connected", "connection timed out", "host is down"),
    *("resource temporarily unavailable", "too many open files", "permission denied", "operation not permitted"),
)
"""The disk is full or broken, the host is short of something or git may not write, which may be otherwise the next
time."""
UNWRITTEN = ("unable to write",)
"""Git does not say why it can't write the contents of a file; only the disk can prevent that."""
DAMAGED = ("index-pack", "corrupt", "inflate", "unpack", "unresolved delta", "mismatch", "loose object", "bad object")
"""What was fetched could not be assembled, perhaps because of the local objects that it is the difference to."""
MALFORMED = re.compile(r"error: (object [0-9a-f]+: .+)")
"""The message of `fetch.fsckObjects` about an object, such as a tree that would write into `.git`."""
SSH_CONNECT = 10
"""Seconds within which an SSH server has to accept a connection and identify itself."""
SSH_ALIVE = 10
SSH_SILENT = 3
"""A silent SSH server is probed after this many seconds, and counts as dead after this many unanswered probes: the same
time as with `lowSpeedTime` over HTTP."""
NOT_RUN = (126, 127)
"""The status if git itself, or a library of it, is missing, as while a package of the host is upgraded."""
NO_VERIFIER = ("cannot run ssh-keygen", "cannot run gpg:", "loading shared librar")
VERIFIER_KILLED = ("ssh-keygen died of signal", "gpg died of signal")
"""Git's messages if OpenSSH or GnuPG, which verify a signature, are missing or killed; its status is that of a bad
signature."""
ABSENT_REF = 1
"""The status of `git rev-parse --quiet --verify` if there is no such commit."""
FILES = ("HEAD", "config", "packed-refs", "shallow")
MAY_BE_MISSING = ("packed-refs", "shallow")
"""The files of an object store; git takes something else in their place for a failure of its own, not of an object."""
GITLINK = "160000"
DEEPEST = 200
LONGEST = 3_000
"""The most directories above a file, and bytes of a path, in a release: an application could not use more."""

SETTINGS = """\
[core]
hooksPath = /dev/null
fsmonitor = false
symlinks = true
fsync = committed,reference
packedGitWindowSize = 64m
packedGitLimit = 1g
bigFileThreshold = 64m
[pack]
threads = 1
windowMemory = 256m
[protocol]
version = 2
[fetch]
fsckObjects = true
unpackLimit = 1
writeCommitGraph = false
recurseSubmodules = false
[http]
lowSpeedLimit = 1000
lowSpeedTime = 30
[gc]
auto = 0
[maintenance]
auto = false
[submodule]
recurse = false
[gpg]
program = {openpgp}
[gpg "x509"]
program = /bin/false
"""
WITHOUT_REVOKED = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "gpg.ssh.revocationFile",
    "GIT_CONFIG_VALUE_0": "",
}
OWNERS = """\
[safe]
directory = *
"""
"""Configured if `file` is allowed: a repository on this host belongs to another user than the agent's."""
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
"""Overrides any `.gitattributes`: a file is, byte for byte, that of the commit, and no program runs to create it."""


@dataclass(frozen=True)
class Access:
    """How a host may reach git servers; `largest` is the limit of one fetch and of one release, in bytes.

    `most` is how many files a release may have. `mirrors` has pairs: the beginning of an address, and what replaces it
    for a mirror.
    """

    schemes: tuple[str, ...]
    ssh_key: str | None = None
    ssh_known_hosts: str | None = None
    credentials: str | None = None
    signers: str | None = None
    revoked: str | None = None
    openpgp: str | None = None
    largest: int = 10_000_000_000
    most: int = 200_000
    mirrors: tuple[tuple[str, str], ...] = ()

    def addresses(self, url: str) -> list[str]:
        """Where to fetch from: the mirror with the longest matching beginning, then the repository itself."""
        fitting = [pair for pair in self.mirrors if url.startswith(pair[0])]
        best = sorted(fitting, key=lambda pair: len(pair[0]))[-1:]
        return [*(mirror + url[len(beginning) :] for beginning, mirror in best), url]

    @property
    def settings(self) -> str:
        """Git's configuration file."""
        stored = f'[credential]\nhelper = "{_reader(self.credentials)}"\n' if self.credentials else ""
        signed = f'[gpg "ssh"]\nallowedSignersFile = "{_escaped(self.signers)}"\n' if self.signers else ""
        revoked = f'[gpg "ssh"]\nrevocationFile = "{_escaped(self.revoked)}"\n' if self.revoked else ""
        settings = SETTINGS.format(openpgp=PROGRAM if self.openpgp else "/bin/false")
        return settings + stored + signed + revoked + (OWNERS if "file" in self.schemes else "")

    @property
    def ssh(self) -> str:
        """The command with which git uses SSH: it never prompts, and connects only to known hosts."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={SSH_CONNECT}"]
        options += [f"ServerAliveInterval={SSH_ALIVE}", f"ServerAliveCountMax={SSH_SILENT}"]
        if self.ssh_known_hosts:
            options.append(f"UserKnownHostsFile={_for_ssh(self.ssh_known_hosts)}")
        if self.ssh_key:
            options.extend([f"IdentityFile={_for_ssh(self.ssh_key)}", "IdentitiesOnly=yes"])
        return shlex.join(["ssh", *(word for option in options for word in ("-o", option))])


def _object_format(commit_id: str) -> str:
    """Git's name for the format of objects with such ids."""
    return "sha1" if len(commit_id) == 40 else "sha256"


def _reader(path: str) -> str:
    """A credential helper that only reads a file: git's own removes what a server has refused even once."""
    return _escaped(f'!f() {{ test "$1" = get && git credential-store --file={shlex.quote(path)} get; }}; f')


def _escaped(text: str) -> str:
    """A string inside a quoted value of git's configuration, or of ssh's."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _for_ssh(path: str) -> str:
    """A path as a value of ssh's configuration."""
    return f'"{_escaped(path.replace("%", "%%"))}"'


@dataclass(frozen=True)
class Entry:
    """A file or submodule of a commit: its mode as git writes it, and its size in bytes."""

    mode: str
    size: int


class Repository:
    """A bare repository with the objects of the kept releases. Every method raises `DeployError` or `PassingError`."""

    def __init__(self, layout: Layout, access: Access, floor: Floor | None = None) -> None:
        """`floor` is how much a fetch has to leave free; None: the default."""
        self.layout = layout
        self.access = access
        self.floor = floor or Floor()
        self._room: int | None = None
        self.git = Git(layout.repository)

    def open(self, kind: str = "sha1") -> None:
        """Create the repository if there is none, with an object format, and remove what a killed git left in it."""
        with disk_errors("making the object store", MAY_BE_REMOVED):
            settings = self.layout.own / "gitconfig"
            write_regular(settings, self.access.settings)
            self.git.environment = self._environment(str(settings), self.layout.repository)
            if not self._is_store():
                self._create(kind)
            for left in list(self.layout.repository.rglob("*.lock")):
                remove_tree(left)
            self._remove_begun()

    def _remove_begun(self) -> None:
        for left in self.layout.begun_packs():
            remove_tree(left)

    def _is_store(self) -> bool:
        """Whether git's own files are there, as files: git reports what else is wrong with a store."""
        place = self.layout.repository
        return all(
            (place / name).is_file() or (name in MAY_BE_MISSING and not os.path.lexists(place / name)) for name in FILES
        )

    def _environment(self, settings: str, repository: Path) -> dict[str, str]:
        return {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": settings,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(self.access.schemes),
            "GIT_SSH_COMMAND": self.access.ssh,
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_DIR": str(repository),
            # For what git writes outside the store: this process may not write outside the base.
            "TMPDIR": str(self.layout.staging),
            "LC_ALL": "C",
        }

    def _create(self, kind: str) -> None:
        beside = self.layout.unused("repository")
        beside.mkdir(mode=0o700)
        maker = Git(beside, self._environment(os.devnull, beside))
        with _explained("init"):
            # A git that knows no other format does not know the option.
            words = [] if kind == "sha1" else [f"--object-format={kind}"]
            maker.run("init", "--bare", "--quiet", "--template=", *words)
        (beside / "info").mkdir(exist_ok=True)
        (beside / "info" / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
        self._remove()
        os.replace(beside, self.layout.repository)
        sync_directory(self.layout.own)

    def _remove(self) -> None:
        """Remove what is at the object store's path; anything that only another user can remove stays in staging."""
        store, removed = self.layout.repository, self.layout.unused("repository")
        with disk_errors("removing the object store"):
            try:
                os.replace(store, removed)
            except OSError:
                # In the lower layer of an overlay, it can only be removed where it is.
                remove_tree(store)
                if os.path.lexists(store):
                    raise
        remove_tree(removed)

    def fit(self, commit_id: str) -> None:
        """Discard the store if its object format is not the commit's."""
        if _object_format(commit_id) != self._format():
            self.discard(commit_id)

    def _format(self) -> str:
        with disk_errors("looking at the object store"):
            try:
                settings = os.fsdecode(read_regular(self.layout.repository / "config")).lower()
            except FileNotFoundError:
                return "none"
        return "sha256" if "objectformat = sha256" in settings else "sha1"

    def discard(self, commit_id: str) -> None:
        """Replace the object store by a new one for such a commit; the release directories stay."""
        self._remove()
        self.open(_object_format(commit_id))

    def renew(self) -> None:
        """Replace a broken object store by a new one of the same format: the next fetch fills it."""
        kind = self._format()
        self._remove()
        self.open(kind)

    def has(self, commit_id: str) -> bool:
        """Whether the commit is here with all its objects: its ref is created after them."""
        try:
            resolved = self.git.text("rev-parse", "--quiet", "--verify", f"{KEPT}/{commit_id}^{{commit}}")
        except GitError as exc:
            if exc.status == ABSENT_REF:
                return False
            with self._explained("rev-parse"):
                raise
        # An annotated tag's id leads to a commit, but is not the commit's id.
        return bool(resolved == commit_id)

    def fetch(self, release: Release) -> None:
        """Fetch the release's commit, and no more if the server supports that; from a mirror if it has one."""
        self._check_cut_off(release)
        try:
            self._fetch_from_any(release)
        except NoRoomError:
            CutOff(release.commit_id, self._limit, time.time()).save(self._cut_off)
            raise
        finally:
            with disk_errors("cleaning the object store"):
                self._remove_begun()
        remove_tree(self._cut_off)

    @property
    def _cut_off(self) -> Path:
        return self.layout.repository / "cut-off.json"

    def _check_cut_off(self, release: Release) -> None:
        """Raises `NoRoomError` if there is known to be no room for all that a fetch would bring."""
        self._room = self.floor.room(self.layout.own)
        known = CutOff.load(self._cut_off)
        is_short = self._limit < self.access.largest
        if is_short and known and known.stands(release.commit_id, self._limit, time.time()):
            raise self._too_large(release.url)

    def _fetch_from_any(self, release: Release) -> None:
        *mirrors, origin = self.access.addresses(release.url)
        for mirror in mirrors:
            try:
                return self._fetch_commit(mirror, release.commit_id)
            except (CorruptError, KilledError, NoRoomError):
                raise
            except DeployError as exc:
                print_warning(without_userinfo(f"fetching from {origin} instead of its mirror: {exc}"))
        return self._fetch_commit(origin, release.commit_id)

    def _fetch_commit(self, url: str, commit_id: str) -> None:
        try:
            self._fetch(url, ["--depth=1"], f"+{commit_id}:{KEPT}/{commit_id}")
        except GitError as exc:
            if not says(exc.stderr, REFUSED):
                raise self._trouble(url, commit_id, exc) from exc
            self._fetch_all(url, commit_id)
        if not self.has(commit_id):
            self._forget(commit_id)
            raise DeployError(f"{url} has {commit_id}, which is not a commit; publish the id of a commit")

    def _fetch(self, url: str, options: Sequence[str], *refspecs: str) -> None:
        words = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet", *options, "--", url)
        self._room = self.floor.room(self.layout.own)
        with files_up_to(self._limit):
            self.git.run("fetch", *words, *refspecs)

    @property
    def _limit(self) -> int:
        """The largest size of a pack that a fetch may bring now, in bytes."""
        return self.access.largest if self._room is None else min(self.access.largest, self._room)

    def _fetch_all(self, url: str, commit_id: str) -> None:
        """Fetch from a server that serves only branches and tags: the commit is looked for among all of them."""
        try:
            # A branch `a` blocks one that is now called `a/b`.
            refspecs = (f"+refs/heads/*:{ALL}/heads/*", f"+refs/tags/*:{ALL}/tags/*")
            self._fetch(url, ["--force", "--prune"], *refspecs)
            if not self.git.run("for-each-ref", "--count=1", ALL):
                why = f"{url} has no branch or tag; is a git repository there, and was {commit_id} pushed?"
                raise PassingError(why, "commit")
            self.git.run("update-ref", f"{KEPT}/{commit_id}", f"{commit_id}^{{commit}}")
        except GitError as exc:
            raise self._trouble(url, commit_id, exc) from exc

    def _trouble(self, url: str, commit_id: str, exc: GitError) -> DeployError:
        cut_off = exc.status == -signal.SIGXFSZ or says(exc.stderr, ("file size limit", "file too large", "signal 25"))
        if cut_off or self._has_reached_limit():
            return self._too_large(url)
        if _was_not_run(exc):
            return _not_run("fetch", exc)
        if _lacked(exc):
            return KilledError(f"fetching from {url}: git lacks memory, or was killed: {reason(exc.stderr)}")
        if says(exc.stderr, ("fsck error in pack",)):
            return DeployError(f"git refuses what {url} has: {_malformed(exc.stderr)}")
        if self.is_broken(every_byte=says(exc.stderr, DAMAGED)):
            return CorruptError(f"the object store: {reason(exc.stderr)}")
        return _unserved(url, commit_id, exc.stderr)

    def _too_large(self, url: str) -> DeployError:
        if self._limit < self.access.largest:
            return NoRoomError(f"{url}: more than {self._limit} bytes, all there is above min_free_bytes: make room")
        return DeployError(f"{url}: more than {self.access.largest} bytes (max_release_bytes)")

    def is_broken(self, every_byte: bool = True) -> bool:
        """Whether the store is damaged. What a server has said is not a sign of that: git itself checks.

        Reading `every_byte` takes long for large releases; without it, only the presence of the objects is checked.
        """
        words = ["--no-dangling", "--no-progress"] + ([] if every_byte else ["--connectivity-only"])
        try:
            self.git.run("fsck", *words)
        except GitError as exc:
            tells = not _lacked(exc) and not _was_not_run(exc)
            return tells and not says(exc.stderr, (*MAY_PASS, *UNWRITTEN))
        return False

    def _has_reached_limit(self) -> bool:
        """Whether a pack was cut off at the limit, which git does not always report."""
        begun = (self.layout.repository / "objects" / "pack").glob("tmp_pack_*")
        return any(pack.stat().st_size >= self._limit for pack in begun)

    def verify(self, commit_id: str) -> None:
        """If a signature is demanded, verify the commit's, by SSH or, with keys for that, OpenPGP.

        Raises `DeployError`.
        """
        if self.access.signers is None:
            return
        with keyring(self.access.openpgp, self.layout.unused("gnupg")) as environment:
            try:
                self.git.run("verify-commit", commit_id, environment=environment)
            except GitError as exc:
                raise self._refusal(commit_id, exc, environment) from exc

    def _refusal(self, commit_id: str, exc: GitError, environment: dict[str, str]) -> DeployError:
        if _was_not_run(exc):
            return _not_run("verify-commit", exc)
        if says(exc.stderr, NO_VERIFIER):
            return PassingError(f"git verify-commit: {reason(exc.stderr)}; is it being upgraded?", "process")
        if _lacked(exc) or says(exc.stderr, VERIFIER_KILLED):
            return KilledError(f"git verify-commit was killed, or lacked memory: {reason(exc.stderr)}")
        if says(exc.stderr, MAY_PASS):
            return PassingError(f"git verify-commit: {reason(exc.stderr)}", "disk")
        self._check_there(commit_id)
        files = " or ".join(filter(None, (self.access.signers, self.access.openpgp)))
        cause = self._why_untrusted(commit_id, exc.stderr, environment)
        return DeployError(f"{commit_id} is not signed by anybody in {files}: {cause}")

    def _why_untrusted(self, commit_id: str, stderr: str, environment: dict[str, str]) -> str:
        if says(stderr, ("no signature",)) or not stderr.strip():
            return "it is not signed"
        if self.access.revoked and says(stderr, ("could not verify signature",)):
            # Git says no more about a revoked key.
            with contextlib.suppress(GitError):
                self.git.run("verify-commit", commit_id, environment=WITHOUT_REVOKED)
                return f"its key is revoked in {self.access.revoked}"
        return self._why_ended(commit_id, environment) or why_untrusted(stderr)

    def _why_ended(self, commit_id: str, environment: dict[str, str]) -> str | None:
        """Why an OpenPGP signature that would be good does not count."""
        try:
            self.git.run("verify-commit", "--raw", commit_id, environment=environment)
        except GitError as exc:
            cause = why_ended(exc.stderr)
            return cause and f"{cause}, by what is in {self.access.openpgp}"
        return None

    def _check_there(self, commit_id: str) -> None:
        """Raises `DeployError` if the commit can't be read here, `CorruptError` if the store is broken."""
        try:
            self._run("cat-file", "-e", f"{commit_id}^{{commit}}")
        except (KilledError, PassingError):
            raise
        except DeployError as exc:
            lacking = "the object store of this host does not have the commit"
            raise DeployError(f"the signature of {commit_id} can't be verified: {lacking}") from exc

    def files(self, commit_id: str) -> dict[str, Entry]:
        """Every file of a commit by its path, and every submodule, which becomes an empty directory."""
        entries: dict[str, Entry] = {}
        total = directories = 0
        # A tree may contain itself under a million paths: beyond a limit, no more of it is read.
        with contextlib.closing(self._listed(commit_id)) as listed:
            for line in listed:
                facts, _tab, path = line.partition("\t")
                mode, kind, _object, size = facts.split()
                if kind == "tree":
                    directories += 1
                    self._check_limits(commit_id, path, directories, total, "directories")
                    continue
                entries[path] = Entry(mode, int(size) if size.isdigit() else 0)
                total += entries[path].size
                self._check_limits(commit_id, path, len(entries), total)
        return entries

    def _listed(self, commit_id: str) -> Generator[str, None, None]:
        """Git's listing of a commit, as it comes; a caller that stops reading closes it."""
        # A generator's own `with` of these two, pylint takes for one that nobody ends.
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._explained("ls-tree"))
            listing = stack.enter_context(self.git.printing("ls-tree", "-r", "-t", "-l", "-z", commit_id))
            yield from _parts(listing)

    def _check_limits(self, commit_id: str, path: str, count: int, total: int, what: str = "files") -> None:
        """Raises `DeployError` if a commit has more files or bytes than a release may, or too long a path."""
        access = self.access
        if count > access.most:
            raise DeployError(f"{commit_id} has more than {access.most} {what} (max_release_files)")
        if total > access.largest:
            raise DeployError(f"{commit_id} has more than {access.largest} bytes (max_release_bytes)")
        # No character has more than four bytes, so for most paths these need not be counted.
        if path.count("/") > DEEPEST or (len(path) * 4 > LONGEST and len(os.fsencode(path)) > LONGEST):
            raise DeployError(
                f"{commit_id} has a path of more than {DEEPEST} directories or {LONGEST} bytes: {path[:60]}..."
            )

    def changed(self, before: str, after: str) -> set[str]:
        """The paths at which two commits differ."""
        listed = self._run("diff-tree", "-r", "-z", "--name-only", before, after)
        return {path for path in os.fsdecode(listed).split("\0") if path}

    def check_out(self, commit_id: str, tree: Path, paths: Sequence[str] | None) -> None:
        """Write files of a commit below `tree`: all of them, or those at `paths`."""
        index = tree.with_name(f"{tree.name}.index")
        try:
            environment = {"GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": str(index)}
            if paths is None:
                self._run("read-tree", "--reset", "-u", commit_id, environment=environment)
            else:
                self._run("read-tree", commit_id, environment=environment)
                self._check_out_paths(tree, paths, environment)
        finally:
            remove_tree(index)

    def _check_out_paths(self, tree: Path, paths: Sequence[str], environment: dict[str, str]) -> None:
        listed = tree.with_name(f"{tree.name}.paths")
        listed.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
        try:
            with listed.open("rb") as file:
                self._run("checkout-index", "-z", "--stdin", environment=environment, input_=file)
        finally:
            remove_tree(listed)

    def keep_only(self, commit_ids: Collection[str]) -> None:
        """Unpin all other commits: those without a release directory, and those that were fetched and refused."""
        pinned = os.fsdecode(self._run("for-each-ref", "--format=%(refname:lstrip=3)", KEPT)).split()
        for commit_id in set(pinned) - set(commit_ids):
            self._forget(commit_id)

    def _forget(self, commit_id: str) -> None:
        self._run("update-ref", "-d", f"{KEPT}/{commit_id}")

    @property
    def untidy(self) -> bool:
        """Whether there are so many packs that searching them costs time, or that soon there is no space to merge them.

        Then the objects of removed releases in the packs would fill the disk.
        """
        packs = self._packs
        if len(packs) > MANY_PACKS:
            return True
        room = self.floor.room(self.layout.own)
        return room is not None and len(packs) > len(self.layout.staged()) and 2 * _bytes(packs) > room

    @property
    def _packs(self) -> list[Path]:
        return list((self.layout.repository / "objects" / "pack").glob("*.pack"))

    def tidy(self) -> None:
        """Merge the packs into one without the objects no longer pinned; for a while, both old and new packs exist."""
        with disk_errors("packing"):
            self.floor.check(self.layout.own, _bytes(self._packs))
        try:
            self._run("repack", "-a", "-d", "--quiet")
        finally:
            # The next deployment, which would remove it, may come much later.
            with disk_errors("cleaning the object store"):
                self._remove_begun()
        self._run("prune", "--expire=now")

    def _run(self, name: str, *words: str, **options: Any) -> bytes:
        """Git's output. Raises `CorruptError` if it fails and the store is broken, else as `_explained`."""
        with self._explained(name):
            return self.git.run(name, *words, **options)

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            with _explained(name):
                yield
        except (KilledError, PassingError):
            raise
        except DeployError as exc:
            if self.is_broken():
                raise CorruptError(str(exc)) from exc
            raise


class CorruptError(PassingError):
    """Objects in this host's store, or in what a server sends, are broken or missing."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "store")


def _lacked(exc: GitError) -> bool:
    """Whether git was killed, or lacked memory."""
    return exc.status == -signal.SIGKILL or says(exc.stderr, NO_MEMORY)


def _was_not_run(exc: GitError) -> bool:
    """Whether git did not even start."""
    return exc.status in NOT_RUN


def _not_run(name: str, exc: GitError) -> PassingError:
    """The error for a git that did not start: that says nothing about the release, or the store."""
    why = "it is not there" if isinstance(exc, GitMissingError) else reason(exc.stderr)
    return PassingError(f"git {name}: git can't be run: {why}; is it being upgraded?", "process")


def _unserved(url: str, commit_id: str, stderr: str) -> PassingError:
    """Why a server does not serve the commit now."""
    if says(stderr, ABSENT):
        return PassingError(f"{url} has no commit {commit_id}; was it pushed?", "commit")
    if says(stderr, CREDENTIALS):
        return PassingError(f"{url}: credentials refused: {reason(stderr)}", "credentials")
    return PassingError(f"fetching from {url}: {reason(stderr)}", "fetch")


def _malformed(stderr: str) -> str:
    """The object that git's check of a pack refuses, and why."""
    found = MALFORMED.search(stderr)
    return found.group(1) if found else reason(stderr)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn a failure of git inside the block into a `KilledError`, `PassingError` or `DeployError`."""
    try:
        yield
    except GitError as exc:
        if _was_not_run(exc):
            raise _not_run(name, exc) from exc
        why = reason(exc.stderr)
        if _lacked(exc):
            raise KilledError(f"git {name} was killed, or lacked memory: {why}; is this host short of it?") from exc
        if says(exc.stderr, UNWRITTEN):
            raise PassingError(f"git {name}: {why}; is the disk full?", "disk") from exc
        text = f"git {name}: {why}"
        raise (PassingError(text, "disk") if says(exc.stderr, MAY_PASS) else DeployError(text)) from exc


def _bytes(packs: Collection[Path]) -> int:
    """Their total size in bytes."""
    return sum(pack.stat().st_size for pack in packs)


def _parts(stream: IO[bytes]) -> Iterator[str]:
    """The parts between the zero bytes of a stream, as they come."""
    left = b""
    while chunk := stream.read(65_536):
        *whole, left = (left + chunk).split(b"\0")
        yield from map(os.fsdecode, whole)
