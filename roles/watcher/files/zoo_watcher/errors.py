# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions, named for what they mean. Each message is one line for a person."""

from __future__ import annotations


class AgentError(Exception):
    """Base of all errors of the agent."""


class ConfigError(AgentError):
    """The configuration file can't be used; `mistakes` has a line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class SessionTroubleError(AgentError):
    """ZooKeeper could not be asked now, or refused; the same request is made again later."""


class RefusedError(SessionTroubleError):
    """A write to `path` is refused however often it is tried, and with it all others of its transaction."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


class NoParentError(SessionTroubleError):
    """The parent of the znode to be created does not exist."""


class NoAnswerError(SessionTroubleError):
    """A server did not answer in time: it will not answer the next request sooner."""


class NotCheckedError(AgentError):
    """A health check could not be run: this host lacks the resources, and nothing is known about the service."""


class DeployError(AgentError):
    """This release can't be deployed here; trying the same again will not help."""


class PassingError(DeployError):
    """This release can't be deployed now; what stands in the way may pass, so it is tried again.

    `reason` is one of `RETRY_REASONS`.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


MOST_KILLED = 3
"""How often in a row what a change needs may be killed before the change counts as the cause."""


class KilledError(PassingError):
    """A process of a deployment was killed or lacked memory: the host may be short of it, or the release huge."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "killed")


RETRY_REASONS = ("commit", "credentials", "disk", "fetch", "killed", "process", "room", "store", "timeout")
"""Why a step of a deployment is tried again: the server lacks the commit, it refuses the credentials, the disk is full
or broken, git server or network fail, git is killed, no process starts, too little would stay free, the object store is
broken, or the step took too long."""


class UnhealthyError(DeployError):
    """The release is live and its checks do not pass."""


class CancelledError(BaseException):
    """A newer release counts, or the agent ends: nothing has gone wrong, so no handler of errors catches it."""


class YieldedError(BaseException):
    """A step was tried again for long enough: something else comes first, then all of it starts over."""


class FileError(AgentError):
    """A file can't be made to match its znodes; trying the same again will not help."""


class TransientFileError(FileError):
    """A file can't be made to match its znodes now; what stands in the way may pass, so it is tried again."""


class KilledFileError(TransientFileError):
    """A command that had to look at a file's new contents was killed: the host may be short of memory."""


class UnexpectedFileError(TransientFileError):
    """A bug of the agent shows at this file: it stops no other file, and is tried again like a full disk."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"unexpected {type(cause).__name__}: {cause}".rstrip(": "))
        self.__cause__ = cause
