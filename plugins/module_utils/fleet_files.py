# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the files that agents render from znodes are what the znodes hold.

A proof uses only the agents' statuses, and what the znodes hold. Transactions are compared by their ids, which increase
within one ensemble.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .connection import translated
from .fleet_outcome import NO_ROLLOUT, Description, Stand, Verdict
from .records import AgentStatus, FileStatus, InvalidRecord
from .znode_names import ancestors, walk
from .zookeeper import checked, list_many

WHOLE = frozenset({"current"})
EITHER = frozenset({"current", "missing"})
GONE = frozenset({"missing"})


class ZnodeState(NamedTuple):
    """What a znode has held since the transaction `zxid`: a `value`, these `children`, or `nothing` if it is absent.

    The `zxid` is 0 if it is not known since when it has been absent.
    """

    path: str
    what: str
    zxid: int

    def concerns(self, file: FileStatus) -> bool:
        """Whether it can affect the file."""
        if file.znode == self.path:
            return self.what != "children" or file.format != "value"
        if is_below(file.znode, self.path):
            return self.what == "nothing"
        return file.format != "value" and is_below(self.path, file.znode)

    def leads_to(self, file: FileStatus) -> frozenset[str]:
        """The states of the file that it can lead to."""
        if self.what == "nothing" and (file.znode == self.path or is_below(file.znode, self.path)):
            return GONE
        return WHOLE if self.what == "value" else EITHER


def is_below(path: str, above: str) -> bool:
    """Whether the znode `path` is somewhere below `above`."""
    return path != above and path.startswith("/" if above == "/" else f"{above}/")


class Need(NamedTuple):
    """What a file's status must show: a look at the transaction `zxid` or a later one that ended in one of `states`."""

    zxid: int
    states: frozenset[str]

    def met_by(self, file: FileStatus) -> bool:
        """Whether the file is proved."""
        return file.zxid >= self.zxid and file.state in self.states

    def failed_by(self, file: FileStatus) -> bool:
        """Whether the agent gave up on it, or found that the znode was deleted again."""
        return file.zxid >= self.zxid and file.state in {"failed", "missing"} - self.states


class FileProof:
    """What some znodes hold, to be proved by every live agent that has a file from one of them, or by these `names`.

    `subject` names the znodes in a message; `states` are what they hold.
    """

    undone = "not in place"
    kind = "agents with a file from there"

    def __init__(self, states: Sequence[ZnodeState], subject: str, names: Iterable[str] | None = None) -> None:
        self.subject = subject
        self.states = states
        self.names = None if names is None else set(names)
        self._needs: dict[tuple[str, str], Need | None] = {}

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort a fleet by its files' states; agents without a file from these znodes are pending only if named."""
        verdict = Verdict([], [], [])
        for name in sorted(agents if self.names is None else self.names):
            files = self._concerned(agents[name]) if name in agents else {}
            if not files and self.names is not None:
                verdict.pending.append(name)
            elif any(need.failed_by(file) for need, file in files.values()):
                verdict.failed.append(name)
            elif not all(need.met_by(file) for need, file in files.values()):
                verdict.pending.append(name)
            elif files:
                verdict.proved.append(name)
        return verdict

    gate: str | None = None

    def stand(self, gate: Any) -> Stand:  # noqa: ARG002  # as `Proof` has it
        """No rollout: files are not rolled out in steps."""
        return NO_ROLLOUT

    def obstacle(self, _config: Any) -> None:
        """None: a release published meanwhile makes no difference."""

    def advise(self, _agents: Mapping[str, AgentStatus]) -> str:
        """Nothing: a file's own message says what to do."""
        return ""

    def describe(self, status: AgentStatus) -> Description:
        """The state of the first file that an agent has not proved, failed ones first."""
        undone = sorted(
            (not need.failed_by(file), dest, file)
            for dest, (need, file) in self._concerned(status).items()
            if not need.met_by(file)
        )
        if not undone:
            return Description("without a file from there")
        _unused, dest, file = undone[0]
        more = f", and {len(undone) - 1} more files of its" if len(undone) > 1 else ""
        return Description(f"{_state(file)}{more}", of=f"{dest} on ")

    def _concerned(self, status: AgentStatus) -> dict[str, tuple[Need, FileStatus]]:
        """The files from these znodes, by dest, each with what it must show."""
        needs = ((dest, self._need(file), file) for dest, file in files_of(status).items())
        return {dest: (need, file) for dest, need, file in needs if need is not None}

    def _need(self, file: FileStatus) -> Need | None:
        """What the file must show; None if the znodes do not affect it. Remembered for the next event."""
        key = (file.znode, file.format)
        if key not in self._needs:
            concerning = [state for state in self.states if state.concerns(file)]
            allowed = frozenset.intersection(EITHER, *(state.leads_to(file) for state in concerning))
            self._needs[key] = Need(max(state.zxid for state in concerning), allowed) if concerning else None
        return self._needs[key]


def _state(file: FileStatus) -> str:
    return f"{file.state} ({file.message})" if file.message else file.state


def files_of(status: AgentStatus) -> dict[str, FileStatus]:
    """An agent's files by dest. An unreadable entry names no znode, so it is left out."""
    files: dict[str, FileStatus] = {}
    entries: Any = status.files
    for dest, entry in entries.items() if isinstance(entries, Mapping) else ():
        with contextlib.suppress(InvalidRecord, TypeError, AttributeError):
            files[dest] = FileStatus.from_object(entry)
    return files


def read_states(client: Any, paths: Sequence[str]) -> list[ZnodeState]:
    """What the znodes and all below them hold; asks the leader, to see the last write. Raises `ZooKeeperError`."""
    with translated(None):
        client.sync("/")
    states: list[ZnodeState] = []

    def list_level(level: list[str]) -> Iterator[list[str]]:
        for path, answer in zip(level, list_many(client, level)):
            listing = checked(answer)
            if listing is not None:
                states.append(ZnodeState(path, "value", listing.stat.mzxid))
                states.append(ZnodeState(path, "children", listing.stat.pzxid))
            elif path in paths:
                states.extend(_absence(client, path))
            yield listing.names if listing else []

    collections.deque(walk(paths, list_level), maxlen=0)
    return states


def _absence(client: Any, path: str) -> Iterator[ZnodeState]:
    """For a missing znode: nothing since an unknown time, and its nearest existing ancestor's children."""
    yield ZnodeState(path, "nothing", 0)
    for above in reversed(ancestors(path)):
        with translated(above):
            stat = client.exists(above)
        if stat is not None:
            yield ZnodeState(above, "children", stat.pzxid)
            return


def summarize_paths(paths: Sequence[str]) -> str:
    """Some znodes, for the beginning of a message."""
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
