# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way in which modules, lookup and inventory reach an ensemble.

`connect` opens a session, once, and fails within `connect_timeout`; inside it every error of ZooKeeper's is a
`ZooKeeperError` whose text is one line for a person. Its options are `ARGSPEC`, documented in the doc fragment
`zoo.deploy.zookeeper`.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import logging
import os
import ssl
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from .multi_read import GET_CHILDREN, GET_DATA, MultiRead

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.client import KazooClient
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:
    KAZOO_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    KAZOO_IMPORT_ERROR = None

STOP_TIMEOUT = 2.0
"""Seconds that ending a session may take; after that it is left to expire."""
READ_TIMEOUT = 30.0
"""Seconds within which a bulk read must end."""
FIRST_CHUNK = 4
"""How many reads the first request of a bulk read has; one after it has up to eight times as many as the one before."""
CHUNK_COUNT = 1000
"""How many reads a request has at most."""
CHUNK_BYTES = 400_000
"""How large a request may be, and how large its answer should be."""
CHUNKS_UNDER_WAY = 3
"""How many requests are under way at once, after the first has been answered: the server never waits for us."""

ARGSPEC: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True, "fallback": (env_fallback, ["ZK_HOSTS"])},
    "connect_timeout": {"type": "float", "default": 10.0},
    "digest_username": {"type": "str"},
    "digest_password": {"type": "str", "no_log": True},
    "sasl_mechanism": {"type": "str", "choices": ["DIGEST-MD5", "GSSAPI"]},
    "sasl_username": {"type": "str"},
    "sasl_password": {"type": "str", "no_log": True},
    "sasl_service": {"type": "str", "default": "zookeeper"},
    "sasl_principal": {"type": "str"},
    "tls": {"type": "bool", "default": False},
    "tls_ca": {"type": "path"},
    "tls_cert": {"type": "path"},
    "tls_key": {"type": "path"},
    "tls_key_password": {"type": "str", "no_log": True},
    "tls_verify": {"type": "bool", "default": True},
    "tls_check_hostname": {"type": "bool", "default": True},
}
"""The connection options, for `AnsibleModule(argument_spec=...)`."""


class ZnodeModule(AnsibleModule):
    """A module whose results name znodes: Ansible takes any `path` in a result for a file and describes that one."""

    def add_path_info(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The result as it is."""
        return kwargs


class ZooKeeperError(Exception):
    """What went wrong, in one line. `details` are facts for the result, such as `path`."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class ConnectError(ZooKeeperError):
    """No session could be had: wrong options, wrong address, refused credentials, or an ensemble that is down."""


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


class _LastWords(logging.Handler):
    """Keeps kazoo's last warning: the reason why it can't connect is said nowhere else."""

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
    """A client with a session, from the connection options (`ARGSPEC`). Raises `ConnectError`.

    `outage` is for how many seconds the ensemble may be away later on; `connect_timeout` where it is not given.
    """
    last_words = _LastWords()
    client = _client(options, outage or options["connect_timeout"], _quiet_logger(last_words))
    try:
        with translated(None):
            _start(client, options, last_words)
            yield client
    finally:
        _stop(client)


def _client(options: Mapping[str, Any], outage: float, logger: logging.Logger) -> KazooClient:
    if KAZOO_IMPORT_ERROR is not None:
        raise ConnectError(missing_required_lib("kazoo"), exception=KAZOO_IMPORT_ERROR)
    try:
        return KazooClient(
            hosts=host_string(options["hosts"]),
            timeout=options["connect_timeout"],
            logger=logger,
            auth_data=_auth_data(options),
            sasl_options=_sasl_options(options),
            # The deadline also ends a session that is lost midway: requests would wait in it for ever.
            connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 1.0, "deadline": outage},
            **_tls_options(options),
        )
    except (ValueError, TypeError, kazoo_errors.KazooException) as exc:
        raise ConnectError(f"hosts: {exc}") from exc


def host_string(hosts: str | Sequence[str] | None) -> str:
    """The connection string in the option `hosts`: `a:2181,b:2181/chroot`. Raises `ConnectError` where it is empty."""
    given = [hosts] if isinstance(hosts, str) else [str(host) for host in hosts or []]
    joined = ",".join(host.strip() for host in given if host.strip())
    if not joined:
        raise ConnectError("hosts: none given; set the option, or ZK_HOSTS in the environment")
    return joined


def _auth_data(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    username, password = options.get("digest_username"), options.get("digest_password")
    if bool(username) != bool(password):
        raise ConnectError("digest_username and digest_password: give both or neither")
    return [("digest", f"{username}:{password}")] if username else []


def _sasl_options(options: Mapping[str, Any]) -> dict[str, str] | None:
    mechanism = options.get("sasl_mechanism")
    if not mechanism:
        return None
    if importlib.util.find_spec("puresasl") is None:
        raise ConnectError(missing_required_lib("pure-sasl", reason="for sasl_mechanism"))
    if mechanism not in importlib.import_module("puresasl.mechanisms").mechanisms:
        raise ConnectError(missing_required_lib("kerberos", reason=f"for sasl_mechanism {mechanism}"))
    if mechanism == "DIGEST-MD5" and not (options.get("sasl_username") and options.get("sasl_password")):
        raise ConnectError("sasl_username and sasl_password: DIGEST-MD5 needs both")
    wanted = {
        "mechanism": mechanism,
        "service": options.get("sasl_service"),
        "username": options.get("sasl_username"),
        "password": options.get("sasl_password"),
        "principal": options.get("sasl_principal"),
    }
    return {key: value for key, value in wanted.items() if value}


def _tls_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if not options.get("tls"):
        return {}
    for name in ("tls_ca", "tls_cert", "tls_key"):
        if options.get(name) and not os.path.isfile(options[name]):
            raise ConnectError(f"{name}: no file at {options[name]}")
    _check_tls_files(options)
    return {
        "use_ssl": True,
        "ca": options.get("tls_ca"),
        "certfile": options.get("tls_cert"),
        "keyfile": options.get("tls_key"),
        "keyfile_password": options.get("tls_key_password"),
        "verify_certs": options["tls_verify"],
        **_hostname_check(options),
    }


def _hostname_check(options: Mapping[str, Any]) -> dict[str, bool]:
    """Asked for only where it is wanted: kazoo knows it from 2.11 on."""
    if not (options["tls_verify"] and options["tls_check_hostname"]):
        return {}
    if "check_hostname" not in KazooClient.__init__.__code__.co_varnames:
        raise ConnectError("tls_check_hostname: this kazoo can't do it; install 2.11 or later, or set it to false")
    return {"check_hostname": True}


def _check_tls_files(options: Mapping[str, Any]) -> None:
    """Read the files as a connection will: kazoo would try again and again, and blame the ensemble."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if options.get("tls_ca"):
            context.load_verify_locations(options["tls_ca"])
    except (OSError, ValueError) as exc:
        raise ConnectError(f"tls_ca: no certificates in PEM form in {options['tls_ca']}: {exc}") from exc
    try:
        if options.get("tls_cert"):
            # An empty password, so that OpenSSL does not ask the terminal for one.
            context.load_cert_chain(options["tls_cert"], options.get("tls_key"), options.get("tls_key_password") or "")
    except (OSError, ValueError) as exc:
        raise ConnectError(f"tls_cert, tls_key or tls_key_password: can't be read, or don't match: {exc}") from exc


def _quiet_logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("zoo.deploy.kazoo", logging.WARNING)
    logger.addHandler(handler)
    return logger


def _start(client: KazooClient, options: Mapping[str, Any], last_words: _LastWords) -> None:
    seconds = options["connect_timeout"]
    where = ",".join(f"{host}:{port}" for host, port in client.hosts)
    try:
        with warnings.catch_warnings():
            # Of a chroot that is not there kazoo warns on the terminal; what is then asked for says so too.
            warnings.simplefilter("ignore")
            client.start(timeout=seconds)
        if options.get("sasl_mechanism"):
            # kazoo says that it is connected before the login has ended; an answer comes only after it.
            client.exists("/")
    except kazoo_errors.AuthFailedError as exc:
        raise ConnectError(f"ZooKeeper at {where} refused the credentials") from exc
    except (KazooTimeoutError, kazoo_errors.KazooException) as exc:
        why = f": {last_words.text}" if last_words.text else ""
        raise ConnectError(f"can't reach ZooKeeper at {where} within {seconds:g} s{why}") from exc


def _stop(client: KazooClient) -> None:
    """End the session; `KazooClient.stop` may wait for ever, so it gets a thread and a time limit."""

    def end() -> None:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()

    ender = threading.Thread(target=end, daemon=True)
    ender.start()
    ender.join(STOP_TIMEOUT)


@contextlib.contextmanager
def translated(path: str | None) -> Iterator[None]:
    """Turn kazoo's errors inside the block into `ZooKeeperError`s that name `path`."""
    try:
        yield
    except ZooKeeperError:
        raise
    except _kazoo_exceptions() as exc:
        where = f"{path}: " if path else ""
        details = {"path": path} if path else {}
        raise ZooKeeperError(f"{where}{explain(exc)}", **details) from exc


def _kazoo_exceptions() -> tuple[type[BaseException], ...]:
    if KAZOO_IMPORT_ERROR is not None:
        return ()
    return (kazoo_errors.KazooException, KazooTimeoutError)


def explain(exc: BaseException) -> str:
    """What an exception of kazoo's means to a person, and what to do about it."""
    for name, text in _MEANINGS.items():
        if isinstance(exc, getattr(kazoo_errors, name)):
            return text
    if isinstance(exc, KazooTimeoutError):
        return "ZooKeeper did not answer in time; look at the ensemble"
    return f"{type(exc).__name__} {exc}".strip()


_MEANINGS = {
    "NoAuthError": "permission denied (NoAuth); the ACL does not allow this to the given credentials",
    "AuthFailedError": "the credentials were refused (AuthFailed)",
    "NoNodeError": "no such znode (NoNode)",
    "NodeExistsError": "the znode is there already (NodeExists)",
    "NotEmptyError": "the znode has children (NotEmpty); set recursive to delete them too",
    "BadVersionError": "the znode has changed since (BadVersion); read it again and decide anew",
    "NoChildrenForEphemeralsError": "an ephemeral znode can't have children (NoChildrenForEphemerals)",
    "InvalidACLError": "the ACL is not valid (InvalidACL)",
    "BadArgumentsError": "ZooKeeper refused the arguments (BadArguments)",
    "NotReadOnlyCallError": "the server is read-only now (NotReadOnly); the ensemble has lost its quorum",
    "SessionExpiredError": "the session has expired; run again",
    "ConnectionLoss": "the connection was lost before the answer came (ConnectionLoss); it may have been done",
    "ConnectionClosedError": "the connection was closed (ConnectionClosed)",
    "RuntimeInconsistency": "not done, because another operation of the same transaction failed",
    "RolledBackError": "not done, because another operation of the same transaction failed",
}


def read_many(
    client: KazooClient, paths: Sequence[str], timeout: float = READ_TIMEOUT
) -> list[Node | ZooKeeperError | None]:
    """Every znode of `paths`, in order: a `Node`, None where it is gone, a `ZooKeeperError` where it can't be read.

    `timeout` is in seconds, for all of them. Raises `ZooKeeperError` where there is no answer in time.
    """
    answers = _bulk_read(client, [(GET_DATA, path) for path in paths], timeout)
    return [_node(path, answer) for path, answer in zip(paths, answers)]


def list_many(
    client: KazooClient, paths: Sequence[str], timeout: float = READ_TIMEOUT
) -> list[Listing | ZooKeeperError | None]:
    """Every znode of `paths` with its children's names, in order: a `Directory`, or None and errors as in `read_many`.

    The stat may be a little older than the names, never newer: as long as `pzxid` stays, the names do.
    """
    answers = _bulk_read(client, [(kind, path) for path in paths for kind in (GET_DATA, GET_CHILDREN)], timeout)
    return [_directory(path, node, names) for path, node, names in zip(paths, answers, answers)]


Answer = TypeVar("Answer", Node, Listing)


def checked(answer: Answer | ZooKeeperError | None) -> Answer | None:
    """An answer of `read_many` or `list_many`; raises the `ZooKeeperError` that it may be instead."""
    if isinstance(answer, ZooKeeperError):
        raise answer
    return answer


def children(answer: Listing | ZooKeeperError | None) -> list[str]:
    """The names in an answer of `list_many`: none of a znode that is gone. Raises the `ZooKeeperError` it may be."""
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
    """None for a znode that is gone, the error for a person otherwise."""
    if isinstance(exc, kazoo_errors.NoNodeError):
        return None
    error = ZooKeeperError(f"{path}: {explain(exc)}", path=path)
    error.__cause__ = exc
    return error


def _bulk_read(client: KazooClient, operations: Sequence[tuple[int, str]], timeout: float) -> Iterator[Any]:
    """What kazoo gives for each operation, or its exception: by multiRead, one by one where that is refused."""
    deadline = time.monotonic() + timeout
    done = 0
    with translated(None):
        if client not in _REFUSED:
            try:
                for answers in _by_multi_read(client, operations, deadline):
                    yield from answers
                    done += len(answers)
            except kazoo_errors.UnimplementedError:
                _REFUSED.add(client)
        if done < len(operations):
            yield from _one_by_one(client, operations[done:], deadline)


_REFUSED: weakref.WeakSet[KazooClient] = weakref.WeakSet()
"""Clients whose server does not know multiRead (ZooKeeper 3.5 and earlier)."""


def _by_multi_read(
    client: KazooClient, operations: Sequence[tuple[int, str]], deadline: float
) -> Iterator[Sequence[Any]]:
    """The answers, chunk by chunk; the next ones are under way by then, so that the server works meanwhile.

    A chunk is as large as the answer before it allows: a server builds an answer in memory, whole, and one of 10 MB
    ends a server that has a small heap.
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
    """The first of the operations, one at least, whose paths fit into a request; with the chroot before each."""
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
    """Ask for each by itself, all at once; once more where the connection was lost: who refuses multiRead hangs up."""
    ask = {GET_DATA: client.get_async, GET_CHILDREN: client.get_children_async}
    found: dict[int, Any] = {}
    while len(found) < len(operations):
        asked = [(index, ask[kind](path)) for index, (kind, path) in enumerate(operations) if index not in found]
        for index, one in asked:
            try:
                found[index] = _settled(one, deadline)
            except (kazoo_errors.NoNodeError, kazoo_errors.NoAuthError) as exc:
                found[index] = exc
            except kazoo_errors.ConnectionLoss:
                if time.monotonic() > deadline:
                    raise
    return [found[index] for index in range(len(operations))]


def _settled(asked: Any, deadline: float) -> Any:
    """The answer; kazoo holds a request back for ever while there is no connection, so the wait has an end."""
    return asked.get(timeout=max(deadline - time.monotonic(), 0.001))
