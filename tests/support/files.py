"""A host whose agent renders files from znodes, and its observable effects."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from support.agent import Agent
from support.waiting import wait_for

ReaderType = TypeVar("ReaderType", bound="Reader")

SYSTEMCTL = """#!/bin/sh
date +%s.%N >> "{notes}/$2.restarts"
"""


class Host:
    """An agent with files under `etc`, from the znodes below `root`; a stand-in for systemctl records restarts."""

    def __init__(self, agents: Callable[..., Agent], zk: KazooClient, root: str, etc: Path) -> None:
        self.zk = zk
        self.root = root
        self.etc = etc
        self.etc.mkdir()
        self.written: dict[str, int] = {}
        self.agent = agents(files=[])
        self._notes = etc.parent / "notes"
        self._notes.mkdir()
        zk.ensure_path(root)

    def path(self, name: str) -> str:
        """The path of a znode."""
        return f"{self.root}/{name}"

    def dest(self, name: str) -> Path:
        """The path of a file."""
        return self.etc / name

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self.dest(name).read_bytes()

    def add(self, name: str, **keys: Any) -> Host:
        """Have the agent render a file from the znode of the same name."""
        entry = {"znode": self.path(name), "dest": str(self.dest(name)), **keys}
        self.agent.config["files"].append(entry)
        return self

    def start(self, **config: Any) -> Agent:
        """Start the agent, or start it again."""
        command = self._notes / "bin" / "systemctl"
        command.parent.mkdir(exist_ok=True)
        command.write_text(SYSTEMCTL.format(notes=self._notes))
        command.chmod(0o755)
        self.agent.config.update(config)
        return self.agent.start(PATH=f"{command.parent}:/usr/local/bin:/usr/bin:/bin")

    def write(self, name: str, value: bytes) -> int:
        """Set or create a znode; returns the transaction's id, which `wait_proved` waits for."""
        try:
            stat = self.zk.set(self.path(name), value)
        except NoNodeError:
            stat = self.zk.create(self.path(name), value, makepath=True, include_data=True)[1]
        self.written[name.partition("/")[0]] = stat.mzxid
        return int(stat.mzxid)

    def delete(self, name: str) -> int:
        """Delete a znode and everything below it in one transaction, and return its id."""
        transaction = self.zk.transaction()
        for path in self._subtree(self.path(name)):
            transaction.delete(path)
        assert transaction.commit() == [True] * len(transaction.operations)
        self.written[name.partition("/")[0]] = self.zk.last_zxid
        return int(self.zk.last_zxid)

    def _subtree(self, path: str) -> list[str]:
        """All znodes below one, the lowest first, and the znode itself."""
        below = [self._subtree(f"{path}/{child}") for child in self.zk.get_children(path)]
        return [*itertools.chain.from_iterable(below), path]

    def status(self, name: str) -> dict[str, Any]:
        """A file's part of the agent's status; empty where there is none."""
        return dict(self.agent.status.get("files", {}).get(str(self.dest(name)), {}))

    def wait(self, name: str, state: str, zxid: int = 0) -> dict[str, Any]:
        """Wait until a file is in a state as of `zxid` or later, and return its status."""

        def reached() -> dict[str, Any] | None:
            status = self.status(name)
            return status if status.get("state") == state and status.get("zxid", -1) >= zxid else None

        try:
            return wait_for(reached, f"{name} is {state} as of {zxid}") or {}
        except AssertionError as exc:
            raise AssertionError(f"{exc}\nstatus: {self.agent.status}\nlog:\n{self.agent.log}") from exc

    def wait_proved(self, name: str, state: str = "current") -> dict[str, Any]:
        """Wait until a file is in a state as of the last change that this class made to its znodes."""
        return self.wait(name, state, self.written[name])

    def wait_read(self, name: str) -> None:
        """Wait until the agent has read the last change, whatever the outcome."""
        wait_for(lambda: self.status(name).get("zxid", -1) >= self.written[name], f"{name} is read")

    def note(self, name: str) -> list[str]:
        """A command that records that it was run, and for which files."""
        return ["sh", "-c", f'echo "$ZOO_FILES" | tr "\\n" " " >> {self._notes}/{name}; echo >> {self._notes}/{name}']

    def noted(self, name: str) -> list[str]:
        """The files for which the command of `note` was run, one line for each run."""
        path = self._notes / name
        return path.read_text().splitlines() if path.exists() else []

    def notes(self, name: str) -> int:
        """How often the command of `note` was run."""
        return len(self.noted(name))

    def wait_notes(self, name: str, times: int) -> None:
        """Wait until it has run this often, and not more often."""
        wait_for(lambda: self.notes(name) >= times, f"{name} acted {times} times; log:\n{self.agent.log}")
        assert self.notes(name) == times

    def restarts(self, unit: str) -> list[float]:
        """The times when a unit was restarted, in seconds since the epoch."""
        path = self._notes / f"{unit}.restarts"
        return [float(line) for line in path.read_text().splitlines()] if path.exists() else []


class Reader:
    """Reads a file repeatedly in a thread; `broken` collects any content that is not one word repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[bytes] = []
        self._seen: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self: ReaderType) -> ReaderType:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def values(self) -> int:
        """How many values it has read."""
        return len(self._seen)

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                content = self.path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                # A directory's znode without children is still an empty file.
                continue
            word = content[:7]
            self._seen.add(word)
            if content != word * 2_000:
                self.broken.append(content[:40])
