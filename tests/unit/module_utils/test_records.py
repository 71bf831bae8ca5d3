"""The records in the znodes: what they carry, what they keep, what they refuse and how they report that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    GAVE_UP,
    LONGEST_FIRST_LINE,
    MAX_MESSAGE,
    MAX_NODE_BYTES,
    STATES,
    AgentStatus,
    AppPaths,
    InvalidRecord,
    InvalidRelease,
    Release,
    check_node_name,
    check_path,
    check_published_url,
    check_relative_path,
    check_url,
    parse_object,
    quote,
    url_scheme,
    whose,
    without_userinfo,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEED = {"url": "https://git.example.org/business.git", "commitId": COMMIT, "relativePath": "business/current"}
"""A release as the article's publisher writes it."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


def node(**changes: Any) -> bytes:
    """A release's node with some keys changed."""
    return json.dumps({**SEED, **changes}).encode()


# --- a release


def test_the_articles_three_keys_are_a_release() -> None:
    release = Release.from_node(node())
    assert (release.url, release.commit_id, release.relative_path) == (SEED["url"], COMMIT, "business/current")


def test_a_release_is_written_with_the_articles_keys_and_no_others() -> None:
    assert json.loads(Release.from_node(node()).to_node()) == SEED


def test_the_optional_keys_come_back_as_they_were_written() -> None:
    optional = {
        "ref": "main",
        "publisher": "ops",
        "publishedAt": "2026-01-02T03:04:05Z",
        "rollout": {"max_in_flight": 2},
        "signature": "none",
    }
    assert json.loads(Release.from_node(node(**optional)).to_node()) == {**SEED, **optional}


@given(st.dictionaries(st.text(max_size=12), json_values, max_size=5))
def test_unknown_keys_are_kept(unknown: dict[str, Any]) -> None:
    known = {"url", "commitId", "relativePath", "ref", "publisher", "publishedAt"}
    extra = {key: value for key, value in unknown.items() if key not in known}
    assert json.loads(Release.from_node(node(**extra)).to_node()) == {**SEED, **extra}


def test_a_release_is_the_same_whoever_published_it_and_whatever_it_was_called() -> None:
    release = Release.from_node(node(ref="main", publisher="ops"))
    assert release.same_as(Release.from_node(node(ref="v1")))
    assert not release.same_as(Release.from_node(node(relativePath="business/other")))
    assert not release.same_as(Release.from_node(node(commitId=COMMIT[::-1])))
    assert not release.same_as(Release.from_node(node(url="https://git.example.org/other.git")))
    assert not release.same_as(None)


@pytest.mark.parametrize("key", sorted(SEED))
def test_a_key_that_is_missing_is_named(key: str) -> None:
    left = {name: value for name, value in SEED.items() if name != key}
    with pytest.raises(InvalidRelease, match=f"^{key}: missing$"):
        Release.from_node(json.dumps(left).encode())


@pytest.mark.parametrize("key", sorted(SEED))
@pytest.mark.parametrize("value", [None, "", 7, True, [], {}, ["x"]])
def test_a_key_with_a_value_of_another_kind_is_named(key: str, value: Any) -> None:
    with pytest.raises(InvalidRelease, match=f"^{key}: "):
        Release.from_node(node(**{key: value}))


# --- a commit


@pytest.mark.parametrize("commit_id", [COMMIT, COMMIT.upper(), "a" * 64])
def test_a_full_commit_id_is_taken_and_written_in_lower_case(commit_id: str) -> None:
    assert Release.from_node(node(commitId=commit_id)).commit_id == commit_id.lower()


@pytest.mark.parametrize(
    "commit_id",
    [
        "main",
        "HEAD",
        COMMIT[:39],
        COMMIT + "0",
        "a" * 63,
        "g" * 40,
        f"{COMMIT}\n",
        f" {COMMIT}",
        "--upload-pack=x",
        "\u0660" * 40,
    ],
)
def test_anything_but_40_or_64_hex_digits_is_not_a_commit(commit_id: str) -> None:
    with pytest.raises(InvalidRelease, match=r"^commitId: expected 40 or 64 hex digits, got "):
        Release.from_node(node(commitId=commit_id))


# --- a place below the base


@pytest.mark.parametrize(
    "path", ["business", "a/b/c", "with space", "..a", "a..", ".hidden", "x/.zoo", "ünïcode", "-dash"]
)
def test_a_normalised_relative_path_is_taken(path: str) -> None:
    assert check_relative_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "..",
        ".",
        "a/../b",
        "a/./b",
        "/etc",
        "a//b",
        "a/",
        "/",
        "a/..",
        "a\0b",
        "a\nb",
        "\x7f",
        ".zoo",
        ".zoo/releases",
    ],
)
def test_a_path_that_could_leave_the_base_or_touch_the_agents_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidRelease, match=r"^relativePath: "):
        check_relative_path(path)


@pytest.mark.parametrize("path", ["x" * 256, "é" * 128, "/".join(["abcdefg"] * 130)])
def test_a_path_longer_than_a_file_system_takes_is_refused(path: str) -> None:
    with pytest.raises(InvalidRelease, match="longer than a file system takes"):
        check_relative_path(path)


@given(st.text(max_size=40))
def test_a_path_that_is_taken_stays_below_the_base(path: str) -> None:
    try:
        check_relative_path(path)
    except InvalidRelease:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))
    assert path.isprintable() or not any(ord(char) < 32 for char in path)


# --- an address


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://git.example.org/business.git", "https"),
        ("ssh://git@git.example.org:22/business.git", "ssh"),
        ("git@git.example.org:business.git", "ssh"),
        ("git.example.org:business.git", "ssh"),
        ("git://git.example.org/business.git", "git"),
        ("file:///srv/git/business.git", "file"),
        ("/srv/git/business.git", "file"),
        ("./business.git", "file"),
        ("http://[::1]/business.git", "http"),
    ],
)
def test_an_address_tells_by_which_protocol_git_reaches_it(url: str, scheme: str) -> None:
    assert check_url(url) == url
    assert url_scheme(url) == scheme


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=x",
        "-oProxyCommand=x",
        "ext::sh -c x",
        "fd::17",
        "transport::address",
        "https://git.example.org/a\nb",
        "https://git.example.org/\x00",
        "ssh://-oProxyCommand=x/y",
        "https://[::1",
    ],
)
def test_an_address_that_git_would_take_for_something_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidRelease, match=r"^url: "):
        check_url(url)


@pytest.mark.parametrize("scheme", ["FILE", "File", "HTTPS", "Ssh"])
@pytest.mark.parametrize("check", [check_url, check_published_url])
def test_a_protocol_in_capitals_which_git_does_not_know_is_refused(check: Callable[[str], str], scheme: str) -> None:
    with pytest.raises(InvalidRelease) as raised:
        check(f"{scheme}://ann:secret@example.org/x.git")
    assert str(raised.value) == f"url: expected {scheme.lower()}:// as git has it, got {scheme}://"


@pytest.mark.parametrize("url", ["https://ghp_secret@example.org/x.git", "http://ghp_secret@example.org/x.git"])
def test_a_token_in_an_address_is_not_published_and_not_repeated(url: str) -> None:
    assert check_url(url) == url, "a host refuses nothing that was published before"
    with pytest.raises(InvalidRelease, match="carries a user name, perhaps a token") as raised:
        check_published_url(url)
    assert "ghp_secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/x.git", "ssh://git@example.org/x.git", "git@example.org:x.git", "/srv/x.git"]
)
def test_an_address_without_a_token_is_published(url: str) -> None:
    assert check_published_url(url) == url


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRelease, match="carries a password") as raised:
        Release.from_node(node(url="https://ops:sesame@git.example.org/business.git"))
    assert "sesame" not in str(raised.value)


# --- any record's bytes


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "no data"),
        (b"", "no data"),
        (b"{", "not JSON"),
        (b"now", "not JSON"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b"[]", "expected a JSON object, got"),
        (b'"text"', "expected a JSON object, got"),
        (b"null", "expected a JSON object, got null"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a": [NaN]}', "not JSON: NaN is not a JSON number"),
        (b'{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        (b'{"a": 1e999}', 'not JSON: "1e999" is more than a number can be here'),
        (b"{" + b" " * MAX_NODE_BYTES + b"}", "bytes: expected at most"),
        (b"x" * 2_000_000, "2000000 bytes: expected at most"),
    ],
)
def test_data_that_is_not_a_json_object_is_refused_in_one_short_line(data: bytes | None, problem: str) -> None:
    with pytest.raises(InvalidRecord) as raised:
        parse_object(data)
    message = str(raised.value)
    assert problem in message
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_not_written(number: float) -> None:
    release = Release.from_object({**SEED, "rollout": {"from": number}})
    with pytest.raises(InvalidRecord, match=r'^NaN and Infinity are not JSON, got \{.*"from": (NaN|Infinity)\}\}$'):
        release.to_node()


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_lies_in_a_znode_is_a_record_or_an_invalid_record(data: bytes) -> None:
    for kind in (Release, AgentStatus):
        problem = ""
        try:
            kind.from_node(data)
        except InvalidRecord as exc:
            problem = str(exc)
        assert "\n" not in problem


@given(st.dictionaries(st.sampled_from([*SEED, "ref", "rollout", "state", "message", "generation"]), json_values))
def test_wrong_values_under_the_right_keys_are_refused_too(found: dict[str, Any]) -> None:
    for kind in (Release, AgentStatus):
        try:
            record = kind.from_object(found)
        except InvalidRecord:
            continue
        assert kind.from_node(record.to_node()) == record


@given(json_values | st.text(max_size=500))
def test_a_value_is_shown_on_one_short_line(value: Any) -> None:
    text = quote(value)
    assert len(text) <= 80
    assert text.isprintable()


# --- a status


def test_a_status_is_written_with_its_keys_and_without_those_not_set() -> None:
    status = AgentStatus(name="web1", state="active", generation=7, commit_id=COMMIT)
    assert json.loads(status.to_node()) == {"name": "web1", "state": "active", "generation": 7, "commitId": COMMIT}
    assert AgentStatus.from_node(status.to_node()) == status


@pytest.mark.parametrize("state", ["", "ACTIVE", "done", None, 1, [], {}])
def test_an_unknown_state_is_refused(state: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^state: expected one of idle, "):
        AgentStatus.from_object({"name": "web1", "state": state})


@pytest.mark.parametrize("state", STATES)
def test_an_agent_has_converged_when_it_is_active_in_the_published_generation(state: str) -> None:
    status = AgentStatus(name="web1", state=state, generation=7)
    assert status.converged(7) == (state == "active")
    assert not status.converged(8)
    assert status.gave_up(7) == (state in GAVE_UP)
    assert not status.gave_up(8)


@pytest.mark.parametrize(
    ("message", "begin", "end"),
    [
        (
            "hook failed: line 1\n" + "line\n" * MAX_MESSAGE + "line 2; went back",
            "hook failed: line 1",
            "line 2; went back",
        ),
        ("x" * MAX_MESSAGE + "the reason", "x" * LONGEST_FIRST_LINE, "the reason"),
    ],
)
def test_of_a_long_message_the_first_reason_and_the_last_lines_are_kept(message: str, begin: str, end: str) -> None:
    status = AgentStatus(message=message)
    assert status.message is not None
    assert status.message.startswith(f"{begin}\n... the middle is left out ...\n")
    assert status.message.endswith(end)
    assert len(status.message) == MAX_MESSAGE
    assert status.with_changes(state="failed").message == status.message


def test_a_message_that_fits_is_kept_as_it_is() -> None:
    assert AgentStatus(message="x" * MAX_MESSAGE).message == "x" * MAX_MESSAGE


def test_a_message_that_a_znode_cannot_hold_is_escaped() -> None:
    status = AgentStatus(message="b\udcffd")
    assert json.loads(status.to_node())["message"] == "b\\udcffd"


def test_a_changed_status_keeps_the_rest() -> None:
    status = AgentStatus.from_object({"name": "web1", "state": "idle", "rack": "r7"})
    assert status.with_changes(state="active").to_object() == {"name": "web1", "state": "active", "rack": "r7"}


def test_a_host_that_is_held_or_drained_is_described_since_when_by_whom_and_why() -> None:
    mark = {"since": "2026-11-24T10:15:30Z", "reason": "disk swap", "by": "ann"}
    status = AgentStatus.from_object({"name": "web1", "held": mark})
    assert status.controls == "held since 2026-11-24T10:15:30Z by ann: disk swap"
    assert status.with_changes(drained="yes").controls == f"{status.controls}, drained"
    assert AgentStatus(name="web1").controls == ""


# --- paths


def test_the_znodes_of_an_application() -> None:
    app = AppPaths("/app/business")
    assert (app.config, app.history, app.agents) == (
        "/app/business/config",
        "/app/business/history",
        "/app/business/agents",
    )
    assert app.history_prefix == "/app/business/history/release-"
    assert app.agent("web1") == "/app/business/agents/web1"
    assert AppPaths() == app


@pytest.mark.parametrize("root", ["", "/", "app", "/app/", "//app", "/app/../x", "/app/.", "/a\0b", "/a\nb"])
def test_an_application_with_an_invalid_path_is_refused(root: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^(path|app)\b"):
        AppPaths(root)


@pytest.mark.parametrize("root", ["/zookeeper", "/zookeeper/config", "/zookeeper/a/b"])
def test_an_application_is_not_among_the_znodes_of_zookeeper_itself(root: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        AppPaths(root)
    said = f"app: {root} belongs to ZooKeeper itself; expected a znode path such as /app/business"
    assert str(refused.value) == said
    assert whose(AppPaths("/app/business"), root) == f"{root} belongs to ZooKeeper itself"


@pytest.mark.parametrize("root", ["/zookeepers", "/app/zookeeper"])
def test_an_application_may_be_named_like_zookeeper(root: str) -> None:
    assert AppPaths(root).config == f"{root}/config"
    assert whose(AppPaths("/app/business"), root) is None


@given(st.lists(names, min_size=1, max_size=4))
def test_a_path_of_possible_names_is_taken(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    assert check_path(path) == path


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\x1f", "\x9f", "\ud800"])
def test_a_name_that_no_znode_can_have_is_refused_with_the_place_where_it_was(name: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^the agent's name: ") as raised:
        check_node_name(name, "the agent's name")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://git.example.com/a.git", "https://git.example.com/a.git"),
        ("https://token@git.example.com/a.git: refused", "https://git.example.com/a.git: refused"),
        ("from HTTP://u:pw@a/x instead of 'https://t@b/x'", "from HTTP://a/x instead of 'https://b/x'"),
        ("https://ann@example.com:p@ss@git.example.com/a@b", "https://git.example.com/a@b"),
        ("https://a.example or https://t@b.example", "https://a.example or https://b.example"),
        ("ssh://git@git.example.com/a.git", "ssh://git@git.example.com/a.git"),
        ("https://git.example.com/a@b", "https://git.example.com/a@b"),
    ],
)
def test_what_could_be_a_token_in_an_address_is_not_shown(text: str, shown: str) -> None:
    assert without_userinfo(text) == shown
