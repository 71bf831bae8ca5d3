"""Payloads of a config znode: good releases, nearly good ones, any JSON, any bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

LARGEST = 1_000_000
"""Bytes that ZooKeeper accepts, with room for the path."""

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
"""JSON values."""
PATHS = st.one_of(
    st.sampled_from(
        [
            *("../escaped", "/escaped", "a/../../escaped", "./x", "x/", "//x", "", ".", "..", "~/x", "x\0y", "x\ny"),
            *(".zoo/releases", ".zoo", "site/below", "n" * 256, "a/" * 200 + "b", "-rf", "$HOME/x", "`id`", "{{ x }}"),
        ]
    ),
    st.text(max_size=12),
    st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4).map("/".join),
)
URLS = st.one_of(
    st.sampled_from(
        [
            *(
                "--upload-pack=touch escaped",
                "-u",
                "ext::sh -c 'touch escaped'",
                "file://",
                "file:///nowhere",
                "/nowhere",
            ),
            *("ssh://-oProxyCommand=touch/x", "host:path", "https://user:secret@host/x", "git://127.0.0.1:1/x", "."),
            *("http://[::1", "file:///etc/passwd", "fd::17/x", "file://../escaped", "http://127.0.0.1:1/x", ".."),
        ]
    ),
    st.text(max_size=12),
)
COMMITS = st.one_of(
    st.sampled_from(["HEAD", "main", "0" * 40, "f" * 64, "0" * 39, "--all", "0" * 40 + "^{}", "refs/heads/main"]),
    st.text(alphabet="0123456789abcdefABCDEF", min_size=40, max_size=40),
    st.text(max_size=12),
)


def _mutations(good: dict[str, str]) -> st.SearchStrategy[bytes]:
    """A good release with some keys changed, missing or added."""
    changed: dict[str, st.SearchStrategy[Any]] = {
        "url": URLS | TREES,
        "commitId": COMMITS | TREES,
        "relativePath": PATHS | TREES,
        "rollout": TREES,
        "ref": TREES,
        "signature": TREES,
    }
    changes = st.fixed_dictionaries({}, optional=changed)
    dropped = st.sets(st.sampled_from(sorted(good)), max_size=1)
    return st.builds(
        lambda change, drop: _encode({key: value for key, value in {**good, **change}.items() if key not in drop}),
        changes,
        dropped,
    )


def _cut(good: dict[str, str]) -> st.SearchStrategy[bytes]:
    """The bytes of a good release with a piece replaced."""
    data = json.dumps(good).encode()
    return st.builds(
        lambda start, length, piece: data[:start] + piece + data[start + length :],
        st.integers(0, len(data)),
        st.integers(0, 20),
        st.binary(max_size=8),
    )


def _encode(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


EXTREMES = st.sampled_from(
    [
        *(
            b"",
            b"null",
            b"{}",
            b"[]",
            b"\xef\xbb\xbf{}",
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b"9" * 5_000,
            b"NaN",
            b"\0",
        ),
        *(b'{"url": 1e999}', b"x" * LARGEST, b'{"url": "' + b"u" * (LARGEST - 20) + b'"}', b'"\xed\xa0\x80"'),
    ]
)


def payloads(good: dict[str, str]) -> st.SearchStrategy[bytes]:
    """Payloads derived from a good release, and others."""
    return st.one_of(
        _mutations(good), _mutations(good), _cut(good), TREES.map(_encode), st.binary(max_size=200), EXTREMES
    )
