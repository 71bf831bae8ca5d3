# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records that plugins and agents exchange through znodes, and where those znodes are.

Standard library and `znode_names` only: the agent ships these same files. A record reads itself from a node's bytes
(`from_node`), writes itself to them (`to_node`), keeps unknown keys, and refuses invalid content with an
`InvalidRecord` that says which key and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from urllib.parse import urlsplit

from .znode_names import (
    DEFAULT_APP,
    MAX_NODE_BYTES,
    InvalidRecord,
    check_node_name,
    check_path,
    finite,
    has_control,
    quote,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    RecordType = TypeVar("RecordType", bound="_Record")

__all__ = ["DEFAULT_APP", "MAX_NODE_BYTES", "InvalidRecord", "check_node_name", "check_path", "quote"]
"""Users of the records need not know that these are defined elsewhere."""

PROVED_AT = "provedAt"
"""The key of a history entry with the time when the whole fleet had proved it, RFC 3339; set by the one that waited.

It is missing if no agent was live, or if one that was live was lost. Hosts that were missing before the release was
published are no evidence against it.
"""
ROLLED_BACK_FROM = "rolledBackFrom"
"""The key of a release published as a rollback: the commit that was desired before."""
HISTORY_LIMIT = 50
"""How many entries of an application's history are kept."""
MAX_MESSAGE = 2_000
"""The most characters of a status message; of a longer one, the first line and the end are kept."""
LONGEST_FIRST_LINE = 500
LEFT_OUT = "\n... the middle is left out ...\n"

STATES = (
    "idle",
    "queued",
    "waiting",
    "fetching",
    "staging",
    "activating",
    "checking",
    "active",
    "failed",
    "rolled_back",
    "draining",
    "halted",
)
"""The states of an agent, in the order of a deployment; `waiting` and `halted` belong to a rollout."""
GAVE_UP = frozenset({"failed", "rolled_back"})
"""The states in which an agent does not retry its generation."""

FILE_STATES = ("current", "missing", "pending", "failed")
"""The states of a file that an agent renders from a znode."""

AGENT_DIRECTORY = ".zoo"
"""The agent's own directory below the base; no release may be put there."""

OWN = ("config", "history", "policy", "rollouts", "bad", "agents", "roster", "lock", "access")
"""The application's own znodes, directly below its root."""

COMMIT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USERINFO = re.compile(r"(https?://)[^/\s]*@", re.IGNORECASE)
_SCP = re.compile(r"[^/:]+:(?!:)")


class InvalidRelease(InvalidRecord):
    """A release that no host may deploy."""


@dataclass(frozen=True)
class AppPaths:
    """The znodes of one application. Raises `InvalidRecord` if `root` is not an absolute znode path."""

    root: str = DEFAULT_APP

    def __post_init__(self) -> None:
        check_path(self.root)
        if self.root == "/":
            raise InvalidRecord("app: expected a znode path such as /app/business, got /")
        if _is_of_zookeeper(self.root):
            raise InvalidRecord(
                f"app: {self.root} belongs to ZooKeeper itself; expected a znode path such as /app/business"
            )

    @property
    def config(self) -> str:
        """The desired release."""
        return f"{self.root}/config"

    @property
    def history(self) -> str:
        """The parent of the publications."""
        return f"{self.root}/history"

    @property
    def history_prefix(self) -> str:
        """The prefix of a new history entry's name; the server appends the sequence."""
        return f"{self.history}/release-"

    @property
    def policy(self) -> str:
        """The defaults for every release whose record does not set them."""
        return f"{self.root}/policy"

    @property
    def lock(self) -> str:
        """Who keeps publishers from publishing, and why; it has no value while nobody does."""
        return f"{self.root}/lock"

    @property
    def access(self) -> str:
        """Who may do what with the application's znodes, if that is recorded."""
        return f"{self.root}/access"

    @property
    def rollouts(self) -> str:
        """The parent of the rollouts' states."""
        return f"{self.root}/rollouts"

    def rollout(self, generation: int) -> str:
        """The state of one generation's rollout."""
        return f"{self.rollouts}/{generation}"

    @property
    def bad_commits(self) -> str:
        """The parent of the commits that are known to be bad."""
        return f"{self.root}/bad"

    def bad(self, commit: str) -> str:
        """Why a commit is known to be bad, if it is."""
        return f"{self.bad_commits}/{commit}"

    @property
    def agents(self) -> str:
        """The parent of the live agents' statuses."""
        return f"{self.root}/agents"

    def agent(self, name: str) -> str:
        """One agent's status."""
        return f"{self.agents}/{name}"

    @property
    def roster(self) -> str:
        """The parent of the entries of all hosts that belong to the fleet."""
        return f"{self.root}/roster"

    def roster_entry(self, name: str) -> str:
        """One host's entry, by the name of its agent."""
        return f"{self.roster}/{name}"


def _is_of_zookeeper(path: str) -> bool:
    """Whether the znode belongs to the ensemble itself: its own configuration, and quotas."""
    return f"{path}/".startswith("/zookeeper/")


def whose(app: AppPaths, path: str) -> str | None:
    """Why `path` is reserved for the application or ZooKeeper itself; None if it is not."""
    if _is_of_zookeeper(path):
        return f"{path} belongs to ZooKeeper itself"
    if path == app.root:
        return f"{path} is the znode of the application itself"
    if f"{app.root}/".startswith(f"{path.rstrip('/')}/"):
        return f"{path} is above {app.root}, the znode of the application"
    below = path[len(app.root) + 1 :] if path.startswith(f"{app.root}/") else ""
    name = below.partition("/")[0]
    return f"{path} belongs to the {name} of the application {app.root}" if name in OWN else None


def parse_object(data: bytes | None) -> dict[str, Any]:
    """The JSON object in a node's bytes. Raises `InvalidRecord` if there is none."""
    if not data:
        raise InvalidRecord("no data: expected a JSON object")
    if len(data) > MAX_NODE_BYTES:
        raise InvalidRecord(f"{len(data)} bytes: expected at most {MAX_NODE_BYTES}")
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=finite)
    except UnicodeDecodeError as exc:
        raise InvalidRecord(f"not UTF-8 at byte {exc.start}: expected a JSON object") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidRecord(f"not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise InvalidRecord(f"expected a JSON object, got {quote(content)}")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def url_scheme(url: str) -> str:
    """The protocol by which git reaches `url`: `https`, `ssh` (also `host:path`), `git`, `file` (also a path)..."""
    named = _SCHEME.match(url)
    if named:
        return named.group(1).lower()
    return "ssh" if _SCP.match(url) else "file"


def check_url(url: object) -> str:
    """`url` itself if it may be passed to git; otherwise raises `InvalidRelease`. The host decides on the protocols."""
    if not isinstance(url, str) or not url:
        raise InvalidRelease(f"url: expected a repository's address, got {quote(url)}")
    if url.startswith("-") or "::" in url.split("/", 1)[0] or has_control(url):
        raise InvalidRelease(
            f"url: {quote(without_userinfo(url))} is not a repository address "
            "(no leading dash, no transport helper, no control character)"
        )
    named = _SCHEME.match(url)
    if named and not named.group(1).islower():
        # The rest of it may contain a password.
        raise InvalidRelease(f"url: expected {named.group(0).lower()} as git has it, got {named.group(0)}")
    try:
        parts = urlsplit(url) if named else None
    except ValueError as exc:
        raise InvalidRelease(f"url: {exc}") from exc
    if parts is not None and parts.password is not None:
        raise InvalidRelease("url: carries a password; put it into the credentials of the hosts")
    if parts is not None and (parts.hostname or "").startswith("-"):
        raise InvalidRelease(f"url: {quote(without_userinfo(url))} has a host that begins with a dash")
    return url


def without_userinfo(text: str) -> str:
    """`text`, with what precedes the host in its web addresses removed: that may be a token."""
    return _USERINFO.sub(r"\1", text)


def check_published_url(url: object) -> str:
    """`check_url`, for a publisher: everybody who can read the release can read its address, and a token in it."""
    checked = check_url(url)
    if url_scheme(checked) in {"http", "https"} and urlsplit(checked).username:
        raise InvalidRelease("url: carries a user name, perhaps a token; put it into the credentials of the hosts")
    return checked


def check_commit_id(commit_id: object) -> str:
    """`commit_id` in lower case if it is a full one; otherwise raises `InvalidRelease`."""
    if isinstance(commit_id, str) and COMMIT_ID.fullmatch(commit_id.lower()):
        return commit_id.lower()
    raise InvalidRelease(f"commitId: expected 40 or 64 hex digits, got {quote(commit_id)}")


def check_relative_path(path: object) -> str:
    """`path` itself if a release may be put there, below a host's base; otherwise raises `InvalidRelease`."""
    if not isinstance(path, str) or not path:
        raise InvalidRelease(f"relativePath: expected a relative path, got {quote(path)}")
    segments = path.split("/")
    if any(segment in {"", ".", ".."} for segment in segments) or has_control(path):
        raise InvalidRelease(
            f"relativePath: expected a normalised relative path (no leading or double slash, no . or .., "
            f"no control character), got {quote(path)}"
        )
    if segments[0] == AGENT_DIRECTORY:
        raise InvalidRelease(f"relativePath: {AGENT_DIRECTORY} is the agent's own directory, got {quote(path)}")
    if len(path.encode()) > 1024 or any(len(segment.encode()) > 255 for segment in segments):
        raise InvalidRelease(f"relativePath: longer than a file system takes, got {quote(path)}")
    return path


@cache
def _names_by_key(record: Any) -> dict[str, str]:
    """The names of a record's fields by their keys, computed once for thousands of records."""
    return {spec.metadata["key"]: spec.name for spec in fields(record) if "key" in spec.metadata}


class _Record:
    """A dataclass that is a JSON object: `metadata["key"]` is a field's name in it, `extra` keeps unknown keys."""

    extra: Mapping[str, Any]

    # Here once: what `dataclass` would generate for each class takes memory in each agent.
    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if other.__class__ is self.__class__ else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @classmethod
    def from_object(cls: type[RecordType], content: Mapping[str, Any]) -> RecordType:
        """The record in a decoded JSON object. Raises `InvalidRecord`."""
        kind: Any = cls
        names = _names_by_key(kind)
        values: dict[str, Any] = {names[key]: value for key, value in content.items() if key in names}
        return cls(**values, extra={key: value for key, value in content.items() if key not in names})  # type: ignore[call-arg]

    @classmethod
    def from_node(cls: type[RecordType], data: bytes | None) -> RecordType:
        """The record in a node's bytes. Raises `InvalidRecord`."""
        return cls.from_object(parse_object(data))

    def to_object(self) -> dict[str, Any]:
        """The JSON object, without the optional keys that are not set."""
        kind: Any = type(self)
        values = {key: getattr(self, name) for key, name in _names_by_key(kind).items()}
        return {**{key: value for key, value in values.items() if value is not None}, **self.extra}

    def to_node(self) -> bytes:
        """The node's bytes. Raises `InvalidRecord` for NaN or infinity: not JSON, so others could not read them."""
        content = self.to_object()
        try:
            return json.dumps(content, allow_nan=False).encode("utf-8")
        except ValueError as exc:
            raise InvalidRecord(f"NaN and Infinity are not JSON, got {quote(content, 500)}") from exc


def _key(name: str, **options: Any) -> Any:
    return field(metadata={"key": name}, **options)  # pylint: disable=invalid-field-call


@dataclass(frozen=True, repr=False, eq=False)
class Release(_Record):
    """What every host should run: one commit of one repository, at one place.

    The keys of the node are those of the article's publisher: `url`, `commitId`, `relativePath`. Raises
    `InvalidRelease` if no host may deploy it.
    """

    url: str = _key("url", default="")
    commit_id: str = _key("commitId", default="")
    relative_path: str = _key("relativePath", default="")
    ref: str | None = _key("ref", default=None)
    publisher: str | None = _key("publisher", default=None)
    published_at: str | None = _key("publishedAt", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_url(self.url)
        check_relative_path(self.relative_path)
        object.__setattr__(self, "commit_id", check_commit_id(self.commit_id))

    @classmethod
    def from_object(cls, content: Mapping[str, Any]) -> Release:
        """The release in a decoded JSON object. Raises `InvalidRelease`, also for a missing key."""
        missing = [key for key in ("url", "commitId", "relativePath") if key not in content]
        if missing:
            raise InvalidRelease(f"{', '.join(missing)}: missing")
        return super().from_object(content)

    def same_as(self, other: Release | None) -> bool:
        """Whether both ask for the same commit of the same repository at the same place."""
        return other is not None and self._what == other._what

    @property
    def _what(self) -> tuple[str, str, str]:
        return (self.url, self.commit_id, self.relative_path)


@dataclass(frozen=True, repr=False, eq=False)
class FileStatus(_Record):
    """An agent's report about one file that it renders from a znode: `state` as of the transaction `zxid`.

    `format` is `value` if the file is that znode's value; any other format is of the znode's whole subtree.
    `version` and `mzxid` are of the value that the file has now; of a subtree the newest `mzxid` or `pzxid` in it.
    """

    znode: str = _key("znode", default="")
    format: str = _key("format", default="value")
    state: str = _key("state", default="pending")
    version: int | None = _key("version", default=None)
    mzxid: int | None = _key("mzxid", default=None)
    zxid: int = _key("zxid", default=0)
    message: str | None = _key("message", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_path(self.znode)
        if self.state not in FILE_STATES:
            raise InvalidRecord(f"state: expected one of {', '.join(FILE_STATES)}, got {quote(self.state)}")
        if not isinstance(self.format, str):
            raise InvalidRecord(f"format: expected a string, got {quote(self.format)}")
        if not isinstance(self.zxid, int):
            raise InvalidRecord(f"zxid: expected a whole number, got {quote(self.zxid)}")


@dataclass(frozen=True, repr=False, eq=False)
class RosterEntry(_Record):
    """A host that belongs to the fleet, its agent live or not; `since` (RFC 3339) is when it was added to the roster.

    `labels` and `version` are those of its agent; None if none has opened a session yet.
    """

    name: str = _key("name", default="")
    since: str | None = _key("since", default=None)
    labels: Mapping[str, str] | None = _key("labels", default=None)
    version: str | None = _key("version", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)


def describe_mark(name: str, mark: object) -> str:
    """A status's `held` or `drained`, for a message: `held since ... by ann: disk swap`."""
    if not isinstance(mark, Mapping):
        return name
    return f"{name} since {mark.get('since')} by {mark.get('by')}: {mark.get('reason')}"


def _shortened(message: str) -> str:
    """A message of at most `MAX_MESSAGE` characters: its first line, which has the first reason, and its last lines."""
    if len(message) <= MAX_MESSAGE:
        return message
    begin = message.partition("\n")[0][:LONGEST_FIRST_LINE] + LEFT_OUT
    return begin + message[len(begin) - MAX_MESSAGE :]


@dataclass(frozen=True, repr=False, eq=False)
class AgentStatus(_Record):
    """What one agent reports about itself. `timings` are seconds by step, `since` is RFC 3339.

    `files` are the objects of `FileStatus`, by dest; `troubles`, one line each, are what keeps it from its work now.
    `waits_for` is what a stuck deployment waits for, in a word: a reason to retry, or `health`. `held` and `drained`
    are set while a person on its host has it so: objects with `since`, `reason` and `by`. `unit` is the systemd unit
    that it runs in, without `.service`. `failed_step` has the `step` in which the release failed, and the `seconds`
    after which it did. `access` is the transaction that recorded the roles it has read, 0 if there are none; None if it
    has no credentials, or not those of a role.
    """

    name: str = _key("name", default="")
    state: str = _key("state", default="idle")
    generation: int | None = _key("generation", default=None)
    commit_id: str | None = _key("commitId", default=None)
    previous_commit_id: str | None = _key("previousCommitId", default=None)
    message: str | None = _key("message", default=None)
    since: str | None = _key("since", default=None)
    timings: Mapping[str, float] | None = _key("timings", default=None)
    files: Mapping[str, Mapping[str, Any]] | None = _key("files", default=None)
    version: str | None = _key("version", default=None)
    troubles: Sequence[str] | None = _key("troubles", default=None)
    waits_for: str | None = _key("waitsFor", default=None)
    held: Mapping[str, str] | None = _key("held", default=None)
    drained: Mapping[str, str] | None = _key("drained", default=None)
    unit: str | None = _key("unit", default=None)
    failed_step: Mapping[str, Any] | None = _key("failedStep", default=None)
    access: int | None = _key("access", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise InvalidRecord(f"state: expected one of {', '.join(STATES)}, got {quote(self.state)}")
        if self.message is not None:
            clean = str(self.message).encode("utf-8", "backslashreplace").decode("utf-8")
            object.__setattr__(self, "message", _shortened(clean))

    @property
    def controls(self) -> str:
        """What a person on its host has set, for a message: `held since ... by ann: disk swap`; empty for nothing."""
        marks = {"held": self.held, "drained": self.drained}
        return ", ".join(describe_mark(name, mark) for name, mark in marks.items() if mark is not None)

    def with_changes(self, **changes: Any) -> AgentStatus:
        """The same status with some fields changed."""
        return replace(self, **changes)

    def converged(self, generation: int) -> bool:
        """Whether this agent has proved `generation`."""
        return self.generation == generation and self.state == "active"

    def gave_up(self, generation: int) -> bool:
        """Whether this agent tried `generation` and will not retry it."""
        return self.generation == generation and self.state in GAVE_UP
