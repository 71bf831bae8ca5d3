# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the files that agents keep like znodes are what the znodes hold.

Pure: a proof knows only the agents' statuses, and what the znodes hold. Transactions are compared by their ids, which
grow within one ensemble.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .fleet import Verdict
from .records import AgentStatus, FileStatus, InvalidRecord

WHOLE = frozenset({"current"})
EITHER = frozenset({"current", "missing"})
GONE = frozenset({"missing"})


class Holding(NamedTuple):
    """What a znode has held since the transaction `zxid`: a `value`, these `children`, or `nothing`, being absent.

    The `zxid` is 0 where it is not known since when there has been nothing.
    """

    path: str
    what: str
    zxid: int

    def concerns(self, file: FileStatus) -> bool:
        """Whether it can make a difference to the file."""
        if file.znode == self.path:
            return self.what != "children" or file.format != "value"
        if is_below(file.znode, self.path):
            return self.what == "nothing"
        return file.format != "value" and is_below(self.path, file.znode)

    def states(self, file: FileStatus) -> frozenset[str]:
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
        """Whether the agent gave up on it, or found that the znode has gone again."""
        return file.zxid >= self.zxid and file.state in {"failed", "missing"} - self.states


class FileProof:
    """What some znodes hold, to be proved by every live agent that has a file from one of them.

    `subject` names the znodes in a message.
    """

    undone = "not in place"
    kind = "agents with a file from there"

    def __init__(self, holdings: Sequence[Holding], subject: str) -> None:
        self.subject = subject
        self._holdings = holdings
        self._needs: dict[tuple[str, str], Need | None] = {}

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort a fleet by its files' states; an agent without a file from these znodes is not asked."""
        verdict = Verdict([], [], [])
        for name in sorted(agents):
            asked = self._asked(agents[name])
            if any(need.failed_by(file) for need, file in asked.values()):
                verdict.failed.append(name)
            elif not all(need.met_by(file) for need, file in asked.values()):
                verdict.pending.append(name)
            elif asked:
                verdict.proved.append(name)
        return verdict

    def obstacle(self, _generation: int | None) -> None:
        """None: a release that is published meanwhile changes nothing of it."""

    def said(self, status: AgentStatus) -> str:
        """What an agent says of the first file that it has not proved, the ones that failed before the others."""
        undone = sorted(
            (not need.failed_by(file), dest, file)
            for dest, (need, file) in self._asked(status).items()
            if not need.met_by(file)
        )
        _unused, dest, file = undone[0]
        more = f", and {len(undone) - 1} more files of its" if len(undone) > 1 else ""
        return f"{dest} on {status.name} is {_state(file)}{more}"

    def _asked(self, status: AgentStatus) -> dict[str, tuple[Need, FileStatus]]:
        """The files from these znodes, by dest, each with what it must show."""
        found = ((dest, self._need(file), file) for dest, file in files_of(status).items())
        return {dest: (need, file) for dest, need, file in found if need is not None}

    def _need(self, file: FileStatus) -> Need | None:
        """What the file must show; None where the znodes make no difference to it. Kept: it is asked at each event."""
        key = (file.znode, file.format)
        if key not in self._needs:
            found = [one for one in self._holdings if one.concerns(file)]
            states = frozenset.intersection(EITHER, *(one.states(file) for one in found))
            self._needs[key] = Need(max(one.zxid for one in found), states) if found else None
        return self._needs[key]


def _state(file: FileStatus) -> str:
    return f"{file.state} ({file.message})" if file.message else file.state


def files_of(status: AgentStatus) -> dict[str, FileStatus]:
    """An agent's files by dest. An entry that can't be read tells of no znode, so it is left out."""
    found: dict[str, FileStatus] = {}
    entries: Any = status.files
    for dest, entry in entries.items() if isinstance(entries, Mapping) else ():
        with contextlib.suppress(InvalidRecord, TypeError, AttributeError):
            found[dest] = FileStatus.from_object(entry)
    return found
