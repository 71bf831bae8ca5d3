# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connection options mean to kazoo, what is wrong with them, and what kazoo's errors mean to a person.

Modules, lookups, inventory, event source, git hook and agent share this file. Nothing here opens a session: a client is
created and not started.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from .addresses import Addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Found = TypeVar("Found")

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.client import KazooClient
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:
    KAZOO_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    KAZOO_IMPORT_ERROR = None

CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str"},
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
"""The options, in the form of Ansible's argument specs; documented in the doc fragment `zoo.deploy.zookeeper`."""


def environment_variable(option: str) -> str:
    """The environment variable that modules and plugins use if a connection option is not given."""
    return f"ZK_{option.upper()}"


MOST = 1e9
"""The most seconds, and of anything else: a thread can't wait for much more."""
MOST_TO_CONNECT = 1_000_000
"""The most seconds to connect: they are also the session timeout, whose milliseconds have 31 bits."""
ENDED = 2
"""After how many session timeouts without a server a session is over."""


class ZooKeeperError(Exception):
    """What went wrong, in one line. `details` are facts for the result, such as `path`."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class ConnectError(ZooKeeperError):
    """No session could be opened: wrong options, wrong address, refused credentials, or an ensemble that is down."""


class Overtaken(ZooKeeperError):
    """Somebody else changed a znode between the read and the transaction; it is worth another look."""


class MissingLibraryError(ZooKeeperError):
    """The Python that runs this lacks `library`, which is needed for `purpose` if that is set."""

    def __init__(self, library: str, purpose: str = "", **details: Any) -> None:
        needed = f", needed for {purpose}" if purpose else ""
        super().__init__(f"the Python library {library} is missing{needed}; install it for {sys.executable}", **details)
        self.library = library
        self.purpose = purpose


def check_amounts(options: Mapping[str, Any], *names: str) -> None:
    """Raise a `ZooKeeperError` if one of these options is below 0, or more than anybody could wait for."""
    for name in names:
        if not options[name] >= 0:  # so that NaN is refused
            raise ZooKeeperError(f"{name}: expected 0 or more, got {options[name]:g}")
        if options[name] > MOST:
            raise ZooKeeperError(f"{name}: expected at most {MOST:g}, got {options[name]:g}")


def is_outage(exc: ZooKeeperError) -> bool:
    """Whether it only means that the ensemble, or the way to it, does not answer now; not that it refuses something."""
    passing = (kazoo_errors.ConnectionLoss, kazoo_errors.ConnectionClosedError, kazoo_errors.SessionExpiredError)
    return isinstance(exc.__cause__, (*passing, KazooTimeoutError))


def unless_refused(look: Callable[[], Found], otherwise: Found) -> Found:
    """The result of `look`; `otherwise` if the ensemble refuses it, as by an ACL. Raises the error of an outage."""
    try:
        return look()
    except ZooKeeperError as exc:
        if is_outage(exc):
            raise
        return otherwise


def make_client(options: Mapping[str, Any], **arguments: Any) -> KazooClient:
    """A client for the options, not started; `arguments` are kazoo's own. Raises the first of `mistakes`."""
    for mistake in mistakes(options):
        raise mistake
    try:
        client = KazooClient(
            hosts=host_string(options["hosts"]),
            auth_data=_auth_data(options),
            sasl_options=_sasl_options(options),
            **_tls_options(options),
            **arguments,
        )
    except (ValueError, TypeError, kazoo_errors.KazooException) as exc:
        raise ConnectError(f"hosts: {exc}") from exc
    client.handler.create_socket_pair = lambda: (Wakes(),) * 2
    Addresses(client)
    return client


class Wakes:
    """Both ends of what wakes kazoo's connection thread: kazoo sends a byte for each request, and takes one out.

    kazoo's own is a pair of sockets that holds some 280 bytes. Without a connection nothing takes any out, so more
    requests at a time would block until a server is back, whatever their timeout. Here one byte stands for all of them.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._lock = threading.Lock()
        self._count = 0

    def fileno(self) -> int:
        """A descriptor that is readable while there is a byte."""
        return self._reader.fileno()

    def send(self, data: bytes) -> int:
        """Add bytes, without waiting. Raises `OSError` once closed."""
        with self._lock:
            if not self._count:
                self._writer.send(data[:1])
            self._count += len(data)
        return len(data)

    def recv(self, _size: int) -> bytes:
        """Take one byte out."""
        with self._lock:
            if self._count > 1:
                self._count -= 1
                return b"\0"
            self._count = 0
            return self._reader.recv(1)

    def close(self) -> None:
        """Close it; kazoo closes each of the ends."""
        with self._lock:
            self._count = 0
            self._reader.close()
            self._writer.close()


def forget_transactions(client: KazooClient) -> None:
    """Let a client, whose session is over, be accepted by an ensemble that was rebuilt.

    A server refuses, for ever, a client that has seen a later transaction than its own last one.
    """
    client.last_zxid = 0


def mistakes(options: Mapping[str, Any]) -> Iterator[ZooKeeperError]:
    """Everything known to be wrong with the options before anything is sent, as one-line errors."""
    if KAZOO_IMPORT_ERROR is not None:
        yield MissingLibraryError("kazoo", exception=KAZOO_IMPORT_ERROR)
        return
    checks = (_check_hosts, _check_encoding, _check_digest, _check_sasl, check_tls_is_on)
    for check in (*checks, _check_ca, _check_certificate, _check_hostname_check):
        try:
            check(options)
        except ZooKeeperError as exc:
            yield exc


def _check_hosts(options: Mapping[str, Any]) -> None:
    """What kazoo would notice only while resolving names, in a thread that this ends; and port 0, its default."""
    members = host_string(options["hosts"]).split("/", maxsplit=1)[0].split(",")
    for member in members:
        name = member.rpartition(":")[0] or member
        try:
            name.encode("idna")
        except UnicodeError:
            raise ConnectError(f"hosts: {member!r} is not a host name") from None
        if not _has_valid_port(member):
            raise ConnectError(f"hosts: expected host:port with a port from 1 to 65535, got {member!r}")


def _has_valid_port(member: str) -> bool:
    """Whether its port, if any, is one that a server can have."""
    try:
        return urlsplit(f"//{member}").port != 0
    except ValueError:
        return False


def host_string(hosts: str | Sequence[str] | None) -> str:
    """The connection string in the option `hosts`: `a:2181,b:2181/chroot`, the chroot after the last or each of them.

    Raises `ConnectError` if it is empty, or if only some members have the chroot, or different ones.
    """
    given = [hosts] if isinstance(hosts, str) else [str(host) for host in hosts or []]
    joined = ",".join(host.strip() for host in given if host.strip())
    if not joined:
        raise ConnectError("hosts: none given; set the option, or ZK_HOSTS in the environment")
    members, slashes, chroots = zip(*(member.partition("/") for member in joined.split(",")))
    if not any(members):
        raise ConnectError(f"hosts: expected a member before the chroot, got {joined!r}")
    if any(slashes[:-1]) and len(set(chroots)) > 1:
        raise ConnectError(f"hosts: expected one chroot, after the last member, got {joined!r}")
    return f"{','.join(members)}{slashes[-1]}{chroots[-1]}"


def _check_digest(options: Mapping[str, Any]) -> None:
    if bool(options.get("digest_username")) != bool(options.get("digest_password")):
        raise ConnectError("digest_username and digest_password: give both or neither")


def _check_encoding(options: Mapping[str, Any]) -> None:
    """Refuse lone surrogates, with which Python represents a byte of the environment that is not text."""
    for name in (name for name, spec in CONNECTION_OPTIONS.items() if spec["type"] == "str"):
        try:
            (options.get(name) or "").encode()
        except UnicodeError:
            raise ConnectError(f"{name}: expected text in UTF-8") from None


def _auth_data(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    username = options.get("digest_username")
    return [("digest", f"{username}:{options.get('digest_password')}")] if username else []


def _check_sasl(options: Mapping[str, Any]) -> None:
    mechanism = options.get("sasl_mechanism")
    if not mechanism:
        return
    if importlib.util.find_spec("puresasl") is None:
        raise MissingLibraryError("pure-sasl", "sasl_mechanism")
    if mechanism not in importlib.import_module("puresasl.mechanisms").mechanisms:
        raise MissingLibraryError("kerberos", f"sasl_mechanism {mechanism}")
    if mechanism == "DIGEST-MD5" and not (options.get("sasl_username") and options.get("sasl_password")):
        raise ConnectError("sasl_username and sasl_password: DIGEST-MD5 needs both")


def _sasl_options(options: Mapping[str, Any]) -> dict[str, str] | None:
    names = ("mechanism", "service", "username", "password", "principal")
    given = {name: options.get(f"sasl_{name}") for name in names}
    return {name: value for name, value in given.items() if value} if given["mechanism"] else None


def kerberos_trouble(exc: BaseException) -> str:
    """Why the Kerberos library has no ticket for a server, in one line; empty if something else went wrong.

    kazoo takes that for a refusal unless it ends the connection's thread. This does not import the library.
    """
    for error in (exc, exc.__cause__):
        if error is not None and type(error).__module__ == "kerberos":
            # Pairs of a message and a code, the most specific one last.
            reason = error.args[-1] if error.args else error
            return f"Kerberos: {reason[0] if isinstance(reason, tuple) else reason}"
    return ""


def check_tls_is_on(options: Mapping[str, Any]) -> None:
    """Raise a `ConnectError` if there are TLS options, but `tls` is off: an option such as a CA implies TLS."""
    if options.get("tls"):
        return
    specs = {name: spec for name, spec in CONNECTION_OPTIONS.items() if name.startswith("tls_")}
    given = [name for name, spec in specs.items() if options.get(name) not in (None, "", spec.get("default"))]
    if given:
        raise ConnectError(f"{', '.join(given)}: given without tls, so nothing would be encrypted; set tls: true")


def check_tls_files(options: Mapping[str, Any]) -> None:
    """Raise a `ConnectError` if a file of the TLS options does not exist, or is not what it should be."""
    _check_ca(options)
    _check_certificate(options)


def _check_ca(options: Mapping[str, Any]) -> None:
    """Read the file as a connection will: kazoo would try again and again, and blame the ensemble."""
    path = _existing(options, "tls_ca")
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as exc:
        raise ConnectError(f"tls_ca: no certificates in PEM form in {path}: {exc}") from exc


def _check_certificate(options: Mapping[str, Any]) -> None:
    certificate, key = (_existing(options, name) for name in ("tls_cert", "tls_key"))
    if certificate is None and key:
        raise ConnectError("tls_key: given without tls_cert")
    if certificate is None:
        return
    # An empty password, so that OpenSSL does not ask for one on the terminal.
    password = options.get("tls_key_password") or ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as exc:
        raise ConnectError(f"tls_cert, tls_key or tls_key_password: can't be read, or don't match: {exc}") from exc


def _existing(options: Mapping[str, Any], name: str) -> str | None:
    path = options.get(name) if options.get("tls") else None
    if path and not os.path.isfile(path):
        raise ConnectError(f"{name}: no file at {path}")
    return path or None


def _check_hostname_check(options: Mapping[str, Any]) -> None:
    if _checks_hostname(options) and "check_hostname" not in KazooClient.__init__.__code__.co_varnames:
        raise ConnectError("tls_check_hostname: this kazoo can't do it; install 2.11 or later, or set it to false")


def _checks_hostname(options: Mapping[str, Any]) -> bool:
    return bool(options.get("tls") and options["tls_verify"] and options["tls_check_hostname"])


def _tls_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if not options.get("tls"):
        return {}
    return {
        "use_ssl": True,
        "ca": options.get("tls_ca"),
        "certfile": options.get("tls_cert"),
        # kazoo uses a certificate only with a key; both may be in one file.
        "keyfile": options.get("tls_key") or options.get("tls_cert"),
        "keyfile_password": options.get("tls_key_password"),
        "verify_certs": options["tls_verify"],
        # Passed only if needed: kazoo has it since 2.11.
        **({"check_hostname": True} if _checks_hostname(options) else {}),
    }


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
    """What a kazoo exception means to a person, and what to do about it."""
    for name, text in _MEANINGS.items():
        if isinstance(exc, getattr(kazoo_errors, name, ())):  # older versions of kazoo don't have all of them
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
    "SessionExpiredError": "the session has expired (SessionExpired)",
    "ConnectionLoss": "the connection was lost before the answer came (ConnectionLoss); it may have been done",
    "QuotaExceededError": "exceeds a quota of the path or of one above it (QuotaExceeded); see /zookeeper/quota",
    "ConnectionClosedError": "the connection was closed (ConnectionClosed)",
    "RuntimeInconsistency": "not done, because another operation of the same transaction failed",
    "RolledBackError": "not done, because another operation of the same transaction failed",
}
