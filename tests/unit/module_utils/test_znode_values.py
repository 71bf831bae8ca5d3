"""Values and ACLs between a playbook's forms and ZooKeeper's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.security import make_acl, make_digest_acl, make_digest_acl_credential

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import MAX_NODE_BYTES
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import (
    acl_fields,
    acl_in_diff,
    read_acl,
    read_value,
    value_fields,
    value_in_diff,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_data_matches_its_json_in_any_order_and_spacing(data: Any) -> None:
    value = read_value([data], "text", "/a")
    assert value is not None
    assert value.matches(json.dumps([data], indent=3).encode())
    compact = json.dumps([data], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert value.matches(compact.encode())


@given(JSON, JSON)
def test_data_matches_no_other_data(one: Any, other: Any) -> None:
    value = read_value([one], "text", "/a")
    assert value is not None
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert value.matches(json.dumps([other]).encode()) == same


@pytest.mark.parametrize(
    ("wanted", "there"), [(1, b"true"), (1, b"1.0"), (True, b"1"), ([], b"{}"), ({}, b""), ({"a": 1}, b"{")]
)
def test_data_of_another_type_is_a_change(wanted: Any, there: bytes) -> None:
    value = read_value(wanted, "text", "/a")
    assert value is not None
    assert not value.matches(there)


def test_text_is_compared_as_it_is_even_where_it_is_json() -> None:
    value = read_value('{"a": 1}', "text", "/a")
    assert value is not None
    assert value.matches(b'{"a": 1}')
    assert not value.matches(b'{"a":1}')


@given(st.binary())
def test_any_bytes_come_through_base64_and_back(data: bytes) -> None:
    value = read_value(base64.encodebytes(data).decode(), "base64", "/a")
    assert value is not None
    assert value.data == data
    fields = value_fields(data)
    again = read_value(fields["value"], fields["encoding"], "/a")
    assert again == value


@pytest.mark.parametrize(
    ("given_value", "encoding", "said"),
    [
        ("not base64!", "base64", "/a: value: not base64"),
        ({"a": 1}, "base64", "/a: value: expected a string for encoding base64"),
        ("\ud800", "text", "/a: value: character 0 can't be written in UTF-8"),
        ({"a": float("nan")}, "text", "/a: value: "),
        ("x" * (MAX_NODE_BYTES + 1), "text", "/a: the value has 1000001 bytes; a znode holds at most 1000000"),
    ],
)
def test_what_no_znode_can_hold_is_refused_by_name(given_value: Any, encoding: str, said: str) -> None:
    with pytest.raises(ZooKeeperError) as caught:
        read_value(given_value, encoding, "/a")
    assert str(caught.value).startswith(said)


def test_a_long_or_binary_value_is_shown_in_a_diff_by_size_and_digest() -> None:
    digest = hashlib.sha256(b"x" * 70_000).hexdigest()[:16]
    assert value_in_diff(b"x" * 70_000, as_json=False) == f"(70000 bytes, sha256 {digest})"
    assert value_in_diff(b"\xff", as_json=False).startswith("(1 bytes, sha256 ")
    assert value_in_diff(b'{"a":1}', as_json=True) == {"a": 1}
    assert value_in_diff(b'{"a":1}', as_json=False) == '{"a":1}'


def test_a_plain_password_becomes_the_hash_that_zookeeper_expects() -> None:
    made = read_acl([{"scheme": "digest", "id": "user", "password": "secret", "perms": ["all"]}], {}, "/a")
    assert made == (make_digest_acl("user", "secret", all=True),)


LOGIN = {"digest_username": "user", "digest_password": "secret"}
OWN: list[dict[str, Any]] = [
    {"scheme": "auth", "perms": ["all"]},
    {"scheme": "digest", "id": "user", "password": "secret", "perms": ["all"]},
    {"scheme": "digest", "id": make_digest_acl_credential("user", "secret"), "perms": ["all"]},
]


@pytest.mark.parametrize("entry", OWN)
def test_the_user_of_the_connection_is_hashed_by_the_server(entry: dict[str, Any]) -> None:
    assert read_acl([entry], LOGIN, "/a") == ((31, ("auth", "user")),)
    assert acl_fields(read_acl([entry], LOGIN, "/a"))[0]["id"] == "user:x"


@pytest.mark.parametrize("other", [{"sasl_mechanism": "DIGEST-MD5"}, {"tls": True, "tls_cert": "/c.pem"}])
@pytest.mark.parametrize("entry", OWN)
def test_a_connection_with_another_identity_gives_that_one_no_permission(
    entry: dict[str, Any], other: dict[str, Any]
) -> None:
    assert read_acl([entry], {**LOGIN, **other}, "/a") == (make_digest_acl("user", "secret", all=True),)


def test_a_hash_that_is_given_is_taken_as_it_is() -> None:
    credential = make_digest_acl_credential("user", "secret")
    made = read_acl([{"scheme": "digest", "id": credential, "perms": ["read", "write"]}], {}, "/a")
    assert made == (make_acl("digest", credential, read=True, write=True),)


def test_no_hash_is_ever_returned() -> None:
    made = read_acl([{"scheme": "digest", "id": "user", "password": "secret", "perms": ["read"]}], {}, "/a")
    assert acl_fields(made) == [{"scheme": "digest", "id": "user:x", "perms": ["read"]}]


def test_a_diff_shows_that_a_password_is_another_and_nothing_of_either() -> None:
    entry = {"scheme": "digest", "id": "user", "perms": ["read"]}
    before, same, after = (
        acl_in_diff(read_acl([{**entry, "password": password}], {}, "/a")) for password in ("secret", "secret", "other")
    )
    assert before == same
    assert before != after
    assert re.fullmatch(r"user:x \([0-9a-f]{8}\)", before[0]["id"])
    hashed = hashlib.sha256(make_digest_acl_credential("user", "secret").encode()).hexdigest()
    assert before[0]["id"] != f"user:x ({hashed[:8]})"  # who guesses a password can't find it by what is shown
    assert acl_in_diff([make_acl("world", "anyone", read=True)])[0]["id"] == "anyone"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"scheme": "digest", "id": "user"}, "a digest id is a user name with password"),
        ({"scheme": "digest", "id": "user:hash", "password": "secret"}, "a digest id is a user name with password"),
        ({"scheme": "ip"}, "scheme ip needs an id"),
        ({"scheme": "auth"}, "scheme auth needs digest_username"),
    ],
)
def test_an_entry_that_names_nobody_is_refused(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ZooKeeperError, match=f"^/a: acl: {said}"):
        read_acl([{**entry, "perms": ["read"]}], {}, "/a")
