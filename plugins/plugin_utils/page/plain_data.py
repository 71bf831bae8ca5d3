# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page is made of, as plain data, whoever wrote it: a URL has no login, and no string is markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.records import url_scheme, without_userinfo
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief, plain

LINKED = re.compile(r"https?://[A-Za-z0-9\[]")
"""How an address that a page may link to begins."""


def cleaned(value: Any) -> Any:
    """The value as JSON-like data of plain Python types; possible tokens in addresses are removed."""
    if isinstance(value, str):
        text = str.__str__(value)
        return without_userinfo(text) if "@" in text else text
    if isinstance(value, Mapping):
        return {str(key): cleaned(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [cleaned(one) for one in value]
    return value


def to_json(value: Any) -> str:
    """Data, already `cleaned`, as ASCII JSON on one line."""
    return json.dumps(value, separators=(",", ":"))


def json_in_html(value: Any) -> str:
    """The same for use inside a `script` element: nothing in it can end that, or start a comment."""
    text = to_json(value)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def mapping(value: Any) -> Mapping[str, Any]:
    """A value that should be an object; an empty one if another program has written something else."""
    return value if isinstance(value, Mapping) else {}


def texts(value: Any) -> list[str]:
    """A value that should be a list of strings; an empty one if it is something else."""
    return list(map(str, value)) if isinstance(value, list) else []


def lines(text: Any) -> list[str]:
    """The lines of a message, each for a person; empty if there is no message."""
    return [brief(line) for line in str(text).splitlines() if line.strip()] if text not in (None, "") else []


def link(url: Any) -> str | None:
    """The web address for a page's link to a repository; None for any other URL, which is only shown."""
    is_web = isinstance(url, str) and LINKED.match(url) and url_scheme(url) in {"http", "https"}
    return url if is_web and plain(url) == url and " " not in url else None
