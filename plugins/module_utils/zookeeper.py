# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way in which modules, lookup and inventory reach an ensemble.

`connect` opens a session, once, and fails within `connect_timeout`; inside it every error of ZooKeeper's is a
`ZooKeeperError` whose text is one line for a person. Its options are `ARGSPEC`, documented in the doc fragment
`zoo.deploy.zookeeper`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ansible.module_utils.basic import env_fallback, missing_required_lib

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
def connect(options: Mapping[str, Any]) -> Iterator[KazooClient]:
    """A client with a session, from the connection options (`ARGSPEC`). Raises `ConnectError`."""
    last_words = _LastWords()
    client = _client(options, _quiet_logger(last_words))
    try:
        with translated(None):
            _start(client, options, last_words)
            yield client
    finally:
        _stop(client)


def _client(options: Mapping[str, Any], logger: logging.Logger) -> KazooClient:
    if KAZOO_IMPORT_ERROR is not None:
        raise ConnectError(missing_required_lib("kazoo"), exception=KAZOO_IMPORT_ERROR)
    try:
        return KazooClient(
            hosts=host_string(options["hosts"]),
            timeout=options["connect_timeout"],
            logger=logger,
            auth_data=_auth_data(options),
            sasl_options=_sasl_options(options),
            connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 1.0},
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
    return {
        "use_ssl": True,
        "ca": options.get("tls_ca"),
        "certfile": options.get("tls_cert"),
        "keyfile": options.get("tls_key"),
        "keyfile_password": options.get("tls_key_password"),
        "verify_certs": options["tls_verify"],
        "check_hostname": options["tls_verify"] and options["tls_check_hostname"],
    }


def _quiet_logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("zoo.deploy.kazoo", logging.WARNING)
    logger.addHandler(handler)
    return logger


def _start(client: KazooClient, options: Mapping[str, Any], last_words: _LastWords) -> None:
    seconds = options["connect_timeout"]
    refused: list[str] = []
    client.add_listener(lambda _state: refused.append("") if client.client_state == "AUTH_FAILED" else None)
    try:
        client.start(timeout=seconds)
    except KazooTimeoutError as exc:
        where = ",".join(f"{host}:{port}" for host, port in client.hosts)
        why = f": {last_words.text}" if last_words.text else ""
        if refused:
            raise ConnectError(f"ZooKeeper at {where} refused the credentials") from exc
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
    "ConnectionLoss": "the connection was lost before the answer came (ConnectionLoss); what was asked may have been done",
    "ConnectionClosedError": "the connection was closed (ConnectionClosed)",
    "RuntimeInconsistency": "not done, because another operation of the same transaction failed",
    "RolledBackError": "not done, because another operation of the same transaction failed",
}


def read_many(client: KazooClient, paths: Sequence[str]) -> list[Node | ZooKeeperError | None]:
    """Every znode of `paths`, in order: a `Node`, None where it is gone, a `ZooKeeperError` where it can't be read."""
    pending = [client.get_async(path) for path in paths]
    return [_answer(path, one.get) for path, one in zip(paths, pending)]


def _answer(path: str, get: Callable[[], Any]) -> Node | ZooKeeperError | None:
    try:
        with translated(path):
            data, stat = get()
    except ZooKeeperError as exc:
        return None if isinstance(exc.__cause__, kazoo_errors.NoNodeError) else exc
    return Node(path, data or b"", stat)
