# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store of one host, and the only file that knows git. It runs in the apply child alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .errors import DeployError, PassingError
from .git_answers import ABSENT, REFUSED, reason, says
from .layout import Layout, disk_errors, remove_tree, sync_directory, sync_file_system
from .records import Release

# GitPython runs `git version` when it is imported, and writes to the terminal where there is no git: it is asked not to.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
import git  # noqa: E402
from git.exc import CommandError  # noqa: E402

KEPT = "refs/zoo/releases"
"""A ref a commit that is kept: its objects stay, and the next fetch is the difference to it."""
ALL = "refs/zoo/all"
"""Where branches and tags go when a server gives no single commit away."""

SETTINGS = """\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	symlinks = true
	sharedRepository = umask
[protocol]
	version = 2
[fetch]
	fsckObjects = true
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
"""
OWNERS = """\
[safe]
	directory = *
"""
"""Said to git where `file` is allowed: a repository on this host belongs to another user than the agent's."""


class Repository:
    """A bare repository with the objects of the kept releases. Every method raises `DeployError` or `PassingError`."""

    def __init__(self, layout: Layout, schemes: Sequence[str]) -> None:
        self.layout = layout
        self.schemes = tuple(schemes)
        self.git = git.Git(str(layout.repository))

    def open(self) -> None:
        """Make the repository where there is none, and clear away what a killed git left in it."""
        with disk_errors("making the object store"):
            settings = self.layout.own / "gitconfig"
            settings.write_text(SETTINGS + (OWNERS if "file" in self.schemes else ""), encoding="utf-8")
            self.git.update_environment(**self._environment(str(settings)))
            if not (self.layout.repository / "HEAD").is_file():
                self._create()
            for left in self.layout.repository.rglob("*.lock"):
                left.unlink()
            for left in (self.layout.repository / "objects" / "pack").glob("tmp_*"):
                left.unlink()

    def _environment(self, settings: str) -> dict[str, str]:
        return {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": settings,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(self.schemes),
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            "GIT_ASKPASS": "/bin/false",
            "GIT_DIR": str(self.layout.repository),
            "LC_ALL": "C",
        }

    def _create(self) -> None:
        beside = self.layout.staging / "repository.git"
        remove_tree(beside)
        beside.mkdir(mode=0o700)
        maker = git.Git(str(beside))
        maker.update_environment(**{**self._environment(os.devnull), "GIT_DIR": str(beside)})
        self._run(maker.init, "--bare", "--quiet", "--template=")
        remove_tree(self.layout.repository)
        os.replace(beside, self.layout.repository)
        sync_directory(self.layout.own)

    def has(self, commit_id: str) -> bool:
        """Whether the commit is here with all its objects: its ref is made after they are."""
        try:
            self.git.rev_parse("--quiet", "--verify", f"{KEPT}/{commit_id}^{{commit}}")
        except CommandError:
            return False
        return True

    def fetch(self, release: Release) -> None:
        """Get the release's commit, and no more than it where the server can do that."""
        wanted = f"+{release.commit_id}:{KEPT}/{release.commit_id}"
        try:
            self._fetch(release.url, "--depth=1", wanted)
        except CommandError as exc:
            if not says(exc.stderr, REFUSED):
                raise self._trouble(release, exc) from exc
            self._fetch_all(release)

    def _fetch(self, url: str, depth: str, *refspecs: str) -> None:
        self.git.fetch(
            "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet", depth, "--", url, *refspecs
        )

    def _fetch_all(self, release: Release) -> None:
        """For a server that gives only branches and tags away: all of them, then the commit is looked for among them."""
        try:
            self._fetch(release.url, "--force", f"+refs/heads/*:{ALL}/heads/*", f"+refs/tags/*:{ALL}/tags/*")
            self.git.update_ref(f"{KEPT}/{release.commit_id}", f"{release.commit_id}^{{commit}}")
        except CommandError as exc:
            raise self._trouble(release, exc) from exc

    @staticmethod
    def _trouble(release: Release, exc: CommandError) -> DeployError:
        if says(exc.stderr, ABSENT):
            return PassingError(f"{release.url} has no commit {release.commit_id}; was it pushed?")
        return PassingError(f"fetching from {release.url}: {reason(exc.stderr)}")

    def check_out(self, commit_id: str) -> None:
        """Make the commit's complete release directory, durable before it has its name."""
        beside = self.layout.staging / commit_id
        remove_tree(beside)
        index = self.layout.staging / f"{commit_id}.index"
        with disk_errors("staging"):
            beside.mkdir()
            with self.git.custom_environment(GIT_WORK_TREE=str(beside), GIT_INDEX_FILE=str(index)):
                self._run(self.git.read_tree, "--reset", "-u", commit_id)
            sync_file_system(beside)
            os.replace(beside, self.layout.release(commit_id))
            sync_directory(self.layout.releases)
        remove_tree(index)

    def forget(self, commit_ids: Sequence[str]) -> None:
        """Unpin commits that are not kept any more."""
        for commit_id in commit_ids:
            self._run(self.git.update_ref, "-d", f"{KEPT}/{commit_id}")

    @staticmethod
    def _run(command: object, *words: str) -> None:
        try:
            command(*words)  # type: ignore[operator]
        except CommandError as exc:
            raise DeployError(f"git {words[0]}: {reason(exc.stderr)}") from exc
