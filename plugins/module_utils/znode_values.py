# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a znode holds, between a playbook's forms and ZooKeeper's: values, ACLs, stats.

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
"""A diff shows a value of up to so many bytes whole."""

PERMISSIONS = {"read": 1, "write": 2, "create": 4, "delete": 8, "admin": 16}
"""ZooKeeper's permission bits; `all` stands for the five."""

ACL_SPEC: dict[str, dict[str, Any]] = {
    "scheme": {"type": "str", "required": True},
    "id": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "perms": {"type": "list", "elements": "str", "required": True, "choices": [*PERMISSIONS, "all"]},
}
"""The suboptions of an option `acl`."""

_DIFF_KEY = os.urandom(32)
DIGEST_ALGORITHMS = ("sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "md5")
"""What a server may hash digest users with (`zookeeper.DigestAuthenticationProvider.digestAlg`); it is the first."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Value(NamedTuple):
    """What a znode is to hold: its bytes, and how equality is judged.

    `canonical` is the sorted, compact JSON text where the value was given as data rather than as text.
    """

    data: bytes
    canonical: str | None = None

    @property
    def is_json(self) -> bool:
        """Whether it was given as data."""
        return self.canonical is not None

    def over(self, data: bytes) -> bytes:
        """What a znode with `data` is to hold: that itself where it is this value already."""
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
    """What is merged into the JSON object that a znode holds, as RFC 7396 says.

    The keys of a mapping are set, in mappings that are there too; null removes a key; all else, a list too, is replaced
    as a whole.
    """

    patch: Mapping[str, Any]
    is_json: bool = True

    def over(self, data: bytes) -> bytes:
        """What a znode with `data` is to hold: that itself where nothing differs. Raises `ZooKeeperError`."""
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
    """What JSON calls a value, for a message: what a merge is about may be secret."""
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
    """The digits of a number, without those that say only where the point is."""
    return number.lower().partition("e")[0].replace(".", "").strip("-0")


def read_merge(given: Any, encoding: str, where: str) -> MergePatch:
    """The mapping that a playbook gives, or text that is one in JSON. Raises a `ZooKeeperError`, with `where`."""
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
    """The value that a playbook gives; None where it gives none. Raises a `ZooKeeperError` that begins with `where`."""
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
    """The JSON in a znode's bytes; `number` reads those with a point. Raises `ValueError` where there is none."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=number)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def value_fields(data: bytes) -> dict[str, str]:
    """`value` and `encoding` as modules return them: text where it is UTF-8, base64 otherwise."""
    try:
        return {"value": data.decode("utf-8"), "encoding": "text"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(data).decode("ascii"), "encoding": "base64"}


def value_in_diff(data: bytes | None, as_json: bool) -> Any:
    """A value as a diff shows it: text, of several lines as a list of them, or JSON where that is compared.

    The long and the binary are shown by their digest.
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
    """A list of lines, each with its end, differs by lines when it is shown as JSON; a text with several does not."""
    lines = data.decode("utf-8").splitlines(keepends=True)
    return lines if len(lines) > 1 else "".join(lines)


class AclId(NamedTuple):
    """Who: the scheme, and the id in it. Of the scheme `auth` the server stores the connection's own ids instead."""

    scheme: str
    id: str


class AclEntry(NamedTuple):
    """What one id may do: the sum of `PERMISSIONS`."""

    perms: int
    id: AclId


def read_acl(given: Sequence[Mapping[str, Any]], options: Mapping[str, Any], where: str) -> tuple[AclEntry, ...]:
    """The ACL that a playbook gives. Raises a `ZooKeeperError` that begins with `where`.

    `options` are the connection's: the scheme `auth` is their digest user, whom a later run has to recognise. That user
    is left to the server to hash, which alone knows how; unless it would store other ids of the connection with it.
    """
    if not given:
        raise ZooKeeperError(f"{where}: acl: expected at least one entry")
    if not all(entry["perms"] for entry in given):
        raise ZooKeeperError(f"{where}: acl: perms: expected at least one; an entry that allows nothing is left out")
    acl = tuple(AclEntry(_perms(entry["perms"]), acl_id(entry, options, where)) for entry in given)
    others = options.get("sasl_mechanism") or (options.get("tls") and options.get("tls_cert"))
    return acl if others else normalized(acl, own_ids(options))


def own_ids(options: Mapping[str, Any]) -> frozenset[AclId]:
    """The connection's digest user, hashed as any server may; nobody where there is none."""
    name, password = options.get("digest_username"), options.get("digest_password")
    if not name or not password:
        return frozenset()
    return frozenset(AclId("digest", _hashed(name, password, algorithm)) for algorithm in DIGEST_ALGORITHMS)


def normalized(acl: Iterable[Any], own: frozenset[AclId]) -> tuple[AclEntry, ...]:
    """An ACL in which the user that has one of the ids `own`, by whatever hash, is one of the scheme `auth`."""
    return tuple(
        AclEntry(entry.perms, AclId("auth", entry.id.id.split(":", 1)[0]) if entry.id in own else AclId(*entry.id))
        for entry in acl
    )


def _perms(names: Iterable[str]) -> int:
    wanted = set(names)
    return sum(bit for name, bit in PERMISSIONS.items() if name in wanted or "all" in wanted)


def acl_id(entry: Mapping[str, Any], options: Mapping[str, Any], where: str) -> AclId:
    """Who an entry of an ACL names. Raises a `ZooKeeperError` that begins with `where`."""
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
    """ZooKeeper's own form of a digest id; FIPS mode lets it pass when it is told what it is for."""
    try:
        credentials = f"{name}:{password}".encode()
    except UnicodeError:  # half a character, as Python has it for a byte of the environment that is no text
        raise ZooKeeperError("acl: the name and the password of a digest id: expected text in UTF-8") from None
    digest = hashlib.new(algorithm, credentials, usedforsecurity=False).digest()
    return f"{name}:{base64.b64encode(digest).decode('ascii')}"


def acl_fields(acl: Iterable[Any]) -> list[dict[str, Any]]:
    """An ACL as modules return it: without the hash of a digest id, as ZooKeeper shows it to all but admins."""
    return [
        {**_id_fields(*entry.id), "perms": [name for name, bit in PERMISSIONS.items() if entry.perms & bit]}
        for entry in acl
    ]


def acl_in_diff(acl: Sequence[Any]) -> list[dict[str, Any]]:
    """An ACL as a diff shows it: as `acl_fields`, but another hash is seen to be another."""
    return [
        {**shown, "id": f"{shown['id']} ({_trace(entry.id.id)})"} if entry.id.scheme == "digest" else shown
        for entry, shown in zip(acl, acl_fields(acl))
    ]


def _trace(secret: str) -> str:
    """A few digits that stand for it in this process only: by them nobody can try out passwords."""
    return hashlib.sha256(_DIFF_KEY + secret.encode()).hexdigest()[:8]


def _id_fields(scheme: str, name: str) -> dict[str, str]:
    """Scheme and id. The connection's own user is the digest user that it is, or will be."""
    if scheme in {"auth", "digest"}:
        return {"scheme": "digest", "id": f"{name.split(':', 1)[0]}:x"}
    return {"scheme": scheme, "id": name}


def stat_fields(stat: Any) -> dict[str, int]:
    """Every field of a `ZnodeStat`, in snake_case."""
    return {_HUMP.sub("_", name).lower(): number for name, number in stat._asdict().items()}
