# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration: one JSON object in a file, checked as a whole before anything is started."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from zoo_watcher.errors import ConfigError
from zoo_watcher.frozen import dataclass
from zoo_watcher.wire.records import (
    DEFAULT_APP,
    AppPaths,
    check_node_name,
    check_path,
    check_published_url,
    check_relative_path,
    quote,
    url_scheme,
    whose,
    without_userinfo,
)
from zoo_watcher.wire.znode_names import has_control

from .allowed_urls import check_beginning
from .credentials import take_credentials
from .document import read_document
from .environment import take_environment
from .object_reader import ObjectReader, command_words, nameable, unit_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .managed_file import ManagedFile

FORMATS = ("seed", "nerve", "serverset", "curator")
SCHEMES = ("https", "ssh", "git", "http", "file")
DEFAULT_SCHEMES = ("https", "ssh")
"""Those that are encrypted and authenticate the server."""
TARGET = re.compile(r"/[!-~]*")
"""The target of a request: a space would end it."""
ADDRESS = re.compile(r"[^\W_][\w.-]{0,252}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?")
"""A host name or an IP address, as accepted by readers of the registration."""
MOST_LABELS = 64
LONGEST_LABEL = 255
"""Characters that a label, and its key, may have."""
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Check:
    """What proves a service healthy: a TCP connection, an HTTP or HTTPS response, or a command that exits with 0.

    Times are seconds; `rise` and `fall` count answers in a row. `tls_...` are for HTTPS: the authority (None: the
    host's own), a client certificate with its key, and the name in the service's certificate if that is not `host`.
    """

    type: str
    host: str
    port: int
    path: str = "/"
    status: int = 200
    body: str | None = None
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 1
    fall: int = 2
    command: tuple[str, ...] = ()
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None
    tls_verify: bool = True


@dataclass(frozen=True)
class Hooks:
    """Commands of this host, each a list of words, run without a shell; empty if there is none."""

    before_activate: tuple[str, ...] = ()
    after_activate: tuple[str, ...] = ()
    before_rollback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """One registration: the ephemeral `path`/`id`, held while `check` passes. `address` None: the host's own."""

    path: str
    id: str
    port: int
    address: str | None
    format: str
    check: Check


@dataclass(frozen=True)
class Connection:
    """How the ensemble is reached; the names of the collection's connection options."""

    hosts: str
    session_timeout: float = 10.0
    digest_username: str | None = None
    digest_password: str | None = field(default=None, repr=False)
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_service: str = "zookeeper"
    sasl_principal: str | None = None
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_key_password: str | None = field(default=None, repr=False)
    tls_verify: bool = True
    tls_check_hostname: bool = True


@dataclass(frozen=True)
class Config:
    """The whole configuration of an agent. Times are seconds."""

    connection: Connection
    base: Path
    name: str
    app: AppPaths = field(default_factory=AppPaths)
    services: tuple[Service, ...] = ()
    allowed_schemes: tuple[str, ...] = DEFAULT_SCHEMES
    allowed_urls: tuple[str, ...] = ()
    keep_releases: int = 5
    health_timeout: float = 30.0
    healthy_for: float = 0.0
    fetch_timeout: float = 300.0
    git_mirrors: tuple[tuple[str, str], ...] = ()
    fetch_rate: int = 100
    activation_rate: int = 500
    max_release_bytes: int = 10_000_000_000
    max_release_files: int = 200_000
    min_free_bytes: int | None = None
    min_free_inodes: int | None = None
    ssh_key: str | None = None
    ssh_known_hosts: str | None = None
    git_credentials: str | None = None
    require_signature: str | None = None
    revoked_signers: str | None = None
    openpgp_signers: str | None = None
    hard_links: bool = True
    allow_outside_symlinks: bool = False
    shared_paths: tuple[str, ...] = ()
    hooks: Hooks = field(default_factory=Hooks)
    hook_timeout: float = 60.0
    restart_units: tuple[str, ...] = ()
    drain_seconds: float = 0.0
    rollback_when_isolated: float = 0.0
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"
    files: tuple[ManagedFile, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    log_level: str = "info"
    file: str | None = None
    """The file it was read from."""

    @property
    def signers(self) -> tuple[str | None, ...]:
        """The files by which the signature of a commit is verified."""
        return self.require_signature, self.revoked_signers, self.openpgp_signers

    @classmethod
    def from_file(cls, path: str) -> Config:
        """The configuration in a file. Raises `ConfigError` with every mistake in it."""
        return replace(cls.from_object(read_document(path)), file=os.path.abspath(path))

    @classmethod
    def from_object(cls, document: Mapping[str, Any]) -> Config:
        """The configuration in a decoded JSON object. Raises `ConfigError` with every mistake in it."""
        mistakes: list[str] = []
        reader = ObjectReader(document, "", mistakes)
        take_credentials(reader)
        take_environment(reader)
        config = _config(reader)
        if mistakes:
            raise ConfigError(mistakes)
        return config

    def refuse_restart_of(self, unit: str) -> None:
        """Raises `ConfigError` if the agent is to restart this unit, its own."""
        files = {f"files[{number}].": file.restart_units for number, file in enumerate(self.files)}
        places = [where for where, units in {"": self.restart_units, **files}.items() if unit in units]
        if places:
            why = f"{unit} is the unit of this agent, which can't restart itself: take it out"
            raise ConfigError([f"{where}restart_units: {why}" for where in places])

    def without_restart_of(self, unit: str) -> Config:
        """The same configuration without a restart of this unit."""

        def others(units: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(one for one in units if one != unit)

        files = tuple(replace(file, restart_units=others(file.restart_units)) for file in self.files)
        return replace(self, restart_units=others(self.restart_units), files=files)


def _config(reader: ObjectReader) -> Config:
    name = reader.text("name") or socket.gethostname()
    reader.checked("name", name, lambda value: check_node_name(value, "name"))
    app = reader.checked("app", reader.text("app", DEFAULT_APP), AppPaths)
    base = _base(reader)
    schemes = _schemes(reader)
    config = Config(
        connection=_connection(reader),
        base=Path(base),
        name=name,
        app=app,
        services=_services(reader, name, app),
        allowed_schemes=schemes,
        allowed_urls=_allowed_urls(reader, schemes),
        keep_releases=reader.whole("keep_releases", 2, 1000, 5),
        health_timeout=reader.seconds("health_timeout", 0.1, 86400, 30.0),
        healthy_for=reader.seconds("healthy_for", 0, 86400, 0.0),
        fetch_timeout=reader.seconds("fetch_timeout", 1, 86400, 300.0),
        git_mirrors=_mirrors(reader, schemes),
        fetch_rate=reader.whole("fetch_rate", 1, 1_000_000, 100),
        activation_rate=reader.whole("activation_rate", 1, 1_000_000, 500),
        max_release_bytes=reader.whole("max_release_bytes", 1, 2**63 - 1, 10_000_000_000),
        min_free_bytes=reader.whole("min_free_bytes", 0, 2**63 - 1),
        min_free_inodes=reader.whole("min_free_inodes", 0, 2**63 - 1),
        max_release_files=reader.whole("max_release_files", 1, 10_000_000, 200_000),
        ssh_key=_secret_file(reader, "ssh_key"),
        ssh_known_hosts=reader.text("ssh_known_hosts"),
        git_credentials=_secret_file(reader, "git_credentials"),
        **_signers(reader),
        hard_links=reader.flag("hard_links", default=True),
        allow_outside_symlinks=reader.flag("allow_outside_symlinks", default=False),
        shared_paths=_shared_paths(reader),
        hooks=_hooks(reader),
        hook_timeout=reader.seconds("hook_timeout", 0.1, 86400, 60.0),
        restart_units=unit_names(reader),
        drain_seconds=reader.seconds("drain_seconds", 0, 3600, 0.0),
        rollback_when_isolated=reader.seconds("rollback_when_isolated", 0, 86400, 0.0),
        metrics_port=reader.whole("metrics_port", 1, 65535),
        metrics_address=reader.take("metrics_address", "an IP address", _is_ip_address, "127.0.0.1"),
        files=_files(reader, base, _status_path(app, name)),
        labels=_labels(reader),
        log_level=reader.choice("log_level", LOG_LEVELS, "info"),
    )
    reader.reject_unknown()
    return config


def _base(reader: ObjectReader) -> str:
    base = reader.text("base")
    if base is None:
        reader.wrong("base", "missing: expected the absolute path of the directory for releases")
    elif not os.path.isabs(base) or not nameable(base):
        reader.wrong("base", f"expected an absolute path, got {quote(base)}")
    elif not os.path.normpath(base).strip("/"):
        reader.wrong("base", "expected a directory for the releases alone, got the root directory")
    return base or "/"


def _status_path(app: AppPaths | str, name: str) -> str:
    # Anything but a path is a mistake that has already been noted.
    return app.agent(name) if isinstance(app, AppPaths) else ""


def _connection(reader: ObjectReader) -> Connection:
    given = reader.take("hosts", "host:port,... as a string or a list of strings", _is_hosts, "")
    hosts = given if isinstance(given, str) else ",".join(given)
    if not hosts.strip(", ") and not reader.noted("hosts"):
        reader.wrong("hosts", "missing: expected the members of the ensemble as host:port,..., here or in ZK_HOSTS")
    for member in hosts.split(","):
        name, _colon, port = member.partition("/")[0].strip().rpartition(":")
        if name and not name.endswith(":") and not (port.isdecimal() and 0 < int(port) < 65536) and "]" not in port:
            reader.wrong("hosts", f"expected a port from 1 to 65535 after {quote(name)}, got {quote(port)}")
    texts = ("digest_username", "digest_password", "sasl_username", "sasl_password", "sasl_principal")
    files = ("tls_ca", "tls_cert", "tls_key", "tls_key_password")
    connection = Connection(
        hosts=hosts,
        session_timeout=reader.seconds("session_timeout", 0.1, 3600, 10.0),
        sasl_mechanism=reader.choice("sasl_mechanism", ("DIGEST-MD5", "GSSAPI")),
        sasl_service=reader.text("sasl_service", "zookeeper"),
        tls=reader.flag("tls", default=False),
        tls_verify=reader.flag("tls_verify", default=True),
        tls_check_hostname=reader.flag("tls_check_hostname", default=True),
        **{key: reader.text(key) for key in (*texts, *files)},
    )
    if bool(connection.digest_username) != bool(connection.digest_password):
        reader.wrong("digest_username", "give both this and digest_password, or neither")
    return connection


def _secret_file(reader: ObjectReader, key: str) -> str | None:
    """A file that contains a secret: anybody else who could read it could use it."""
    path: str | None = reader.text(key)
    if path is None:
        return None
    if not nameable(path):
        reader.wrong(key, f"expected a path, got {quote(path)}")
        return path
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        reader.wrong(key, f"{path}: {exc.strerror}")
        return path
    if mode & 0o077:
        reader.wrong(key, f"{path} can be read by others (mode {mode & 0o777:04o}); make it 0600")
    return path


def _readable_file(reader: ObjectReader, key: str) -> str | None:
    path: str | None = reader.text(key)
    if path is not None and not (nameable(path) and os.path.isfile(path)):
        reader.wrong(key, f"no file at {quote(path)}")
    return path


def _signers(reader: ObjectReader) -> dict[str, str | None]:
    """The files of those who may sign, of revoked keys, and of those who may sign commits with OpenPGP."""
    further = ("revoked_signers", "openpgp_signers")
    files = {key: _readable_file(reader, key) for key in ("require_signature", *further)}
    for key in further:
        if files[key] is not None and files["require_signature"] is None:
            reader.wrong(key, "only with require_signature, the file of those who may sign")
    return files


def _hooks(reader: ObjectReader) -> Hooks:
    entry = reader.take("hooks", "an object", lambda value: isinstance(value, dict), {})
    inner = ObjectReader(entry, "hooks.", reader.mistakes)
    hooks = Hooks(*(command_words(inner, key) for key in ("before_activate", "after_activate", "before_rollback")))
    inner.reject_unknown()
    return hooks


def _shared_paths(reader: ObjectReader) -> tuple[str, ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)

    paths = tuple(reader.take("shared_paths", "a list of relative paths", fits, ()))
    for path in paths:
        reader.checked("shared_paths", path, check_relative_path)
        if any(path != other and path.startswith(f"{other}/") for other in paths) or paths.count(path) > 1:
            reader.wrong("shared_paths", f"{path} is repeated, or below another of them")
    return paths


def _is_ip_address(value: Any) -> bool:
    """Whether it is an IP address; a name would have to be looked up, for as long as name servers take."""
    try:
        socket.getaddrinfo(value.encode("ascii"), None, flags=socket.AI_NUMERICHOST)
    except (AttributeError, OSError, ValueError):
        return False
    return "\0" not in value


def _is_hosts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _schemes(reader: ObjectReader) -> tuple[str, ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(item in SCHEMES for item in value)

    return tuple(reader.take("allowed_schemes", f"a list of {', '.join(SCHEMES)}", fits, DEFAULT_SCHEMES))


def _allowed_urls(reader: ObjectReader, schemes: tuple[str, ...]) -> tuple[str, ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)

    # An empty list could mean all of them, or none.
    expected = "a list of beginnings of addresses such as https://git.example.org/shop/, or no such key"
    urls = tuple(reader.take("allowed_urls", expected, fits, ()))
    for url in urls:
        reader.checked("allowed_urls", url, lambda value: check_beginning(value, schemes))
    return urls


def _mirrors(reader: ObjectReader, schemes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(mirror, str) and key for key, mirror in value.items())

    mirrors = reader.take("git_mirrors", "an object of mirrors by the beginning of an address", fits, {})
    for beginning, mirror in mirrors.items():
        # A token in it would appear in the process list.
        reader.checked("git_mirrors", mirror, check_published_url)
        scheme = url_scheme(mirror)
        if not reader.noted("git_mirrors") and scheme not in schemes:
            reader.wrong("git_mirrors", f"{scheme} is not in allowed_schemes, for {quote(without_userinfo(beginning))}")
    return tuple(mirrors.items())


def _files(reader: ObjectReader, base: str, status: str) -> tuple[ManagedFile, ...]:
    if "files" not in reader.left:
        return ()
    # Imported here: an agent without files does not keep it in memory.
    from .managed_file import managed_files  # noqa: PLC0415

    return managed_files(reader, base, status)


def _labels(reader: ObjectReader) -> tuple[tuple[str, str], ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, dict) and len(value) <= MOST_LABELS and all(map(_is_word, [*value, *value.values()]))

    wanted = f'an object of at most {MOST_LABELS} one-line strings such as {{"zone": "a"}}'
    return tuple(sorted(reader.take("labels", wanted, fits, {}).items()))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and not has_control(value)


def _services(reader: ObjectReader, name: str, app: AppPaths | str) -> tuple[Service, ...]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, dict) for item in value)

    entries = reader.take("services", "a list of objects", fits, [])
    services = [
        _service(ObjectReader(entry, f"services[{number}].", reader.mistakes), name)
        for number, entry in enumerate(entries)
    ]
    znodes = [(service.path, service.id) for service in services]
    for path, identity in sorted({znode for znode in znodes if znodes.count(znode) > 1}):
        reader.wrong("services", f"two with the path {path} and the id {identity}; give each its own id")
    for path, identity in znodes:
        # Anything but a path is a mistake that has already been noted.
        taken = whose(app, f"{path.rstrip('/')}/{identity}") if isinstance(app, AppPaths) else None
        if taken:
            reader.wrong("services", f"{taken}; choose another path")
    return tuple(services)


def _service(reader: ObjectReader, name: str) -> Service:
    for key in ("path", "port"):
        if reader.left.get(key) is None:
            reader.wrong(key, "missing")
    path = reader.checked("path", reader.text("path", "/"), check_path)
    identity = reader.checked("id", reader.text("id", name), lambda value: check_node_name(value, "id"))
    port = reader.whole("port", 1, 65535, 0)
    address = reader.text("address")
    if address is not None and not ADDRESS.fullmatch(address):
        reader.wrong("address", f"expected a name or an IP address, got {quote(address)}")
    entry = reader.take("check", "an object", lambda value: isinstance(value, dict), {})
    service = Service(
        path=path,
        id=identity,
        port=port,
        address=address,
        format=reader.choice("format", FORMATS, "seed"),
        check=_check(ObjectReader(entry, f"{reader.where}check.", reader.mistakes), port),
    )
    reader.reject_unknown()
    return service


def _check(reader: ObjectReader, port: int) -> Check:
    command = command_words(reader, "command")
    check = Check(
        type=reader.choice("type", ("tcp", "http", "https", "command"), "command" if command else "tcp"),
        host=reader.text("host", "127.0.0.1"),
        port=reader.whole("port", 1, 65535, port),
        path=reader.text("path", "/"),
        status=reader.whole("status", 100, 599, 200),
        body=reader.text("body"),
        interval=reader.seconds("interval", 0.05, 3600, 2.0),
        timeout=reader.seconds("timeout", 0.05, 600, 1.0),
        rise=reader.whole("rise", 1, 1000, 1),
        fall=reader.whole("fall", 1, 1000, 2),
        command=command,
        tls_ca=_readable_file(reader, "tls_ca"),
        tls_cert=_readable_file(reader, "tls_cert"),
        tls_key=_secret_file(reader, "tls_key"),
        tls_server_name=reader.text("tls_server_name"),
        tls_verify=reader.flag("tls_verify", default=True),
    )
    if check.type in {"http", "https"} and not TARGET.fullmatch(check.path):
        wanted = "one that begins with / and has ASCII characters only, any other as %20 and so on"
        reader.wrong("path", f"expected {wanted}, got {quote(check.path)}")
    if check.type != "https":
        for key, value in vars(check).items():
            if key.startswith("tls_") and value != getattr(Check, key):
                reader.wrong(key, f"allowed with the type https only, got {check.type}")
    if check.tls_key and not check.tls_cert:
        reader.wrong("tls_key", "given without tls_cert")
    if bool(command) != (check.type == "command"):
        reader.wrong("command", "required with the type command, not allowed with another")
    reader.reject_unknown()
    return check
