"""docs/troubleshooting.md has every message that the code can print, and none that it can't."""

from __future__ import annotations

import re
from functools import cache

import pytest

from support.documents import FENCED, ROOT, blocks
from support.messages import VARIES, Message, find_messages, in_program, in_tasks

PAGE = ROOT / "docs" / "troubleshooting.md"
ENTRIES = [block.splitlines() for block in blocks(PAGE, "text")]
LISTED = [text for entry in ENTRIES for text in entry]
PATTERNS = {listed: re.compile(".*".join(map(re.escape, listed.split(VARIES)))) for listed in LISTED}
"""Matches each listed message, with anything in place of `…`."""


@cache
def found() -> list[Message]:
    return find_messages()


def test_every_message_is_listed() -> None:
    missing = [message for message in found() if not any(one.fullmatch(message.text) for one in PATTERNS.values())]
    assert missing == [], f"in {PAGE.name}, list these with cause and remedy"


def test_what_is_listed_is_a_message() -> None:
    texts = {message.text for message in found()}
    assert [listed for listed, pattern in PATTERNS.items() if not any(map(pattern.fullmatch, texts))] == []


def test_nothing_is_listed_twice_or_stands_for_everything() -> None:
    assert sorted(LISTED) == sorted(set(LISTED))
    assert [text for text in LISTED if not re.search(r"[A-Za-z]{2}", text)] == []


def test_an_entry_says_more_than_its_messages() -> None:
    below = FENCED.split(PAGE.read_text(encoding="utf-8"))[3::3]
    assert len(below) == len(ENTRIES)
    assert [entry for entry, text in zip(ENTRIES, below) if not text.strip() or text.strip().startswith("#")] == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('raise Wrong(f"{name}: no such key")', "…: no such key"),
        ('raise Wrong(a if b else f"{c} is gone") from exc', "… is gone"),
        ('module.warn("not done, " f"{count} times")', "not done, … times"),
        ('log.error("%s of %d lost", a, b)', "… of … lost"),
        ('return f"{count:>3} are missing"', "… are missing"),
        ('PROBLEM = "the thing has come to its end"', "the thing has come to its end"),
        ('def f():\n    problems = [f"{exc}; run it again"]', "…; run it again"),
    ],
)
def test_a_message_is_found_wherever_it_is_put_together(code: str, expected: str) -> None:
    assert [text for text, _line in in_program(code)] == [expected]


@pytest.mark.parametrize(
    "code",
    [
        '"""What this module is for, in many words."""',
        'DOCUMENTATION = "the option is for this and that"',
        'parser.add_argument("x", help="what the argument is good for")',
        'MARKS = ("no space left on device", "read-only file system")',
        'x = "two words"',
        're.compile("this and that or something")',
    ],
)
def test_what_is_not_a_message_is_not_found(code: str) -> None:
    assert list(in_program(code)) == []


def test_messages_of_tasks_are_found_at_any_depth() -> None:
    tasks = "- block:\n  - ansible.builtin.fail:\n      msg: '{{ a }} is not there {% if b %}yet{% endif %}'\n"
    assert [text for text, _line in in_tasks(tasks)] == ["… is not there …yet…"]
