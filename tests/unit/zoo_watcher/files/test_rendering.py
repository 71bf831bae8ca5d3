"""Znodes rendered as one file: an independent reader gets back whatever is in them, or it is refused by name."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo_watcher.files.rendering import MAX_DEPTH, check_name, leaves, render
from zoo_watcher.wire.znode_names import InvalidRecord

NAMES = st.one_of(
    st.sampled_from(
        ("a", "db", "host", "a.b", "a-b", "A", "#a", "=", "null", "yes", "1", "a b", "$a", "'", '"', "é", "\U0001f600")
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=20),
).filter(lambda name: name not in {".", ".."})
WORDS = st.sampled_from(("a", "B", "x1", "_y", "a-b", "c.d"))
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(
        (
            "",
            " ",
            "\n",
            "a\nb",
            "a\r\nb",
            "'",
            '"',
            "$HOME",
            "`id`",
            "\\",
            "\\n",
            "a\\\nb",
            "!",
            "#",
            "yes",
            "0",
            "a: b",
            "\ufeffx",
            "\u2028",
            "\x85",
        )
    ),
)


def trees(names: st.SearchStrategy[str], texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Nested objects of strings, as a subtree can be: no object within another is empty."""
    return st.recursive(
        st.dictionaries(names, texts, max_size=4),
        lambda inner: st.dictionaries(names, st.one_of(texts, inner.filter(bool)), max_size=4),
        max_leaves=8,
    )


def as_values(tree: dict[str, Any]) -> dict[str, bytes]:
    """The values of the subtree that a tree represents."""
    values = {"": b""}

    def add(prefix: str, inner: dict[str, Any]) -> None:
        for name, value in inner.items():
            path = f"{prefix}{name}"
            values[path] = b"" if isinstance(value, dict) else value.encode()
            if isinstance(value, dict):
                add(f"{path}/", value)

    add("", tree)
    return values


def flat(tree: dict[str, Any], between: str) -> list[tuple[str, str]]:
    """The joined paths of a tree, and the strings at them."""
    texts = []
    for name, value in tree.items():
        if isinstance(value, dict):
            texts += [(f"{name}{between}{path}", text) for path, text in flat(value, between)]
        else:
            texts.append((name, value))
    return texts


@given(trees(NAMES, TEXTS))
def test_json_comes_back(tree: dict[str, Any]) -> None:
    assert json.loads(render("json", as_values(tree))) == tree


@given(trees(NAMES, TEXTS))
def test_yaml_comes_back(tree: dict[str, Any]) -> None:
    rendered = render("yaml", as_values(tree))
    assert yaml.safe_load(rendered) == tree
    assert yaml.load(rendered, Loader=yaml.BaseLoader) == tree


@given(trees(NAMES, TEXTS))
def test_properties_come_back_or_two_keys_are_the_same(tree: dict[str, Any]) -> None:
    expected = flat(tree, ".")
    if len(dict(expected)) < len(expected):
        with pytest.raises(InvalidRecord, match="both get the key"):
            render("properties", as_values(tree))
    else:
        assert load_properties(render("properties", as_values(tree)).decode("ascii")) == dict(expected)


def load_properties(text: str) -> dict[str, str]:
    r"""What `java.util.Properties.load` reads, according to its documentation."""
    logical, properties = "", {}
    for natural in re.split(r"\r\n|\r|\n", text):
        line = natural.lstrip(" \t\f")
        if not logical and (not line or line[0] in "#!"):
            continue
        logical += line
        if len(re.search(r"\\*$", logical).group()) % 2:  # type: ignore[union-attr]
            logical = logical[:-1]
            continue
        key, value = re.fullmatch(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", logical).groups()  # type: ignore[union-attr]
        properties[unescaped(key)] = unescaped(value)
        logical = ""
    return properties


def unescaped(text: str) -> str:
    r"""A key or value without its backslashes; \uXXXX are units of UTF-16."""
    named = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}

    def letter(match: re.Match[str]) -> str:
        word = match.group(1)
        return chr(int(word[1:], 16)) if len(word) > 1 else named.get(word, word)

    units = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", letter, text)
    return units.encode("utf-16", "surrogatepass").decode("utf-16")


@settings(max_examples=60)
@given(trees(WORDS, TEXTS))
def test_a_shell_can_source_an_env_file_or_its_values_are_refused(tree: dict[str, Any]) -> None:
    expected = {re.sub("[-./]", "_", path).upper(): text for path, text in flat(tree, "/")}
    values = as_values(tree)
    if len(expected) < len(leaves(values)):
        with pytest.raises(InvalidRecord, match="both get the key"):
            render("env", values)
    elif any("\0" in text for text in expected.values()):
        with pytest.raises(InvalidRecord, match="zero byte"):
            render("env", values)
    else:
        assert sourced(render("env", values), expected) == expected


def sourced(rendered: bytes, keys: dict[str, str]) -> dict[str, str]:
    """The variables that a shell has after sourcing a file."""
    script = rendered + b"".join(b"printf '%s=%s\\0' " + key.encode() + b' "$' + key.encode() + b'"\n' for key in keys)
    done = subprocess.run(["sh", "-eu"], input=script, capture_output=True, check=True, env={})
    assert done.stderr == b""
    return dict(one.split("=", 1) for one in done.stdout.decode().split("\0")[:-1])


@pytest.mark.parametrize(
    ("form", "values", "problem"),
    [
        ("json", {"a": b"\xff"}, '"a": not UTF-8 at byte 0'),
        ("yaml", {"a/b": b"ok\x80", "a": b""}, '"a/b": not UTF-8 at byte 2'),
        ("json", {"a": b"x", "a/b": b"y"}, '"a" has both a value and znodes below it'),
        ("properties", {"a.b": b"", "a": b"", "a/b": b""}, '"a.b" and "a/b" both get the key "a.b"'),
        ("env", {"a-b": b"", "a_b": b""}, '"a-b" and "a_b" both get the key "A_B"'),
        ("env", {"1a": b""}, '"1a": expected ASCII with no digit first'),
        ("env", {"straße": b""}, "expected ASCII"),
        ("env", {"a": b"x\0y"}, "\"a\": a variable's value can't hold a zero byte"),
        ("json", {"big": b"x" * 1_000_001}, '"big": 1000001 bytes: expected at most 1000000'),
        ("value", {"": b"x" * 1_000_001}, "1000001 bytes: expected at most 1000000"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_in_one_line_that_names_it(
    form: str, values: dict[str, bytes], problem: str
) -> None:
    with pytest.raises(InvalidRecord) as refused:
        render(form, {"": b"", **values})
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("form", "rendered"),
    [("json", b"{}\n"), ("yaml", b"{}\n"), ("properties", b""), ("env", b""), ("value", b"its own")],
)
def test_a_znode_with_nothing_below_it_is_an_empty_object(form: str, rendered: bytes) -> None:
    assert render(form, {"": b"its own"}) == rendered


def test_the_order_of_a_file_is_that_of_its_paths_so_that_equal_subtrees_are_equal_files() -> None:
    one = {"": b"", "b": b"1", "a": b"", "a/z": b"2", "a/c": b"3"}
    other = dict(reversed(one.items()))
    for form in ("json", "yaml", "properties", "env"):
        assert render(form, one) == render(form, other)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "\x7f", "\ud800", ".zoo-new", "x" * 256, "é" * 128])
def test_a_name_that_no_file_of_ours_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidRecord):
        check_name(name)


@given(NAMES)
def test_any_other_name_is_accepted(name: str) -> None:
    assume(len(name.encode()) <= 255 and not name.startswith(".zoo-"))
    assume(not any("\x7f" <= letter <= "\x9f" or letter < " " for letter in name))
    assert check_name(name) == name


def test_an_env_file_is_quoted_for_systemd_as_for_a_shell(tmp_path: Path) -> None:
    values = {"": b"", "plain": b"a/b:1", "quoted": b'it\'s "so" $x `y` \\z', "empty": b""}
    (tmp_path / "env").write_bytes(render("env", values))
    assert (tmp_path / "env").read_text() == 'EMPTY=\nPLAIN=a/b:1\nQUOTED="it\'s \\"so\\" \\$x \\`y\\` \\\\z"\n'


def chain(levels: int) -> dict[str, bytes]:
    """The values of a subtree with one znode on each level."""
    paths = ["/".join("a" * level) for level in range(1, levels + 1)]
    return {"": b"", **dict.fromkeys(paths, b""), paths[-1]: b"deepest"}


@pytest.mark.parametrize("form", ["json", "yaml", "properties", "env"])
def test_the_depth_of_a_subtree_is_limited(form: str) -> None:
    assert b"deepest" in render(form, chain(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 1_500):
        with pytest.raises(InvalidRecord, match=r"^more than 100 levels of znodes: expected at most 100$"):
            render(form, chain(levels))
