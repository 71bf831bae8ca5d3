# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a znode, converted between a playbook's forms and ZooKeeper's: values, ACLs, stats.

Pure, and without kazoo: an ACL entry here has the shape of kazoo's own, compares equal to it and is sent in its place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .connection import ZooKeeperError
from .znode_names import MAX_NODE_BYTES, finite, quote

DIFF_LIMIT = 65_536
"""The most bytes of a value that a diff shows in full."""

PERMISSIONS = {"read": 1, "write": 2, "create": 4, "delete": 8, "admin": 16}
"""ZooKeeper's permission bits; `all` stands for all five."""

ACL_SPEC: dict[str, dict[str, Any]] = {
    "scheme": {"type": "str", "required": True},
    "id": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "perms": {"type": "list", "elements": "str", "required": True, "choices": [*PERMISSIONS, "all"]},
}
"""The suboptions of an option `acl`."""

_DIFF_KEY = os.urandom(32)
DIGEST_ALGORITHMS = ("sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "md5")
"""A server's hashes for digest users (`zookeeper.DigestAuthenticationProvider.digestAlg`), the default first."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Value(NamedTuple):
    """A value for a znode: its bytes, and how equality is judged.

    `canonical` is the sorted, compact JSON text if the value was given as data rather than as text.
    """

    data: bytes
    canonical: str | None = None

    @property
    def is_json(self) -> bool:
        """Whether it was given as data."""
        return self.canonical is not None

    def over(self, data: bytes) -> bytes:
        """The new value of a znode that holds `data`: `data` itself if it equals this value."""
        return data if self.matches(data) else self.data

    def matches(self, data: bytes) -> bool:
        """Whether a znode with `data` holds this value already."""
        if self.canonical is None:
            return self.data == data
        try:
            return self.canonical == _canonical(parse_json(data))
        except ValueError:
            return False


class MergePatch(NamedTuple):
    """What is merged into the JSON object that a znode holds, as in RFC 7396.

    The keys of a mapping are set, also in existing mappings; null removes a key; everything else, including lists, is
    replaced as a whole.
    """

    patch: Mapping[str, Any]
    is_json: bool = True

    def over(self, data: bytes) -> bytes:
        """The new value of a znode that holds `data`: `data` itself if nothing differs. Raises `ZooKeeperError`."""
        there = _object_in(data)
        try:
            merged = _merged(there, self.patch)
            if _canonical(merged) == _canonical(there):
                return data
            result = _from_data(merged, "text").data
        except (ValueError, RecursionError) as exc:
            raise ZooKeeperError(f"merge: {exc}") from exc
        if len(result) > MAX_NODE_BYTES:
            size = f"{len(result)} bytes; a znode holds at most {MAX_NODE_BYTES}"
            raise ZooKeeperError(f"merge: the value would have {size}")
        return result


def _object_in(data: bytes) -> dict[str, Any]:
    """The JSON object in a znode's bytes; an empty one in an empty znode. Raises `ZooKeeperError`."""
    expected = "merge: expected the znode to hold a JSON object"
    try:
        there = parse_json(data or b"{}", _kept_number)
    except _LostDigits as exc:
        raise ZooKeeperError(f"merge: {exc}") from exc
    except ValueError as exc:
        raise ZooKeeperError(f"{expected}: {exc}") from exc
    if not isinstance(there, dict):
        raise ZooKeeperError(f"{expected}, got {_kind(there)}")
    return there


def _kind(value: Any) -> str:
    """JSON's name for a value's type, for a message: the value itself may be secret."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    return _KINDS.get(type(value), "a number")


_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}


def _merged(there: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(there) if isinstance(there, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value) if isinstance(value, dict) else value
    return result


class _LostDigits(ValueError):
    """A number that can't be written again as it was."""


def _kept_number(text: str) -> float:
    number = float(text)
    if _digits(text) != _digits(repr(number)):
        raise _LostDigits("a number in it has more digits than can be kept; write it as a string")
    return number


def _digits(number: str) -> str:
    """The digits of a number, without zeros that only place the point."""
    return number.lower().partition("e")[0].replace(".", "").strip("-0")


def read_merge(given: Any, encoding: str, where: str) -> MergePatch:
    """The mapping from a playbook, or text that is one in JSON. Raises a `ZooKeeperError` that begins with `where`."""
    expected = f"{where}: merge: expected a dictionary, or text that is a JSON object"
    value = read_value(given, encoding, where)
    try:
        patch = parse_json(value.data, _kept_number) if value else None
    except _LostDigits as exc:
        raise ZooKeeperError(f"{where}: merge: {exc}") from exc
    except ValueError as exc:
        raise ZooKeeperError(f"{expected}: {exc}") from exc
    if not isinstance(patch, dict):
        raise ZooKeeperError(f"{expected}, got {_kind(patch)}")
    return MergePatch(patch)


def read_value(given: Any, encoding: str, where: str) -> Value | None:
    """The value from a playbook; None if there is none. Raises a `ZooKeeperError` that begins with `where`."""
    if given is None:
        return None
    try:
        value = _from_text(given, encoding) if isinstance(given, str) else _from_data(given, encoding)
    except (ValueError, TypeError, RecursionError) as exc:
        raise ZooKeeperError(f"{where}: value: {exc}") from exc
    if len(value.data) > MAX_NODE_BYTES:
        raise ZooKeeperError(f"{where}: the value has {len(value.data)} bytes; a znode holds at most {MAX_NODE_BYTES}")
    return value


def _from_text(text: str, encoding: str) -> Value:
    if encoding == "text":
        return Value(_utf8(text))
    try:
        return Value(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError) as exc:
        raise ValueError(f"not base64: {exc}") from exc


def _from_data(data: Any, encoding: str) -> Value:
    if encoding != "text":
        raise ValueError(f"expected a string for encoding {encoding}, got {quote(data, 40)}")
    return Value(_utf8(json.dumps(data, ensure_ascii=False, allow_nan=False)), _canonical(data))


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ValueError(f"character {exc.start} can't be written in UTF-8; give bytes with encoding base64") from exc


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def parse_json(data: bytes, number: Callable[[str], float] = finite) -> Any:
    """The JSON in a znode's bytes; `number` reads numbers with a point. Raises `ValueError` if it is not JSON."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=number)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def value_fields(data: bytes) -> dict[str, str]:
    """`value` and `encoding` as in a module's result: text if it is UTF-8, base64 otherwise."""
    try:
        return {"value": data.decode("utf-8"), "encoding": "text"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(data).decode("ascii"), "encoding": "base64"}


def value_in_diff(data: bytes | None, as_json: bool) -> Any:
    """A value for a diff: text, split into a list if it has several lines, or JSON if it is compared as that.

    Long and binary values are shown by their digest.
    """
    if data is None:
        return "(not readable)"
    if len(data) > DIFF_LIMIT or value_fields(data)["encoding"] != "text":
        return f"({len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]})"
    try:
        return parse_json(data) if as_json else _text_in_diff(data)
    except ValueError:
        return _text_in_diff(data)


def _text_in_diff(data: bytes) -> Any:
    """Several lines become a list, each with its end: as JSON, it differs line by line, which a string does not."""
    lines = data.decode("utf-8").splitlines(keepends=True)
    return lines if len(lines) > 1 else "".join(lines)


class AclId(NamedTuple):
    """An identity: the scheme, and the id in it. For the scheme `auth` the server stores the connection's own ids."""

    scheme: str
    id: str


class AclEntry(NamedTuple):
    """What one id may do: the sum of `PERMISSIONS`."""

    perms: int
    id: AclId


def read_acl(given: Sequence[Mapping[str, Any]], options: Mapping[str, Any], where: str) -> tuple[AclEntry, ...]:
    """The ACL from a playbook. Raises a `ZooKeeperError` that begins with `where`.

    `options` are the connection's: the scheme `auth` means their digest user, whom a later run has to recognise. The
    hash is left to the server, which alone knows the algorithm, unless it would also store other ids of the connection.
    """
    if not given:
        raise ZooKeeperError(f"{where}: acl: expected at least one entry")
    if not all(entry["perms"] for entry in given):
        raise ZooKeeperError(f"{where}: acl: perms: expected at least one; an entry that allows nothing is left out")
    acl = tuple(AclEntry(_perms(entry["perms"]), acl_id(entry, options, where)) for entry in given)
    others = options.get("sasl_mechanism") or (options.get("tls") and options.get("tls_cert"))
    return acl if others else normalized(acl, own_ids(options))


def own_ids(options: Mapping[str, Any]) -> frozenset[AclId]:
    """The connection's digest user, hashed as any server may; empty if there is none."""
    name, password = options.get("digest_username"), options.get("digest_password")
    if not name or not password:
        return frozenset()
    return frozenset(AclId("digest", _hashed(name, password, algorithm)) for algorithm in DIGEST_ALGORITHMS)


def normalized(acl: Iterable[Any], own: frozenset[AclId]) -> tuple[AclEntry, ...]:
    """An ACL in which a user with one of the ids `own`, by whatever hash, has the scheme `auth`."""
    return tuple(
        AclEntry(entry.perms, AclId("auth", entry.id.id.split(":", 1)[0]) if entry.id in own else AclId(*entry.id))
        for entry in acl
    )


def _perms(names: Iterable[str]) -> int:
    wanted = set(names)
    return sum(bit for name, bit in PERMISSIONS.items() if name in wanted or "all" in wanted)


def acl_id(entry: Mapping[str, Any], options: Mapping[str, Any], where: str) -> AclId:
    """The identity that an entry of an ACL names. Raises a `ZooKeeperError` that begins with `where`."""
    scheme, name, password = entry["scheme"], entry.get("id"), entry.get("password")
    if scheme == "auth":
        name, password = options.get("digest_username"), options.get("digest_password")
        if not name or not password:
            raise ZooKeeperError(f"{where}: acl: scheme auth needs digest_username and digest_password; or name the id")
    if scheme in {"auth", "digest"}:
        return AclId("digest", _digest_id(name, password, where))
    if not name and scheme != "world":
        raise ZooKeeperError(f"{where}: acl: scheme {scheme} needs an id")
    return AclId(scheme, name or "anyone")


def _digest_id(name: str | None, password: str | None, where: str) -> str:
    if password and name and ":" not in name:
        return _hashed(name, password, DIGEST_ALGORITHMS[0])
    if password or not name or ":" not in name:
        raise ZooKeeperError(f"{where}: acl: a digest id is a user name with password, or user:hash without")
    return name


def _hashed(name: str, password: str, algorithm: str) -> str:
    """ZooKeeper's own form of a digest id; declaring it not used for security allows it in FIPS mode."""
    try:
        credentials = f"{name}:{password}".encode()
    except UnicodeError:  # a lone surrogate, with which Python represents a byte of the environment that is not text
        raise ZooKeeperError("acl: the name and the password of a digest id: expected text in UTF-8") from None
    digest = hashlib.new(algorithm, credentials, usedforsecurity=False).digest()
    return f"{name}:{base64.b64encode(digest).decode('ascii')}"


def acl_fields(acl: Iterable[Any]) -> list[dict[str, Any]]:
    """An ACL as in a module's result: without the hash of a digest id, as ZooKeeper shows it to all except admins."""
    return [
        {**_id_fields(*entry.id), "perms": [name for name, bit in PERMISSIONS.items() if entry.perms & bit]}
        for entry in acl
    ]


def acl_in_diff(acl: Sequence[Any]) -> list[dict[str, Any]]:
    """An ACL for a diff: as `acl_fields`, but a changed hash is visible."""
    return [
        {**shown, "id": f"{shown['id']} ({_trace(entry.id.id)})"} if entry.id.scheme == "digest" else shown
        for entry, shown in zip(acl, acl_fields(acl))
    ]


def _trace(secret: str) -> str:
    """A few digits that stand for it in this process only: they don't help to guess passwords."""
    return hashlib.sha256(_DIFF_KEY + secret.encode()).hexdigest()[:8]


def _id_fields(scheme: str, name: str) -> dict[str, str]:
    """Scheme and id. The connection's own user is shown as the digest user that it is, or will be."""
    if scheme in {"auth", "digest"}:
        return {"scheme": "digest", "id": f"{name.split(':', 1)[0]}:x"}
    return {"scheme": scheme, "id": name}


def stat_fields(stat: Any) -> dict[str, int]:
    """Every field of a `ZnodeStat`, in snake_case."""
    return {_HUMP.sub("_", name).lower(): number for name, number in stat._asdict().items()}
