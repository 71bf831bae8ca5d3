# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply process: fetches and stages one release, and may be killed at any instant.

It reads its job from standard input, one JSON object, and reports to standard output, a JSON object per line:
`{"unconfined": "..."}` if the kernel leaves it more rights than it needs, `{"left": [...paths]}` when it has cleaned
the staging directory, with what could not be removed, `{"step": "fetching"}` as a step begins, and last
`{"done": {...seconds by step}, "untidy": true or false}` or `{"error": "...", "kind": "final"}`; the kind of a
`PassingError` is its reason. A job with `"tidy": true` packs the object store instead, one with
`"verify": "<commit>"` only verifies a signature. `"agent"` is the id of the process that waits for it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host.apply_lock import hold_apply_lock
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.linux import die_with_parent
from zoo_watcher.logs import print_warning
from zoo_watcher.wire.records import Release, url_scheme, without_userinfo

from .confinement import confine, connected_ports
from .manifest import Manifest
from .release_directory import allowed_signers, prune
from .repository import Access, CorruptError, Repository
from .room import Floor
from .staging import Making, make_release

OWN_FILES = 10_000_000
"""Bytes that a file of git or of this process may have, however small the limit of a release."""
MEMORY = 4 * 2**30
"""Bytes of address space for this process, and for each git that it starts, whose settings keep it within that."""

DESCRIPTORS = 1024
"""Files that each of these processes may have open: git needs few, however many packs and paths there are."""


def main() -> int:
    """Do the job on standard input; returns 0 if it was done, else 1. No release can cause a traceback."""
    die_with_parent()
    os.umask(0o022)
    text = sys.stdin.read()
    if not text or not _has_reader():
        # The agent was killed before it could send all of the job, or before this process asked to die with it.
        return 1
    job = json.loads(text)
    parent = os.getppid()
    # Other threads of an agent that is being killed hold its pipes a moment longer than the thread that is the parent.
    # An agent of an earlier version, which runs until its upgrade is done, does not send its process id.
    if job.get("agent", parent) != parent:
        return 1
    if not job.get("tidy"):
        # A pack of everything kept may exceed the limit of a release, but not what is here.
        limit(resource.RLIMIT_FSIZE, max(job["access"]["largest"], OWN_FILES))
    limit(resource.RLIMIT_AS, MEMORY)
    # Tasks count for the unit (TasksMax): RLIMIT_NPROC counts all processes of a user, and none of root's.
    limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    try:
        with disk_errors("applying"):
            send(_do(job))
    except DeployError as exc:
        send({"error": without_userinfo(str(exc)), "kind": _kind(exc)})
        return 1
    except MemoryError:
        send({"error": f"more than {MEMORY} bytes of memory are needed to apply this release", "kind": "killed"})
        return 1
    return 0


def _has_reader() -> bool:
    """Whether anybody can read what this process sends: the agent's end of the pipe closes when it is killed."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return not output.poll(0)


def _do(job: Mapping[str, Any]) -> dict[str, Any]:
    if job.get("verify"):
        return verify(job)
    return tidy(job) if job.get("tidy") else stage(job)


def _kind(error: DeployError) -> str:
    return error.reason if isinstance(error, PassingError) else "final"


def limit(what: int, amount: int) -> None:
    """Limit a resource of this process, and of git, to `amount`; a lower limit stays."""
    allowed = resource.getrlimit(what)[1]
    least = amount if allowed == resource.RLIM_INFINITY else min(amount, allowed)
    resource.setrlimit(what, (least, least))


def stage(job: Mapping[str, Any]) -> dict[str, Any]:
    """Create the job's release directory; returns the last message. Raises `DeployError`."""
    release = Release.from_object(job["release"])
    clock = _Clock()
    with _confined(job, release) as layout:
        # First of all, to free space.
        with disk_errors("cleaning"):
            layout.clean_staging()
            unpruned = prune(layout, frozenset([release.commit_id, *job["keep"]]))
            for path, why in unpruned.items():
                print_warning(f"release not removed, tried again with the next: {path}: {why}")
            send({"left": [str(path) for path in (*layout.in_staging(), *unpruned)]})
        repository = _repository(job, layout)
        repository.floor.check(layout.own)
        repository.open()
        repository.fit(release.commit_id)
        try:
            _make(job, release, repository, clock)
        except CorruptError:
            # The store is only a copy: it is replaced and fetched again, once.
            repository.discard(release.commit_id)
            _make(job, release, repository, clock)
        repository.keep_only([*layout.staged(), release.commit_id])
        return {"done": clock.seconds, "untidy": repository.untidy}


def _make(job: Mapping[str, Any], release: Release, repository: Repository, clock: _Clock) -> None:
    with clock.step("fetching"):
        if not repository.has(release.commit_id):
            repository.fetch(release)
    signers = _verify(job, release.commit_id, repository)
    with clock.step("staging"):
        making = Making(
            repository.layout,
            release.commit_id,
            tuple(job["shared_paths"]),
            job["hard_links"],
            signers,
            tuple(commit_id for commit_id in job["keep"] if commit_id != release.commit_id),
            job["outside_symlinks"],
        )
        make_release(making, repository)


def _verify(job: Mapping[str, Any], commit_id: str, repository: Repository) -> str | None:
    """Verify the signature of a commit; returns the digest of the allowed signers used. Raises `DeployError`."""
    files = [job["access"][name] for name in ("signers", "revoked", "openpgp")]
    signers = allowed_signers(*files)
    try:
        repository.verify(commit_id)
    finally:
        if signers != allowed_signers(*files):
            raise PassingError(f"require_signature: {files[0]} was changed while {commit_id} was verified", "disk")
    return signers


def verify(job: Mapping[str, Any]) -> dict[str, Any]:
    """Verify the signature of the job's commit; returns the last message. Raises `DeployError`."""
    with _confined(job) as layout:
        repository = _repository(job, layout)
        repository.open()
        _note_signers(layout, job["verify"], _verify(job, job["verify"], repository))
    return {"done": {}, "untidy": False}


def _note_signers(layout: Layout, commit_id: str, signers: str | None) -> None:
    """Note with a commit's release directory, if it has one, that it is verified with these signers."""
    path = layout.manifest(commit_id)
    manifest = Manifest.load(path)
    if manifest is not None and manifest.signers != signers:
        replace(manifest, signers=signers).save(path)


def tidy(job: Mapping[str, Any]) -> dict[str, Any]:
    """Pack the object store, or recreate a broken one; returns the last message. Raises `DeployError`."""
    os.nice(10)
    with _confined(job) as layout:
        repository = _repository(job, layout)
        repository.open()
        try:
            repository.tidy()
        except CorruptError:
            # Packing would fail for ever, and each fetch would add packs.
            repository.renew()
            raise
    return {"done": {}, "untidy": False}


@contextmanager
def _confined(job: Mapping[str, Any], release: Release | None = None) -> Iterator[Layout]:
    """Hold the lock of the job's base, with no more rights than fetching this release needs. Raises `DeployError`."""
    layout, access = Layout(Path(job["base"])), _access(job)
    with hold_apply_lock(layout):
        addresses = access.addresses(release.url) if release else []
        ports = connected_ports(addresses, access.ssh, os.environ)
        local = [address.removeprefix("file://") for address in addresses if url_scheme(address) == "file"]
        trusted = (access.signers, access.revoked, access.openpgp)
        files = (access.ssh_key, access.ssh_known_hosts, access.credentials, *trusted, *local)
        with disk_errors("giving up rights"):
            unconfined = confine(layout, job["hidden"], files, ports)
        if unconfined:
            send({"unconfined": unconfined})
        yield layout


def _access(job: Mapping[str, Any]) -> Access:
    access = job["access"]
    mirrors = tuple((beginning, mirror) for beginning, mirror in access["mirrors"])
    return Access(**{**access, "schemes": tuple(access["schemes"]), "mirrors": mirrors})


def _repository(job: Mapping[str, Any], layout: Layout) -> Repository:
    return Repository(layout, _access(job), Floor(*job["floor"]))


class _Clock:
    """Announces steps and measures their times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        send({"step": name})
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 4)


def send(message: Mapping[str, Any]) -> None:
    """Send the agent a message; if the agent has ended, so does this process."""
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The agent was killed before this process asked to die with it. A normal exit would flush again: a traceback.
        os._exit(1)
