"""Which agents have the files of some znodes in place, by their statuses alone."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import (
    FileProof,
    ZnodeState,
    files_of,
    is_below,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import describe_all, grouped
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, FileStatus


def status(agent: str, **files: dict[str, Any]) -> AgentStatus:
    """The status of an agent with files, by name."""
    return AgentStatus(name=agent, state="idle", files={f"/etc/{dest}": entry for dest, entry in files.items()})


def file(znode: str, state: str, zxid: int, kind: str = "value", **keys: Any) -> dict[str, Any]:
    """What an agent reports about one file."""
    return {"znode": znode, "format": kind, "state": state, "zxid": zxid, **keys}


def verdict(held: ZnodeState | list[ZnodeState], *files: dict[str, Any]) -> str:
    """The verdict on an agent with these files: `proved`, `failed`, `pending`, or `not asked`."""
    holdings = held if isinstance(held, list) else [held]
    agent = status("a", **{f"f{number}": one for number, one in enumerate(files)})
    judged = FileProof(holdings, "x").judge({"a": agent})
    return next((kind for kind, names in judged._asdict().items() if names), "not asked")


@pytest.mark.parametrize(
    ("held", "znode", "kind", "concerned"),
    [
        (ZnodeState("/c/x", "value", 5), "/c/x", "value", True),
        (ZnodeState("/c/x", "value", 5), "/c/x", "json", True),
        (ZnodeState("/c/x", "value", 5), "/c", "directory", True),
        (ZnodeState("/c/x", "value", 5), "/", "yaml", True),
        (ZnodeState("/c/x", "value", 5), "/c", "value", False),
        (ZnodeState("/c/x", "value", 5), "/c/x/y", "value", False),
        (ZnodeState("/c/x", "value", 5), "/c/xy", "json", False),
        (ZnodeState("/c/x", "children", 5), "/c/x", "value", False),
        (ZnodeState("/c/x", "children", 5), "/c/x", "env", True),
        (ZnodeState("/c/x", "children", 5), "/c", "env", True),
        (ZnodeState("/c/x", "children", 5), "/c/x/y", "value", False),
        (ZnodeState("/c/x", "nothing", 5), "/c/x", "value", True),
        (ZnodeState("/c/x", "nothing", 5), "/c/x/y/z", "value", True),
        (ZnodeState("/c/x", "nothing", 5), "/c/x/y", "directory", True),
        (ZnodeState("/c/x", "nothing", 5), "/c", "directory", True),
        (ZnodeState("/c/x", "nothing", 5), "/c", "value", False),
    ],
)
def test_a_file_is_concerned_by_what_can_make_a_difference_to_it(
    held: ZnodeState, znode: str, kind: str, concerned: bool
) -> None:
    assert held.concerns(FileStatus(znode=znode, format=kind)) is concerned
    assert (verdict(held, file(znode, "pending", 9, kind)) == "pending") is concerned


@pytest.mark.parametrize(
    ("what", "znode", "kind", "state", "zxid", "found"),
    [
        ("value", "/c/x", "value", "current", 5, "proved"),
        ("value", "/c/x", "value", "current", 6, "proved"),
        ("value", "/c/x", "value", "current", 4, "pending"),
        ("value", "/c/x", "value", "pending", 7, "pending"),
        ("value", "/c/x", "value", "failed", 5, "failed"),
        ("value", "/c/x", "value", "failed", 4, "pending"),
        # Somebody has deleted the znode again: the value that was written will not arrive.
        ("value", "/c/x", "value", "missing", 5, "failed"),
        ("value", "/c/x", "value", "missing", 4, "pending"),
        ("value", "/c", "json", "current", 5, "proved"),
        ("nothing", "/c/x", "value", "missing", 5, "proved"),
        ("nothing", "/c/x", "value", "missing", 4, "pending"),
        ("nothing", "/c/x", "value", "current", 7, "pending"),
        ("nothing", "/c/x", "value", "failed", 5, "failed"),
        ("nothing", "/c/x/y", "value", "missing", 5, "proved"),
        ("nothing", "/c/x/y", "value", "current", 5, "pending"),
        ("nothing", "/c", "json", "current", 5, "proved"),
        ("nothing", "/c", "json", "missing", 5, "proved"),
        ("nothing", "/c", "json", "current", 4, "pending"),
    ],
)
def test_a_file_is_proved_by_its_state_as_of_the_transaction_or_a_later_one(
    what: str, znode: str, kind: str, state: str, zxid: int, found: str
) -> None:
    assert verdict(ZnodeState("/c/x", what, 5), file(znode, state, zxid, kind)) == found


def test_a_znode_that_was_deleted_at_an_unknown_time_is_proved_by_a_missing_file() -> None:
    held = [ZnodeState("/c/x", "nothing", 0), ZnodeState("/c", "children", 50)]
    assert verdict(held, file("/c/x", "missing", 3)) == "proved"
    assert verdict(held, file("/c/x", "current", 3)) == "pending"
    # The subtree has lost the znode by then at the latest.
    assert verdict(held, file("/c", "current", 49, "json")) == "pending"
    assert verdict(held, file("/c", "current", 50, "json")) == "proved"


def test_of_several_znodes_in_a_file_the_last_one_counts() -> None:
    held = [ZnodeState("/c/x", "value", 5), ZnodeState("/c/y", "value", 9), ZnodeState("/d", "value", 70)]
    assert verdict(held, file("/c", "current", 8, "json")) == "pending"
    assert verdict(held, file("/c", "current", 9, "json")) == "proved"


def test_an_agent_is_as_far_as_the_worst_of_its_files() -> None:
    held = ZnodeState("/c/x", "value", 5)
    good, slow, bad = (file("/c/x", state, 5) for state in ("current", "pending", "failed"))
    elsewhere = file("/d", "failed", 5)
    assert verdict(held, good, elsewhere) == "proved"
    assert verdict(held, good, slow) == "pending"
    assert verdict(held, slow, bad, good) == "failed"
    assert verdict(held, elsewhere) == verdict(held) == "not asked"


def test_agents_are_sorted_and_only_those_that_are_asked_are_named() -> None:
    fleet = {
        "d": status("d", one=file("/c/x", "current", 6)),
        "a": status("a", one=file("/c/x", "current", 5)),
        "c": status("c", one=file("/other", "failed", 9)),
        "b": AgentStatus(name="b", state="active"),
        "e": status("e", one=file("/c/x", "failed", 5, message="bad number"), two=file("/c/x", "pending", 5)),
    }
    proof = FileProof([ZnodeState("/c/x", "value", 5)], "/c/x")
    assert proof.judge(fleet) == (["a", "d"], ["e"], [])
    assert proof.judge(fleet).names == ["a", "d", "e"]
    assert grouped({"e": proof.describe(fleet["e"])}) == "/etc/one on e is failed (bad number), and 1 more files of its"


def test_named_agents_and_no_others_are_waited_for_even_without_such_a_file() -> None:
    fleet = {
        "a": status("a", one=file("/c/x", "current", 5)),
        "b": status("b", one=file("/other", "current", 5)),
        "other": status("other", one=file("/c/x", "failed", 5)),
    }
    proof = FileProof([ZnodeState("/c/x", "value", 5)], "/c/x", ["a", "b", "gone"])
    assert proof.judge(fleet) == (["a"], [], ["b", "gone"])
    said = grouped(describe_all(proof, fleet, ["b", "gone"]))
    assert said == "b is without a file from there; gone is not live"


FORMATLESS = {"/etc/x": {"znode": "/c", "format": ["json"]}}


@pytest.mark.parametrize(
    "files", [None, [], "x", 7, {"/etc/x": None}, {"/etc/x": []}, {"/etc/x": {"znode": 7}}, FORMATLESS]
)
def test_an_invalid_status_of_a_file_concerns_nobody_and_breaks_nothing(files: Any) -> None:
    broken = AgentStatus(name="a", state="idle", files=files)
    assert files_of(broken) == {}
    assert FileProof([ZnodeState("/c", "value", 5)], "/c").judge({"a": broken}) == ([], [], [])


@pytest.mark.parametrize(
    ("path", "above", "below"),
    [("/a/b", "/a", True), ("/a", "/a", False), ("/ab", "/a", False), ("/a", "/", True), ("/", "/", False)],
)
def test_below_is_below_and_not_beside(path: str, above: str, below: bool) -> None:
    assert is_below(path, above) is below
