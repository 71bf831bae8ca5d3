"""From a directory or a dictionary to the entries of zk_znode."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.module_utils.records import OWN, AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord
from ansible_collections.zoo.deploy.plugins.plugin_utils.config_znodes import (
    check_place,
    deletions,
    from_directory,
    from_values,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.content import Content

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1
).filter(lambda name: name not in {".", "..", *OWN})


def read(path: str) -> Content:
    """Read a file as it is."""
    return Content(Path(path).read_bytes())


def decoded(entries: list[dict[str, Any]]) -> dict[str, bytes | None]:
    """The values by path; None for a znode without one."""
    return {
        one["path"]: base64.b64decode(one["value"]) if one.get("encoding") == "base64" else one.get("value")
        for one in entries
    }


def test_a_directorys_files_are_znodes_byte_for_byte_and_its_directories_are_deeper(tmp_path: Path) -> None:
    wanted = {"colour": b"green\n", "db/host": b"\xff\x00{{ no_template }}", "db/deep/er": b"", ".hidden": b"1"}
    for name, data in wanted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("x")
    (tmp_path / "link").symlink_to("colour")
    expected = {f"/c/{name}": data for name, data in wanted.items()}
    assert decoded(from_directory("/c", str(tmp_path), read)) == {**expected, "/c/empty": None, "/c/link": b"green\n"}


def test_the_content_of_a_secret_file_is_a_secret_value(tmp_path: Path) -> None:
    (tmp_path / "colour").write_text("green")
    (tmp_path / "password").write_text("sesame")
    entries = from_directory("/c", str(tmp_path), lambda path: Content(read(path).data, path.endswith("password")))
    assert entries == [
        {"path": "/c/colour", "value": "Z3JlZW4=", "encoding": "base64"},
        {"path": "/c/password", "secret_value": "c2VzYW1l", "encoding": "base64"},
    ]


@pytest.mark.parametrize("secret", [False, True])
def test_secret_values_count_as_much_as_others(tmp_path: Path, secret: bool) -> None:
    big(tmp_path)
    with pytest.raises(InvalidRecord, match="over the 1 MB of one transaction"):
        from_directory("/c", str(tmp_path), lambda path: Content(read(path).data, secret))


@pytest.mark.parametrize(
    "path", ["/app", "/app/shop", "/app/shop/history", "/app/shop/agents/x", "/app/shop/config", "/zookeeper/x"]
)
def test_a_path_that_is_an_applications_own_is_refused(path: str) -> None:
    with pytest.raises(InvalidRecord, match=r"take another, such as /config/shop$"):
        check_place(path, "/app/shop")


@pytest.mark.parametrize("path", ["/config/shop", "/app/shop/settings", "/app/shop/history-of", "/app/shopping"])
def test_a_path_beside_what_is_an_applications_own_is_accepted(path: str) -> None:
    check_place(path, "/app/shop")


def test_an_applications_own_are_the_znodes_that_records_name() -> None:
    paths = AppPaths("/app/shop")
    for path in (
        paths.config,
        paths.agents,
        paths.history_prefix,
        paths.agent("server1"),
        paths.roster_entry("server1"),
        paths.policy,
        paths.rollout(7),
        paths.bad("0" * 40),
        "/app/shop/lock",
    ):
        with pytest.raises(InvalidRecord):
            check_place(path.removesuffix("/release-"), "/app/shop")


@pytest.mark.parametrize(
    ("znode", "said"),
    [
        ({"path": "/c/agents/server1", "stat": {"ephemeral_owner": 72057594037927936}}, "is ephemeral, a registration"),
        ({"path": "/c/history/release-0000000017", "stat": {"ephemeral_owner": 0}}, "is in the history of an app"),
        ("/c/shop/history/release-0000000017", "is in the history of an application"),
        ("/c/shop/rollouts/8589934610", "is in the rollouts of an application"),
        ("/c/shop/bad/" + "0" * 40, "is in the bad of an application"),
    ],
)
def test_what_no_configuration_has_created_is_not_pruned(znode: Any, said: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        deletions([{"path": "/c/colour"}], ["/c/old", znode])
    assert said in str(caught.value)
    assert str(caught.value).endswith("so nothing is deleted; take a path that has only values")


@pytest.mark.parametrize("name", OWN)
def test_what_is_named_like_an_applications_own_is_not_pruned(name: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        deletions([{"path": "/c/colour"}], ["/c/old", "/c/shop", f"/c/shop/{name}"])
    assert str(caught.value) == (
        f"/c/shop/{name} may be the {name} of an application, so nothing is deleted; "
        "take a path that has only values, or, where it is none, delete it by zk_znode first"
    )


def test_what_is_named_like_an_applications_own_may_be_a_part_of_a_configuration() -> None:
    entries = [{"path": "/config/shop/policy"}, {"path": "/config/shop/lock/timeout"}]
    there = ["/config/shop/policy", "/config/shop/lock", "/config/shop/lock/timeout", "/config/shop/old"]
    assert [one["path"] for one in deletions(entries, there)] == ["/config/shop/old"]


def test_a_value_that_has_become_a_dictionary_is_emptied() -> None:
    entries = from_values("/c", {"db": {"user": "u"}, "new": {"a": 1}})
    lengths = {"/c/db": 9, "/c/new": 0, "/c/db/user": 1}
    there = [{"path": path, "stat": {"data_length": length}} for path, length in lengths.items()]
    assert deletions(entries, there) == [{"path": "/c/db", "secret_value": ""}]


def pipe(directory: Path) -> None:
    """Make a pipe, which nobody writes to."""
    os.mkfifo(directory / "pipe")


def big(directory: Path) -> None:
    """Write more than a transaction holds, in files that are each small enough."""
    for number in range(12):
        (directory / f"f{number}").write_bytes(b"x" * 100_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _directory: None, "there is nothing in it to publish"),
        (
            lambda directory: (directory / "loop").symlink_to("."),
            "loop: expected a file or a directory, not a link to a directory",
        ),
        (lambda directory: (directory / "gone").symlink_to("nowhere"), "gone: expected a file or a directory"),
        (pipe, "pipe: expected a file or a directory"),
        (lambda directory: (directory / "a\nb").touch(), "can't name a znode"),
        (lambda directory: Path(os.fsdecode(os.fsencode(directory) + b"/\xff")).touch(), "can't name a znode"),
        (big, "over the 1 MB of one transaction"),
    ],
)
def test_a_directory_that_cannot_be_published_is_refused_with_the_place(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path)
    with pytest.raises(InvalidRecord) as caught:
        from_directory("/c", str(tmp_path), read)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match="none: no such directory"):
        from_directory("/c", str(tmp_path / "none"), read)


def test_a_dictionarys_keys_are_znodes_and_a_nested_ones_are_deeper() -> None:
    values = {"a": "text", "b": {"c": 5, "d": {"e": [1]}, "f": {}}, "g": None, "h": False}
    assert from_values("/c", values) == [
        {"path": "/c/a", "value": "text"},
        {"path": "/c/b/c", "value": 5},
        {"path": "/c/b/d/e", "value": [1]},
        {"path": "/c/b/f", "secret_value": ""},
        {"path": "/c/g", "value": ""},
        {"path": "/c/h", "value": False},
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "/c: there is nothing in it to publish"),
        ("a=b", "values for /c: expected a dictionary"),
        (["a"], "values for /c: expected a dictionary"),
        ({"a": {8080: "x"}}, "/c/a: the key 8080 is not a string; quote it"),
        ({"a": {True: "x"}}, "/c/a: the key true is not a string; quote it"),
        ({"a": {"b": [1.5, float("nan")]}}, "/c/a/b: NaN is not a JSON number; quote it"),
        ({"a": {"b": [{"c": {None: "x"}}]}}, "/c/a/b: the key null is not a string; quote it"),
        ({"a": [({8080: "x"}, 1)]}, "/c/a: the key 8080 is not a string; quote it"),
        ({"a/b": "x"}, '/c: "a/b" can\'t name a znode'),
        ({"..": "x"}, '/c: ".." can\'t name a znode'),
    ],
)
def test_values_that_cannot_be_published_are_refused_with_their_place(values: Any, said: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        from_values("/c", values)
    assert str(caught.value).startswith(said)


def test_what_exists_and_is_not_wanted_is_deleted_by_the_top_of_its_subtree() -> None:
    wanted = [{"path": "/c/a/b", "value": "x"}, {"path": "/c/k"}]
    there = ["/c/a", "/c/a/b", "/c/a/b/old", "/c/a/old", "/c/k", "/c/old", "/c/old/deep", "/c/old/deep/er", "/c/older"]
    gone = deletions(wanted, there)
    assert [one["path"] for one in gone] == ["/c/a/b/old", "/c/a/old", "/c/old", "/c/older"]
    assert all(one["state"] == "absent" and one["recursive"] for one in gone)


TREES: Any = st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4), st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_pruning_leaves_exactly_what_is_wanted(before: Any, after: Any) -> None:
    wanted = from_values("/c", after)
    there = set(tree_of(from_values("/c", before))) | set(tree_of(wanted))
    for one in deletions(wanted, there - {"/", "/c"}):
        there -= {path for path in there if path == one["path"] or path.startswith(f"{one['path']}/")}
    assert there == set(tree_of(wanted))


def tree_of(entries: list[dict[str, Any]]) -> list[str]:
    """Every znode that exists when the entries do."""
    paths = [one["path"] for one in entries]
    return [
        *paths,
        *("/".join(path.split("/")[:depth]) or "/" for path in paths for depth in range(path.count("/") + 1)),
    ]
