# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with an ensemble, and reading many znodes at once.

`connect` opens a session, once, and fails within `connect_timeout`; inside it every ZooKeeper error is a
`ZooKeeperError` with a one-line message for a person; that of a refusal also tells who the connection is.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import struct
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from .connection import (
    MOST_TO_CONNECT,
    ConnectError,
    ZooKeeperError,
    explain,
    kerberos_trouble,
    make_client,
    translated,
)
from .identity import named
from .znode_names import InvalidRecord

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.client import KazooClient
    from kazoo.handlers.threading import KazooTimeoutError
    from kazoo.protocol.states import KazooState, ZnodeStat
except ImportError:
    pass  # `connect` reports it

SETTLING = 2.0
"""Seconds after a reconnection in which a server may refuse what it allows: it may not know yet who the client is."""
ASK_AGAIN = 0.2
"""Seconds after which such a refused request is repeated."""

STOP_TIMEOUT = 2.0
"""Seconds that closing a session may take; after that it is left to expire."""

READ_TIMEOUT = 30.0
"""Seconds within which a bulk read must end."""
FIRST_CHUNK = 4
"""How many reads the first request of a bulk read has; each later one has up to eight times as many as the last."""
CHUNK_COUNT = 1000
"""How many reads a request has at most."""
CHUNK_BYTES = 400_000
"""The most bytes of a request, and the target size of its answer."""
CHUNKS_UNDER_WAY = 3
"""How many requests are pending at once, after the first has been answered: the server never waits for us."""

GET_DATA = 4
"""The type of an operation that reads a value and its stat."""
GET_CHILDREN = 8
"""The type of an operation that reads the names of the children."""

_HEADER = struct.Struct("!iBi")
_OPERATION = _ANSWER = struct.Struct("!iBii")
"""A header, and what follows it: the path's length; or the data's, the number of names, or the error's code."""
_INT = struct.Struct("!i")
_STAT = struct.Struct("!qqqqiiiqiiq")


READ_AGAIN = 60.0
"""Seconds after which waiters read again even if no watch has fired: a server uses a watch up silently if it has an
event for it and the client may not read the znode just then."""


class _LastWords(logging.Handler):
    """Keeps kazoo's last warning: the reason why it can't connect is logged nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.text = f"{record.exc_info[1]}"
        elif "retry policy" not in record.msg:
            self.text = record.getMessage()


@contextlib.contextmanager
def connect(options: Mapping[str, Any], outage: float | None = None) -> Iterator[KazooClient]:
    """A client with a session, from the connection options. Raises `ConnectError`, `MissingLibraryError`.

    `outage` is for how many seconds the ensemble may be unreachable later; by default, `connect_timeout`.
    """
    _check_timeout(options["connect_timeout"])
    last_words = _LastWords()
    client = make_client(
        options,
        timeout=options["connect_timeout"],
        logger=_quiet_logger(last_words),
        # The deadline also ends a session that is lost midway: otherwise requests would wait in it for ever.
        connection_retry={
            "max_tries": -1,
            "delay": 0.05,
            "max_delay": 1.0,
            "deadline": _Patience(outage or options["connect_timeout"]),
        },
    )
    login = _Login(client, options["connect_timeout"]) if options.get("sasl_mechanism") else None
    _Refusals(client)
    try:
        with named(client), chroot_named(client), translated(None):
            _start(client, options, last_words, login)
            yield client
    finally:
        _stop(client)


class _Patience:
    """The seconds that an outage may last, which kazoo adds to the time when one begins; they may change meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __radd__(self, begin: float) -> float:
        return begin + self.seconds


@contextlib.contextmanager
def outlasting(client: KazooClient, seconds: float) -> Iterator[None]:
    """Let an outage that begins inside the block last at least `seconds`, for a client from `connect`."""
    patience = client._connection.retry_sleeper.deadline
    if not isinstance(patience, _Patience):  # a client that was created elsewhere
        yield
        return
    before, patience.seconds = patience.seconds, max(patience.seconds, seconds)
    try:
        yield
    finally:
        patience.seconds = before


@contextlib.contextmanager
def chroot_named(client: KazooClient) -> Iterator[None]:
    """Have errors inside the block also report a missing chroot: that is why nothing is found."""
    try:
        yield
    except (ZooKeeperError, InvalidRecord) as exc:
        missing = missing_chroot(client)
        if missing:
            exc.args = (f"{exc}; {missing}",)
        raise


def missing_chroot(client: KazooClient) -> str:
    """The message about a missing chroot; empty if it exists, or if there is no answer."""
    with contextlib.suppress(kazoo_errors.KazooException, KazooTimeoutError):
        if client.chroot and client.connected and not client.exists_async("/").get(timeout=STOP_TIMEOUT):
            return f"{client.chroot}, the chroot in hosts, does not exist; create it first"
    return ""


def _check_timeout(seconds: float) -> None:
    if not 0 < seconds <= MOST_TO_CONNECT:
        expected = f"more than 0 seconds and at most {MOST_TO_CONNECT}"
        raise ConnectError(f"connect_timeout: expected {expected}, got {seconds:g}")


def _quiet_logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("zoo.deploy.kazoo", logging.WARNING)
    logger.addHandler(handler)
    return logger


class _Login:
    """Wraps kazoo's own way to connect: a login that was accepted once is retried for `seconds`.

    kazoo takes a server that stops during a login for one that refuses it, and stops the client for ever. `trouble` is
    Kerberos's reason if there was no login at all.
    """

    def __init__(self, client: KazooClient, seconds: float) -> None:
        self._kazoo_connect = client._connection._connect
        client._connection._connect = self._connect
        self._seconds = seconds
        self._taken = False
        self._refused_since: float | None = None
        self.trouble = ""

    def _connect(self, *server: Any) -> Any:
        try:
            timeouts = self._kazoo_connect(*server)
        except Exception as exc:
            self.trouble = kerberos_trouble(exc)
            if not self.trouble and not isinstance(exc, kazoo_errors.AuthFailedError):
                raise
            since = self._refused_since = self._refused_since or time.monotonic()
            if not self._taken or time.monotonic() - since > self._seconds:
                raise kazoo_errors.AuthFailedError(self.trouble or str(exc)) from exc
            raise kazoo_errors.ConnectionDropped("the login was not taken") from exc
        self._taken, self._refused_since = True, None
        return timeouts


class _Refusals:
    """Wraps a client's requests: those refused right after a reconnection are repeated, during `SETTLING`.

    A refused request has done nothing, so repeating it is safe, even for a transaction.
    """

    def __init__(self, client: KazooClient) -> None:
        self._ask = client._call
        client._call = self._call
        self._was_connected = False
        self._settled_at = 0.0
        client.add_listener(self._note_state)

    def _note_state(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            if self._was_connected:
                self._settled_at = time.monotonic() + SETTLING
            self._was_connected = True

    def _call(self, request: Any, answer: Any) -> Any:
        take, fail = answer.set, answer.set_exception

        def unless_refused(give: Any, value: Any) -> None:
            if time.monotonic() < self._settled_at and _is_refused(value):
                again = threading.Timer(ASK_AGAIN, self._ask, (request, answer))
                again.daemon = True
                again.start()
            else:
                give(value)

        answer.set = lambda value=None: unless_refused(take, value)
        answer.set_exception = lambda exc: unless_refused(fail, exc)
        return self._ask(request, answer)


def _is_refused(answer: Any) -> bool:
    """Whether an answer, or a part of the answer to a combined request, is a refusal."""
    whole = answer[0] if isinstance(answer, tuple) else answer  # multiRead's also has its size
    answers = whole if isinstance(whole, list) else [whole]
    return any(isinstance(one, kazoo_errors.NoAuthError) for one in answers)


def _start(client: KazooClient, options: Mapping[str, Any], last_words: _LastWords, login: _Login | None) -> None:
    seconds = options["connect_timeout"]
    where = ",".join(f"{host}:{port}" for host, port in client.hosts)
    try:
        with warnings.catch_warnings():
            # kazoo warns of a missing chroot on the terminal; later requests report it too.
            warnings.simplefilter("ignore")
            client.start(timeout=seconds)
        if login:
            # kazoo reports a connection before the login has ended; an answer comes only after it.
            client.exists("/")
    except (KazooTimeoutError, kazoo_errors.KazooException) as exc:
        if login and login.trouble:
            raise ConnectError(f"can't log in to ZooKeeper at {where}: {login.trouble}") from exc
        if isinstance(exc, kazoo_errors.AuthFailedError):
            raise ConnectError(f"ZooKeeper at {where} refused the credentials") from exc
        why = f": {last_words.text}" if last_words.text else ""
        raise ConnectError(f"can't reach ZooKeeper at {where} within {seconds:g} s{why}") from exc


def _stop(client: KazooClient) -> None:
    """Close the session; `KazooClient.stop` may wait for ever, so it gets a thread and a time limit."""

    def end() -> None:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()

    ender = threading.Thread(target=end, daemon=True)
    with contextlib.suppress(RuntimeError):  # from a Python that is shutting down, and so starts no thread (3.12)
        ender.start()
        ender.join(STOP_TIMEOUT)


class Node(NamedTuple):
    """A znode as it was read: its value and its `ZnodeStat`."""

    path: str
    data: bytes
    stat: Any


class Listing(NamedTuple):
    """A znode with the names of its children, in no order, and its `ZnodeStat`."""

    path: str
    names: list[str]
    stat: Any


class MultiRead:
    """multiRead, ZooKeeper's request for many reads (opcode 22, server 3.6 and later), which kazoo does not have.

    `operations` are types and paths in UTF-8, including the chroot. The wire form is that of `MultiOperationRecord`
    and `MultiResponse` in ZooKeeper's source: a header (type, done, error) before each operation and each answer, and
    one with `done` set at the end. An operation that fails has an answer of type -1 with its own code, which does not
    affect the others.
    """

    type = 22

    def __init__(self, operations: Sequence[tuple[int, bytes]]) -> None:
        self.operations = operations

    def serialize(self) -> bytes:
        """The request's bytes; no operation sets a watch."""
        parts: list[bytes] = []
        for kind, path in self.operations:
            parts += _OPERATION.pack(kind, 0, -1, len(path)), path, b"\0"
        return b"".join([*parts, _HEADER.pack(-1, 1, -1)])

    @classmethod
    def deserialize(cls, answer: bytes, offset: int) -> tuple[list[Any], int]:
        """An answer for each operation (`(data, stat)`, names, or a kazoo exception); and the size in bytes."""
        answers: list[Any] = []
        last = len(answer) - _HEADER.size  # where the end mark is
        begins, stat_at, stat_of = _ANSWER.unpack_from, _STAT.unpack_from, ZnodeStat._make
        while offset < last:
            kind, _done, _code, length = begins(answer, offset)
            offset += _ANSWER.size
            if kind == GET_DATA:  # here and not in a function of its own: there may be tens of thousands
                end = offset + length if length > 0 else offset
                answers.append((answer[offset:end], stat_of(stat_at(answer, end))))
                offset = end + _STAT.size
            elif kind == GET_CHILDREN:
                names, offset = _read_names(answer, offset, length)
                answers.append(names)
            else:
                answers.append(kazoo_errors.EXCEPTIONS[length]())
        return answers, len(answer)


def _read_names(answer: bytes, offset: int, count: int) -> tuple[list[str], int]:
    names = []
    for _index in range(count):
        start = offset + _INT.size
        offset = start + _INT.unpack_from(answer, offset)[0]
        names.append(answer[start:offset].decode())
    return names, offset


def read_many(
    client: KazooClient, paths: Sequence[str], timeout: float = READ_TIMEOUT
) -> list[Node | ZooKeeperError | None]:
    """Every znode of `paths`, in order: a `Node`, None if it does not exist, a `ZooKeeperError` if it can't be read.

    `timeout` is in seconds, for all of them. Raises `ZooKeeperError` if there is no answer in time.
    """
    answers = _bulk_read(client, [(GET_DATA, path) for path in paths], timeout)
    return [_node(path, answer) for path, answer in zip(paths, answers)]


def list_many(
    client: KazooClient, paths: Sequence[str], timeout: float = READ_TIMEOUT
) -> list[Listing | ZooKeeperError | None]:
    """Every znode of `paths` with its children's names, in order: a `Listing`, or None and errors as in `read_many`.

    The stat may be slightly older than the names, never newer: as long as `pzxid` is the same, so are the names.
    """
    answers = _bulk_read(client, [(kind, path) for path in paths for kind in (GET_DATA, GET_CHILDREN)], timeout)
    return [_directory(path, node, names) for path, node, names in zip(paths, answers, answers)]


Answer = TypeVar("Answer", Node, Listing)


def checked(answer: Answer | ZooKeeperError | None) -> Answer | None:
    """An answer of `read_many` or `list_many`; if it is a `ZooKeeperError`, raises it."""
    if isinstance(answer, ZooKeeperError):
        raise answer
    return answer


def children(answer: Listing | ZooKeeperError | None) -> list[str]:
    """The names in an answer of `list_many`: none if the znode does not exist. Raises a `ZooKeeperError` answer."""
    listing = checked(answer)
    return listing.names if listing else []


def _node(path: str, answer: Any) -> Node | ZooKeeperError | None:
    if isinstance(answer, Exception):
        return _failure(path, answer)
    return Node(path, answer[0] or b"", answer[1])


def _directory(path: str, node: Any, names: Any) -> Listing | ZooKeeperError | None:
    for answer in (node, names):
        if isinstance(answer, Exception):
            return _failure(path, answer)
    return Listing(path, names, node[1])


def _failure(path: str, exc: Exception) -> ZooKeeperError | None:
    """None if the znode does not exist, otherwise the error for a person."""
    if isinstance(exc, kazoo_errors.NoNodeError):
        return None
    error = ZooKeeperError(f"{path}: {explain(exc)}", path=path)
    error.__cause__ = exc
    return error


def _bulk_read(client: KazooClient, operations: Sequence[tuple[int, str]], timeout: float) -> Iterator[Any]:
    """The result from kazoo for each operation, or its exception: by multiRead, or one by one if that is refused."""
    deadline = time.monotonic() + timeout
    servers = frozenset(client.hosts)
    done = 0
    with translated(None):
        if _KNOW_MULTI_READ.get(servers, True):
            try:
                for answers in _by_multi_read(client, operations, deadline):
                    if answers:
                        _KNOW_MULTI_READ[servers] = True
                    yield from answers
                    done += len(answers)
            except kazoo_errors.UnimplementedError:
                _KNOW_MULTI_READ[servers] = False
            except kazoo_errors.ConnectionLoss:
                # The request may or may not be the cause; if it isn't, the next reads only take longer.
                _KNOW_MULTI_READ.setdefault(servers, False)
        if done < len(operations):
            yield from _one_by_one(client, operations[done:], deadline)


_KNOW_MULTI_READ: dict[frozenset[tuple[str, int]], bool] = {}
"""Which servers know multiRead: ZooKeeper 3.5 and earlier answers Unimplemented, ClickHouse Keeper hangs up."""


def _by_multi_read(
    client: KazooClient, operations: Sequence[tuple[int, str]], deadline: float
) -> Iterator[Sequence[Any]]:
    """The answers, chunk by chunk; the next ones are already pending, so that the server works meanwhile.

    A chunk is as large as the previous answer suggests: a server builds an answer in memory as a whole, and one of
    10 MB crashes a server with a small heap.
    """
    answers: Sequence[Any] = ()
    pending: collections.deque[Any] = collections.deque()
    start, count = 0, FIRST_CHUNK
    while start < len(operations) or pending:
        while start < len(operations) and len(pending) < (CHUNKS_UNDER_WAY if answers else 1):
            request = MultiRead(_chunk(client.chroot, operations[start : start + count]))
            pending.append(client.handler.async_result())
            client._call(request, pending[-1])
            start += len(request.operations)
        yield answers
        answers, size = _settled(pending.popleft(), deadline)
        count = max(1, min(count * 8, CHUNK_COUNT, CHUNK_BYTES * len(answers) // size))
    yield answers


def _chunk(chroot: str, operations: Sequence[tuple[int, str]]) -> list[tuple[int, bytes]]:
    """The first operations, at least one, whose paths fit into a request; with the chroot before each."""
    chosen: list[tuple[int, bytes]] = []
    size = 0
    for kind, path in operations:
        whole = (chroot + path).encode().rstrip(b"/") or b"/"
        size += len(whole)
        if chosen and size > CHUNK_BYTES:
            break
        chosen.append((kind, whole))
    return chosen


def _one_by_one(client: KazooClient, operations: Sequence[tuple[int, str]], deadline: float) -> list[Any]:
    """Request each on its own, all at once; again after a lost connection: a server refuses multiRead by hanging up."""
    ask = {GET_DATA: client.get_async, GET_CHILDREN: client.get_children_async}
    answers: dict[int, Any] = {}
    while len(answers) < len(operations):
        client.sync_async("/")  # this connection's server may be behind that of the last one
        left = [(index, ask[kind](path)) for index, (kind, path) in enumerate(operations) if index not in answers]
        for index, request in left:
            try:
                answers[index] = _settled(request, deadline)
            except (kazoo_errors.NoNodeError, kazoo_errors.NoAuthError) as exc:
                answers[index] = exc
            except kazoo_errors.ConnectionLoss:
                if time.monotonic() > deadline:
                    raise
    return [answers[index] for index in range(len(operations))]


def _settled(request: Any, deadline: float) -> Any:
    """The answer; kazoo holds requests back for ever while there is no connection, so the wait has a limit."""
    return request.get(timeout=max(deadline - time.monotonic(), 0.001))
