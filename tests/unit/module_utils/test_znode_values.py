"""Values and ACLs, converted between a playbook's forms and ZooKeeper's."""

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
    parse_json,
    read_acl,
    read_merge,
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


def test_text_is_compared_as_it_is_even_if_it_is_json() -> None:
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


def test_a_password_whose_bytes_are_not_text_is_refused_and_not_shown() -> None:
    login = {"digest_username": "user", "digest_password": "secret\udcff"}
    with pytest.raises(ZooKeeperError, match=r"^acl: .*: expected text in UTF-8$"):
        read_acl([{"scheme": "auth", "perms": ["all"]}], login, "/a")


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


def test_a_diff_shows_that_a_password_differs_and_nothing_of_either() -> None:
    entry = {"scheme": "digest", "id": "user", "perms": ["read"]}
    before, same, after = (
        acl_in_diff(read_acl([{**entry, "password": password}], {}, "/a")) for password in ("secret", "secret", "other")
    )
    assert before == same
    assert before != after
    assert re.fullmatch(r"user:x \([0-9a-f]{8}\)", before[0]["id"])
    hashed = hashlib.sha256(make_digest_acl_credential("user", "secret").encode()).hexdigest()
    assert before[0]["id"] != f"user:x ({hashed[:8]})"  # what is shown does not confirm a guessed password
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


@pytest.mark.parametrize(
    ("there", "patch", "expected"),
    [
        # The test cases of RFC 7396, appendix A, that begin and end with an object.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_follows_rfc_7396(there: Any, patch: Any, expected: Any) -> None:
    merge = read_merge(patch, "text", "/a")
    assert json.loads(merge.over(json.dumps(there).encode())) == expected
    assert read_merge(json.dumps(patch), "text", "/a") == merge


OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


@given(OBJECTS, OBJECTS)
def test_what_is_merged_already_stays_byte_for_byte(there: dict[str, Any], patch: dict[str, Any]) -> None:
    merge = read_merge(patch, "text", "/a")
    once = json.dumps(json.loads(merge.over(json.dumps(there).encode())), indent=3).encode()
    assert merge.over(once) == once


@given(OBJECTS, OBJECTS)
def test_keys_that_a_merge_does_not_name_keep_their_values(there: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = json.loads(read_merge(patch, "text", "/a").over(json.dumps(there).encode()))
    for key in there.keys() - patch.keys():
        assert merged[key] == there[key]
    assert merged.keys() == (there.keys() | patch.keys()) - {key for key, value in patch.items() if value is None}


def test_a_merge_into_an_empty_value_begins_with_an_empty_object() -> None:
    merge = read_merge({"a": {"b": 1, "c": None}}, "text", "/a")
    assert merge.over(b"") == b'{"a": {"b": 1}}'


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (b"[1]", "merge: expected the znode to hold a JSON object, got a list"),
        (b"null", "merge: expected the znode to hold a JSON object, got null"),
        (b"green", "merge: expected the znode to hold a JSON object: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "merge: expected the znode to hold a JSON object: "),
        (b'{"a": NaN}', "merge: expected the znode to hold a JSON object: NaN is not JSON"),
        (b"[" * 100_000, "merge: expected the znode to hold a JSON object: nested too deeply"),
        # What others wrote must be written again as it was.
        (b'{"a": 0.12345678901234567890}', "merge: a number in it has more digits than can be kept; "),
        (b'{"a": 1e999}', "merge: a number in it has more digits than can be kept; "),
        (b'{"a": "\\ud800"}', "merge: character "),
        (b'{"a": "%s"}' % (b"x" * MAX_NODE_BYTES), "merge: the value would have 1000017 bytes; a znode holds at most"),
    ],
)
def test_a_value_that_cannot_be_merged_into_is_refused_in_one_clear_line(there: bytes, said: str) -> None:
    merge = read_merge({"k": 1}, "text", "/a")
    with pytest.raises(ZooKeeperError) as caught:
        merge.over(there)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given_value", "encoding", "said"),
    [
        ([1], "text", "/a: merge: expected a dictionary, or text that is a JSON object, got a list"),
        (None, "text", "/a: merge: expected a dictionary, or text that is a JSON object, got null"),
        ('{"a": 0.12345678901234567890}', "text", "/a: merge: a number in it has more digits than can be kept; "),
        ("green", "text", "/a: merge: expected a dictionary, or text that is a JSON object: "),
        ("eyI=", "base64", "/a: merge: expected a dictionary, or text that is a JSON object: "),
        ("-", "base64", "/a: value: not base64: "),
        ({"a": float("nan")}, "text", "/a: value: "),
    ],
)
def test_a_merge_that_is_not_an_object_is_refused_in_one_clear_line(given_value: Any, encoding: str, said: str) -> None:
    with pytest.raises(ZooKeeperError) as caught:
        read_merge(given_value, encoding, "/a")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_number_too_large_to_be_kept_is_never_infinity() -> None:
    with pytest.raises(ValueError, match=r'^"1e400" is more than a number can be here$'):
        parse_json(b'{"a": 1e400}')


def test_numbers_that_json_can_write_in_several_ways_lose_no_digits() -> None:
    there = b'{"a": 1.50, "b": 1E2, "c": 0.1, "d": -0.0, "e": 100000000000000000000000000000001}'
    merged = json.loads(read_merge({"k": 1}, "text", "/a").over(there))
    assert merged == {**json.loads(there), "k": 1}
