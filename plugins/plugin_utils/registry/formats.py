# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats in which software registers itself in ZooKeeper; everything about a format stands at its reader.

`read` turns a child's name and data into an `Endpoint`, or raises `InvalidEntry`. Anybody who may write to the registry
can have written them, so an invalid address (such as an option for ssh) is refused.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import finite, quote

MAX_DEPTH = 32
"""How deep an entry's JSON may be nested."""

_HOST_NAME = re.compile(r"[^\W_][\w.-]{0,252}")
_IPV6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%[\w.-]+)?")
_HOST_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5})")
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidEntry(ValueError):
    """A child that can't be read; the message has the reason."""


class Endpoint(NamedTuple):
    """The content of one child: where its service is, and the rest as `data` (plain JSON values).

    `names_host` means that the child's name is the host's; `alive` is false if the entry itself says that it does not
    serve. `role` is the role in its cluster that it reports, `leader` if it leads; empty if it reports none.
    """

    address: str
    port: int | None
    data: Any
    names_host: bool = False
    alive: bool = True
    role: str = ""


Reader = Callable[[str, bytes], Endpoint]
Chooser = Callable[[Endpoint, str], Endpoint]


class Format(NamedTuple):
    """Everything about one format.

    `summary` completes the sentence `V(name) reads ...` in the documentation of the inventory plugin. A child whose
    name matches `name_pattern`, or whose decoded JSON `matches`, is taken as this format by `auto`. `reads_data` is
    false if the child's name holds everything. `at_listener` moves an endpoint to another listener that its data
    names, or raises `InvalidEntry`. `leader` is the name of a znode next to the registry whose value is the name of the
    leading child.
    """

    read: Reader
    summary: str
    name_pattern: re.Pattern[str] | None = None
    matches: Callable[[Any], bool] | None = None
    reads_data: bool = True
    at_listener: Chooser | None = None
    leader: str = ""


FORMATS: dict[str, Format] = {}
"""The formats by name. `auto` takes the first that fits, so more specific keys stand above less specific ones."""


def _format(name: str, summary: str, **signs: Any) -> Callable[[Reader], Reader]:
    """Make the decorated function the reader of a format. `signs` are the other fields of `Format`."""

    def add(reader: Reader) -> Reader:
        FORMATS[name] = Format(reader, summary, **signs)
        return reader

    return add


def _has(*keys: str) -> Callable[[Any], bool]:
    """Whether a JSON value is an object with these keys."""
    expected = set(keys)
    return lambda value: isinstance(value, dict) and expected <= value.keys()


def _is_address_list(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 2 and isinstance(value[0], str)


def read(registry_format: str, name: str, data: bytes, listener: str = "") -> Endpoint:
    """The endpoint in a child with this name and data, in one of `FORMATS`. Raises `InvalidEntry`.

    `listener` is for a format with several in an entry.
    """
    entry_format = FORMATS[registry_format]
    endpoint = entry_format.read(name, data)
    if listener and entry_format.at_listener:
        endpoint = entry_format.at_listener(endpoint, listener)
    if not is_address(endpoint.address):
        raise InvalidEntry(f"{quote(endpoint.address)} is neither a host name nor an IP address")
    return endpoint


def is_address(text: str) -> bool:
    """Whether `text` is a host name or an IP address, and so can't be taken for an option, a path or a command."""
    if ":" not in text:
        return _HOST_NAME.fullmatch(text) is not None
    parts = _IPV6.fullmatch(text)
    try:
        return parts is not None and ipaddress.ip_address(parts[1]).version == 6
    except ValueError:
        return False


@_format("auto", "each child in the format that its name and data look like")
def read_auto(name: str, data: bytes) -> Endpoint:
    """By a specific name, by its data, or by `host:port` as a name: last, since Dubbo 3 has such names with JSON."""
    reader = _reader_by_name(name) or _reader_by_data(data) or (read_host_port if _HOST_PORT.fullmatch(name) else None)
    if reader is None:
        raise InvalidEntry(f"neither its name nor its data is in a format known here; {_why_unknown(data)}")
    return reader(name, data)


def _why_unknown(data: bytes) -> str:
    """What is wrong with data meant to be JSON, or what to do about any other."""
    if data.lstrip()[:1] in {b"{", b"["}:
        try:
            _json(data)
        except InvalidEntry as exc:
            return str(exc)
    return "check the registry's path and set its format"


def _reader_by_name(name: str) -> Reader | None:
    return next((reader for pattern, reader in _NAME_PATTERNS if pattern.fullmatch(name)), None)


def _reader_by_data(data: bytes) -> Reader | None:
    try:
        value = _json(data)
    except InvalidEntry:
        return None
    return next((reader for matches, reader in _DATA_CONDITIONS if matches(value)), None)


@_format("seed", "what the agent of this collection registers", matches=_is_address_list)
def read_seed(_name: str, data: bytes) -> Endpoint:
    """`["127.0.0.1", "9099"]`; a host without a port is `["127.0.0.1"]`. The child's name is the host's."""
    entry = _json(data)
    if not isinstance(entry, list) or not 1 <= len(entry) <= 2:
        raise InvalidEntry(f'expected ["address", "port"], got {quote(entry)}')
    return Endpoint(_address(entry[0]), _port(entry[1] if len(entry) > 1 else None), entry, names_host=True)


@_format("host_port", "children that are called by their address, such as V(app.example.com:12345)")
def read_host_port(name: str, data: bytes) -> Endpoint:
    """`app.example.com:12345`, or a host alone, as the child's name; the data may be anything."""
    address, port = _host_port(name)
    return Endpoint(address, port, _decoded(data))


@_format(
    "dubbo",
    "the providers of Dubbo 2",
    name_pattern=re.compile(r"[A-Za-z][A-Za-z0-9+.-]*%3[Aa]%2[Ff]%2[Ff].+"),
    reads_data=False,
)
def read_dubbo(name: str, _data: bytes) -> Endpoint:
    """Dubbo 2: a URL-encoded provider URL as the child's name; `disabled=true` is not alive."""
    url = unquote(name)
    try:
        parts = urlsplit(url)
        address, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidEntry(f"{quote(url)} is not a provider URL: {exc}") from exc
    if not parts.scheme or not address:
        raise InvalidEntry(f"{quote(url)} is not a provider URL")
    parameters = dict(parse_qsl(_printable(parts.query), keep_blank_values=True))
    alive = parameters.get("disabled") != "true" and parameters.get("enabled") != "false" and parts.scheme != "empty"
    provider = {"protocol": parts.scheme, "path": _printable(parts.path).lstrip("/"), "parameters": parameters}
    return Endpoint(address, port, provider, alive=alive)


@_format("hiveserver2", "HiveServer2's instances", name_pattern=re.compile(r"serverUri=.+"), reads_data=False)
def read_hiveserver2(name: str, _data: bytes) -> Endpoint:
    """`serverUri=x1:10000;version=2.3.2;sequence=0000000792` as the child's name."""
    fields = dict(part.split("=", 1) for part in name.split(";") if "=" in part)
    if "serverUri" not in fields:
        raise InvalidEntry(f"{quote(name)}: expected serverUri=host:port;version=...;sequence=...")
    address, port = _host_port(fields["serverUri"])
    return Endpoint(address, port, fields)


_HBASE = re.compile(r"([^,]+),([0-9]{1,5}),([0-9]{1,19})")


@_format("hbase", "HBase's region servers", name_pattern=_HBASE, reads_data=False)
def read_hbase(name: str, _data: bytes) -> Endpoint:
    """A region server, `www.example.org,1234,1212121212` (host, port, start code) as the child's name."""
    parts = _HBASE.fullmatch(name)
    if not parts:
        raise InvalidEntry(f"{quote(name)}: expected host,port,startcode")
    return Endpoint(_address(parts[1]), _port(parts[2]), {"startcode": int(parts[3])})


@_format("serverset", "the serversets of Finagle and Aurora", matches=_has("serviceEndpoint"))
def read_serverset(_name: str, data: bytes) -> Endpoint:
    """`{"serviceEndpoint": {"host", "port"}, "additionalEndpoints", "status", "shard"}`; only ALIVE is alive."""
    member = _object(data)
    endpoint = member.get("serviceEndpoint")
    if not isinstance(endpoint, dict):
        raise InvalidEntry(f"serviceEndpoint: expected an object, got {quote(endpoint)}")
    alive = str(member.get("status", "ALIVE")).upper() == "ALIVE"
    return Endpoint(_address(endpoint.get("host")), _port(endpoint.get("port")), member, alive=alive)


def _at_kafka_listener(broker: Endpoint, listener: str) -> Endpoint:
    """The broker at its listener of this name, or else the first with this security protocol; both are upper case."""
    places = dict(_kafka_listeners(broker.data.get("endpoints")))
    protocols = broker.data.get("listener_security_protocol_map")
    wanted = listener.upper()
    if wanted not in places and isinstance(protocols, dict):
        wanted = next((name for name in places if protocols.get(name) == wanted), wanted)
    if wanted not in places:
        raise InvalidEntry(f"it has no listener {quote(listener)}, only {quote(list(places))}")
    address, port = _host_port(places[wanted])
    return broker._replace(address=address, port=port)


def _kafka_listeners(endpoints: Any) -> Iterator[tuple[str, str]]:
    """The name and `host:port` of each of `["EXTERNAL://host:port"]`."""
    for text in endpoints if isinstance(endpoints, list) else ():
        name, separator, place = text.partition("://") if isinstance(text, str) else ("", "", "")
        if separator:
            yield name, place


@_format("kafka", "Kafka's brokers", matches=_has("host", "port", "endpoints"), at_listener=_at_kafka_listener)
def read_kafka(_name: str, data: bytes) -> Endpoint:
    """A broker: `{"host", "port", "endpoints", "rack"}`; the first endpoint counts where `host` is null."""
    broker = _object(data)
    if broker.get("host") is not None:
        return Endpoint(_address(broker["host"]), _port(broker.get("port")), broker)
    endpoints = broker.get("endpoints")
    if not isinstance(endpoints, list) or not endpoints or not isinstance(endpoints[0], str):
        raise InvalidEntry(f"host is null and endpoints names none: {quote(endpoints)}")
    address, port = _host_port(endpoints[0].partition("://")[2])
    return Endpoint(address, port, broker)


_NERVE = re.compile(r"base64_[0-9]+_([A-Za-z0-9_-]+=*)_[0-9]+")


@_format("nerve", "the services of Nerve and Synapse", name_pattern=_NERVE, matches=_has("host", "port"))
def read_nerve(name: str, data: bytes) -> Endpoint:
    """`{"host", "port", "name"}` in the child's name, as URL-safe base64, or else in its data."""
    reporter = _object_in(name) or _object(data)
    return Endpoint(_address(reporter.get("host")), _port(reporter.get("port")), reporter)


_SOLR = re.compile(r"(\[[^\]]+\]:[0-9]+|[^:/]+:[0-9]+)_([^/]*)")


@_format("solr", "SolrCloud's live nodes", name_pattern=_SOLR, reads_data=False)
def read_solr(name: str, _data: bytes) -> Endpoint:
    """A live node, `192.168.1.123:8080_solr` (host, port, context) as the child's name."""
    parts = _SOLR.fullmatch(name)
    if not parts:
        raise InvalidEntry(f"{quote(name)}: expected host:port_context")
    address, port = _host_port(parts[1])
    return Endpoint(address, port, {"context": _printable(unquote(parts[2]))})


@_format(
    "curator",
    "the instances of Apache Curator, Spring Cloud Zookeeper and Dubbo 3",
    matches=_has("address", "port", "name"),
)
def read_curator(_name: str, data: bytes) -> Endpoint:
    """Curator's service instance: `{"name", "id", "address", "port", "sslPort", "payload", "enabled"}`."""
    instance = _object(data)
    port = instance.get("sslPort") if instance.get("port") is None else instance["port"]
    return Endpoint(
        _address(instance.get("address")), _port(port), instance, alive=instance.get("enabled") is not False
    )


@_format("clickhouse", "ClickHouse's cluster discovery", matches=_has("address", "shard_id"))
def read_clickhouse(_name: str, data: bytes) -> Endpoint:
    """A discovered server: `{"version": 1, "address": "host:9000", "shard_id": 1}`."""
    server = _object(data)
    if not isinstance(server.get("address"), str):
        raise InvalidEntry(f"address: expected host:port, got {quote(server.get('address'))}")
    address, port = _host_port(server["address"])
    return Endpoint(address, port, server)


@_format("patroni", "the members of Patroni's clusters", matches=_has("conn_url", "api_url"), leader="leader")
def read_patroni(_name: str, data: bytes) -> Endpoint:
    """A member: `{"conn_url": "postgres://host:port/postgres", "api_url", "state", "role"}`.

    The leader's role is `master` before Patroni 4, `primary` since. The address is PostgreSQL's.
    """
    member = _object(data)
    address, port = _postgres_address(member.get("conn_url"))
    role = member.get("role")
    return Endpoint(address, port, member, role=_PATRONI_ROLES.get(role, role) if isinstance(role, str) else "")


_PATRONI_ROLES = {"master": "leader", "primary": "leader", "promoted": "leader", "demoted": "replica"}


def _postgres_address(url: Any) -> tuple[str, int | None]:
    """The address in a URL such as `postgres://host:port/database`. No message has the URL: it may have a password."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        address, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidEntry("conn_url: expected postgres://host:port/database, but it is not a URL") from exc
    if parts.scheme not in {"postgres", "postgresql"} or not address:
        raise InvalidEntry("conn_url: expected postgres://host:port/database, but it is something else")
    return address, port


def elected_role(role: str, *, leads: bool) -> str:
    """The role of a member that reports `role`, if the cluster's leader key is known to name it (`leads`), or not."""
    if leads:
        return role if role in _LEADING else "leader"
    return "replica" if role in _LEADING else role


_LEADING = frozenset({"leader", "standby_leader"})


_NAME_PATTERNS = [(entry.name_pattern, entry.read) for entry in FORMATS.values() if entry.name_pattern]
_DATA_CONDITIONS = [(entry.matches, entry.read) for entry in FORMATS.values() if entry.matches]


def _object_in(name: str) -> dict[str, Any] | None:
    """The JSON object in a name like `base64_<length>_<base64>_<sequence>`; None if there is none."""
    coded = _NERVE.fullmatch(name)
    if not coded:
        return None
    text = coded[1].rstrip("=")
    try:
        return _object(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None


def _json(data: bytes) -> Any:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=finite)
    except (ValueError, RecursionError) as exc:
        raise InvalidEntry(f"its data is not JSON: {exc}") from exc
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise InvalidEntry(f"its data is nested deeper than {MAX_DEPTH} levels")
    if b"\\u" in data and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise InvalidEntry("its data has half a character in it (a lone surrogate)")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [inner for outer in level for inner in _inside(outer)]
    return depth


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(data: bytes) -> dict[str, Any]:
    value = _json(data)
    if not isinstance(value, dict):
        raise InvalidEntry(f"expected a JSON object, got {quote(value)}")
    return value


def _decoded(data: bytes) -> Any:
    """The JSON or the string in the data; None if it is empty or binary."""
    try:
        return _json(data)
    except InvalidEntry:
        try:
            return data.decode("utf-8") or None
        except UnicodeDecodeError:
            return None


def _address(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidEntry(f"expected a host name or an IP address, got {quote(value)}")
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value


def _port(value: Any) -> int | None:
    """A number, or digits, from 0 to 65535; None and -1 mean that there is none."""
    if value in {None, -1, "", "-1"} if isinstance(value, (str, int, type(None))) else False:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise InvalidEntry(f"expected a port from 0 to 65535, got {quote(value)}")
    return value


def _host_port(text: str) -> tuple[str, int | None]:
    """`host:port`, `[IPv6]:port`, a host alone, or a bare IPv6 address."""
    parts = _HOST_PORT.fullmatch(text)
    return (_address(parts[1]), _port(parts[2])) if parts else (_address(text), None)


def _printable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)
