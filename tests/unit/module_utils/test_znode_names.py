"""Paths of znodes, and walking a subtree level by level."""

from __future__ import annotations

import itertools

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import walk, without_control

TREE = {"/": ["a", "b"], "/a": ["x"], "/a/x": ["deep"], "/b": []}


def test_a_subtree_is_walked_level_by_level_and_each_level_is_listed_at_once() -> None:
    listed: list[list[str]] = []

    def list_level(level: list[str]) -> list[list[str]]:
        listed.append(level)
        return [TREE.get(path, []) for path in level]

    assert list(walk(["/"], list_level)) == [["/a", "/b"], ["/a/x"], ["/a/x/deep"]]
    assert listed == [["/"], ["/a", "/b"], ["/a/x"], ["/a/x/deep"]]


def test_a_level_that_nobody_takes_is_not_listed() -> None:
    listed: list[list[str]] = []

    def list_level(level: list[str]) -> list[list[str]]:
        listed.append(level)
        return [TREE.get(path, []) for path in level]

    assert list(itertools.islice(walk(["/"], list_level), 1)) == [["/a", "/b"]]
    assert listed == [["/"]]
    assert list(walk([], list_level)) == []


def test_a_text_for_a_terminal_has_its_lines_and_no_control_characters() -> None:
    assert without_control("a\tb\nc\x1b[2J\x9b\x00\rd \u00e9") == "a\tb\nc?[2J???d \u00e9"
