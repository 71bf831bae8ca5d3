# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the children of a registry say: one reader for each format that software writes into ZooKeeper.

`read` turns a child's name and data into a `Service`, or refuses with an `InvalidEntry`. What it is given was
written by anybody who may write to the registry, so an address that is none (an option for ssh, say) is refused.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote

MAX_DEPTH = 32
"""How deep an entry's JSON may be nested."""

_HOST_NAME = re.compile(r"[^\W_][\w.-]{0,252}")
_IPV6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%[\w.-]+)?")
_BASE64 = re.compile(r"base64_[0-9]+_([A-Za-z0-9_-]+=*)_[0-9]+")
_HBASE = re.compile(r"([^,]+),([0-9]{1,5}),([0-9]+)")
_HIVESERVER2 = re.compile(r"serverUri=.+")
_SOLR = re.compile(r"(\[[^\]]+\]:[0-9]+|[^:/]+:[0-9]+)_([^/]*)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*%3[Aa]%2[Ff]%2[Ff].+")
_HOST_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5})")
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidEntry(ValueError):
    """A child that can't be read; the text says why."""


class Service(NamedTuple):
    """What one child says: where it is served, and the rest as `data` (plain JSON values).

    `named` says that the child's name names its host; `alive` is false where the entry itself says that it does not
    serve.
    """

    address: str
    port: int | None
    data: Any
    named: bool = False
    alive: bool = True


def read(registry_format: str, name: str, data: bytes) -> Service:
    """The service in a child with this name and data, in one of `FORMATS`. Raises `InvalidEntry`."""
    service = FORMATS[registry_format](name, data)
    if not is_address(service.address):
        raise InvalidEntry(f"{quote(service.address)} is no host name and no IP address")
    return service


def is_address(text: str) -> bool:
    """Whether `text` is a host name or an IP address, and so can't be an option, a path or a command for anybody."""
    if ":" not in text:
        return _HOST_NAME.fullmatch(text) is not None
    parts = _IPV6.fullmatch(text)
    try:
        return parts is not None and ipaddress.ip_address(parts[1]).version == 6
    except ValueError:
        return False


def read_seed(_name: str, data: bytes) -> Service:
    """`["127.0.0.1", "9099"]`; a host without a port is `["127.0.0.1"]`. The child's name is the host's."""
    found = _json(data)
    if not isinstance(found, list) or not 1 <= len(found) <= 2:
        raise InvalidEntry(f'expected ["address", "port"], got {quote(found)}')
    return Service(_address(found[0]), _port(found[1] if len(found) > 1 else None), found, named=True)


def read_host_port(name: str, data: bytes) -> Service:
    """`app.example.com:12345`, or a host alone, as the child's name; the data may be anything."""
    address, port = _host_port(name)
    return Service(address, port, _decoded(data))


def read_nerve(name: str, data: bytes) -> Service:
    """`{"host", "port", "name"}` in the child's name, as URL-safe base64, or else in its data."""
    found = _object_in(name) or _object(data)
    return Service(_address(found.get("host")), _port(found.get("port")), found)


def read_serverset(_name: str, data: bytes) -> Service:
    """`{"serviceEndpoint": {"host", "port"}, "additionalEndpoints", "status", "shard"}`; only ALIVE is alive."""
    found = _object(data)
    endpoint = found.get("serviceEndpoint")
    if not isinstance(endpoint, dict):
        raise InvalidEntry(f"serviceEndpoint: expected an object, got {quote(endpoint)}")
    alive = str(found.get("status", "ALIVE")).upper() == "ALIVE"
    return Service(_address(endpoint.get("host")), _port(endpoint.get("port")), found, alive=alive)


def read_curator(_name: str, data: bytes) -> Service:
    """Curator's service instance: `{"name", "id", "address", "port", "sslPort", "payload", "enabled"}`."""
    found = _object(data)
    port = found.get("sslPort") if found.get("port") is None else found["port"]
    return Service(_address(found.get("address")), _port(port), found, alive=found.get("enabled") is not False)


def read_dubbo(name: str, _data: bytes) -> Service:
    """Dubbo 2: a URL-encoded provider URL as the child's name; `disabled=true` is not alive."""
    url = unquote(name)
    try:
        parts = urlsplit(url)
        address, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidEntry(f"{quote(url)} is no provider URL: {exc}") from exc
    if not parts.scheme or not address:
        raise InvalidEntry(f"{quote(url)} is no provider URL")
    parameters = dict(parse_qsl(_printable(parts.query), keep_blank_values=True))
    alive = parameters.get("disabled") != "true" and parameters.get("enabled") != "false" and parts.scheme != "empty"
    found = {"protocol": parts.scheme, "path": _printable(parts.path).lstrip("/"), "parameters": parameters}
    return Service(address, port, found, alive=alive)


def read_kafka(_name: str, data: bytes) -> Service:
    """A broker: `{"host", "port", "endpoints", "rack"}`; the first endpoint counts where `host` is null."""
    found = _object(data)
    if found.get("host") is not None:
        return Service(_address(found["host"]), _port(found.get("port")), found)
    endpoints = found.get("endpoints")
    if not isinstance(endpoints, list) or not endpoints or not isinstance(endpoints[0], str):
        raise InvalidEntry(f"host is null and endpoints names none: {quote(endpoints)}")
    address, port = _host_port(endpoints[0].partition("://")[2])
    return Service(address, port, found)


def read_hbase(name: str, _data: bytes) -> Service:
    """A region server, `www.example.org,1234,1212121212` (host, port, start code) as the child's name."""
    parts = _HBASE.fullmatch(name)
    if not parts:
        raise InvalidEntry(f"{quote(name)}: expected host,port,startcode")
    return Service(_address(parts[1]), _port(parts[2]), {"startcode": int(parts[3])})


def read_solr(name: str, _data: bytes) -> Service:
    """A live node, `192.168.1.123:8080_solr` (host, port, context) as the child's name."""
    parts = _SOLR.fullmatch(name)
    if not parts:
        raise InvalidEntry(f"{quote(name)}: expected host:port_context")
    address, port = _host_port(parts[1])
    return Service(address, port, {"context": _printable(unquote(parts[2]))})


def read_hiveserver2(name: str, _data: bytes) -> Service:
    """`serverUri=x1:10000;version=2.3.2;sequence=0000000792` as the child's name."""
    found = dict(part.split("=", 1) for part in name.split(";") if "=" in part)
    if "serverUri" not in found:
        raise InvalidEntry(f"{quote(name)}: expected serverUri=host:port;version=...;sequence=...")
    address, port = _host_port(found["serverUri"])
    return Service(address, port, found)


def read_clickhouse(_name: str, data: bytes) -> Service:
    """A discovered server: `{"version": 1, "address": "host:9000", "shard_id": 1}`."""
    found = _object(data)
    if not isinstance(found.get("address"), str):
        raise InvalidEntry(f"address: expected host:port, got {quote(found.get('address'))}")
    address, port = _host_port(found["address"])
    return Service(address, port, found)


def read_auto(name: str, data: bytes) -> Service:
    """The service in the format that it looks like: by a telling name, by its data, by `host:port` as a name."""
    reader = _by_name(name) or _by_data(data) or (read_host_port if _HOST_PORT.fullmatch(name) else None)
    if reader is None:
        raise InvalidEntry("neither its name nor its data is in a format known here; set the registry's format")
    return reader(name, data)


def _by_name(name: str) -> Callable[[str, bytes], Service] | None:
    return next((reader for pattern, reader in _TELLING_NAMES if pattern.fullmatch(name)), None)


def _by_data(data: bytes) -> Callable[[str, bytes], Service] | None:
    try:
        found = _json(data)
    except InvalidEntry:
        return None
    if isinstance(found, list):
        return read_seed if 1 <= len(found) <= 2 and isinstance(found[0], str) else None
    if not isinstance(found, dict):
        return None
    return next((reader for keys, reader in _TELLING_KEYS if keys <= found.keys()), None)


def _object_in(name: str) -> dict[str, Any] | None:
    """The JSON object in a name like `base64_<length>_<base64>_<sequence>`; None where there is none."""
    coded = _BASE64.fullmatch(name)
    if not coded:
        return None
    text = coded[1].rstrip("=")
    try:
        return _object(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None


def _json(data: bytes) -> Any:
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidEntry(f"its data is no JSON: {exc}") from exc
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(found) > MAX_DEPTH:
        raise InvalidEntry(f"its data is nested deeper than {MAX_DEPTH} levels")
    if b"\\u" in data and _SURROGATE.search(json.dumps(found, ensure_ascii=False)):
        raise InvalidEntry("its data has half a character in it (a lone surrogate)")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _depth(found: Any) -> int:
    level, depth = [found], 0
    while level:
        depth += 1
        level = [inner for one in level for inner in _inside(one)]
    return depth


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(data: bytes) -> dict[str, Any]:
    found = _json(data)
    if not isinstance(found, dict):
        raise InvalidEntry(f"expected a JSON object, got {quote(found)}")
    return found


def _decoded(data: bytes) -> Any:
    """The JSON or the text in the data; None where there is none."""
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


FORMATS: Mapping[str, Callable[[str, bytes], Service]] = {
    "auto": read_auto,
    "seed": read_seed,
    "host_port": read_host_port,
    "nerve": read_nerve,
    "serverset": read_serverset,
    "curator": read_curator,
    "dubbo": read_dubbo,
    "kafka": read_kafka,
    "hbase": read_hbase,
    "solr": read_solr,
    "hiveserver2": read_hiveserver2,
    "clickhouse": read_clickhouse,
}
"""The reader of each format."""

NAMES_ONLY = frozenset({"dubbo", "hbase", "solr", "hiveserver2"})
"""The formats that read nothing but the child's name."""

_TELLING_NAMES = (
    (_URL, read_dubbo),
    (_HIVESERVER2, read_hiveserver2),
    (_HBASE, read_hbase),
    (_BASE64, read_nerve),
    (_SOLR, read_solr),
)
_TELLING_KEYS = (
    ({"serviceEndpoint"}, read_serverset),
    ({"host", "port", "endpoints"}, read_kafka),
    ({"host", "port"}, read_nerve),
    ({"address", "port", "name"}, read_curator),
    ({"address", "shard_id"}, read_clickhouse),
)
