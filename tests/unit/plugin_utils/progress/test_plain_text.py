"""What a terminal may show of a text that anybody may have written."""

from __future__ import annotations

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief, cut, plain, wrapped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("disk full", "disk full"),
        ("größer als 5 €", "größer als 5 €"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\x07\x08", "a\\rb\\x07\\x08"),
        ("one\ntwo\tthree", "one two three"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\u2028line", "zero\\u200bwidth\\u2028line"),
        ("half \ud800", "half \\ud800"),
        ("\U000e0041tag", "\\U000e0041tag"),
        (5, "5"),
        (None, "None"),
    ],
)
def test_what_moves_a_cursor_colours_or_reorders_is_an_escape(text: object, shown: str) -> None:
    assert plain(text) == shown
    assert plain(text).isprintable()


def test_commits_in_a_text_are_short() -> None:
    said = f"{'a1' * 20} failed; rolled back to {'0' * 64}."
    assert brief(said) == "a1a1a1a1a1 failed; rolled back to 0000000000."
    # What is not a commit's ID is not shortened.
    assert brief("f" * 41) == "f" * 41


@pytest.mark.parametrize(
    ("width", "shown"), [(20, "healthy after 30 s"), (18, "healthy after 30 s"), (10, "healthy..."), (2, "...")]
)
def test_a_text_is_cut_to_a_width(width: int, shown: str) -> None:
    assert cut("healthy after 30 s", width) == shown


def test_no_word_is_lost_when_lines_are_broken() -> None:
    text = "not healthy within 5 s: http 127.0.0.1:25754/health: status 404, expected 200"
    lines = wrapped(text, 40, "  ")
    assert max(map(len, lines)) <= 40
    assert all(line.startswith("  ") for line in lines)
    assert " ".join(line.strip() for line in lines) == text
