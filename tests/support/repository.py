"""Real git repositories for the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "tests",
    "GIT_AUTHOR_EMAIL": "tests@example.org",
    "GIT_COMMITTER_NAME": "tests",
    "GIT_COMMITTER_EMAIL": "tests@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@dataclass(frozen=True)
class GitRepository:
    """A repository with a work tree in `path`, on branch `main`."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> GitRepository:
        """A new repository with one commit, in which `index.html` contains `one`."""
        path.mkdir(parents=True)
        made = cls(path)
        made.git("init", "-q", "-b", "main")
        made.git("config", "uploadpack.allowAnySHA1InWant", "true")
        made.commit({"index.html": "one\n"})
        return made

    @property
    def url(self) -> str:
        """Its address for git."""
        return f"file://{self.path}"

    @property
    def head(self) -> str:
        """The commit that `main` is at."""
        return self.git("rev-parse", "HEAD")

    def git(self, *words: str) -> str:
        """Run git in the work tree; its standard output without the last newline."""
        done = subprocess.run(
            ["git", *words], cwd=self.path, env={**os.environ, **IDENTITY}, check=True, capture_output=True, text=True
        )
        return done.stdout.rstrip("\n")

    def nest(self, levels: int, names: Iterable[str], *, file: bool = True) -> str:
        """Make a commit of few objects: each directory contains, under every one of `names`, the next; returns its id.

        The deepest directory has a file under each name if `file`, and otherwise an empty directory.
        """
        entry = f"100644 blob {self.git('hash-object', '-w', 'index.html')}"
        if not file:
            entry = f"040000 tree {self.git('hash-object', '-w', '-t', 'tree', os.devnull)}"
        for _level in range(levels):
            entries = "".join(f"{entry}\t{name}\n" for name in names)
            tree = subprocess.run(
                ["git", "mktree"], cwd=self.path, input=entries, check=True, capture_output=True, text=True
            ).stdout.strip()
            entry = f"040000 tree {tree}"
        return self.git("commit-tree", "-m", "nested", tree)

    def commit(self, files: dict[str, str | None], message: str = "change") -> str:
        """Write the files (None removes one), commit, and return the commit's id."""
        for name, text in files.items():
            target = self.path / name
            if text is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head
