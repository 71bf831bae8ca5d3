# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options `gates` and `notify`, read and checked before anything is published. Their values are never shown."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from .gates import ExpectedValue, StepGate, first_line, number_of

TIMEOUT = 30.0
LONGEST = 3600.0
"""Seconds that a gate or a notification may take: by default, and at most."""
SHORTEST_SECRET = 4
"""The fewest characters of a string that is hidden in output; a shorter one may be part of any sentence."""
OF_COMMANDS = ("command", "environment")
OF_URLS = (
    *("url", "headers", "url_username", "url_password", "status_code", "matches", "json"),
    *("validate_certs", "ca_path", "client_cert", "client_key"),
)
OF_VALUES = ("path", "equals", "at_least", "at_most")
PATHS = ("ca_path", "client_cert", "client_key")
PASSED_ON = ("validate_certs", *PATHS, "url_username", "url_password")
"""The keys of a gate that are options of the request."""


class InvalidOption(ValueError):
    """A gate or a notification that can't be carried out; the message says where and why."""


class Notification(NamedTuple):
    """The command that is run for each change of phase."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float


def read_gates(option: Any) -> list[StepGate]:
    """The gates in an option, which may be JSON. Raises `InvalidOption`."""
    content = _from_json("gates", option) if isinstance(option, str) and option.strip() else option or []
    if not isinstance(content, list):
        raise InvalidOption("gates: expected a list, of objects with a command or a url")
    gates = [_gate(f"gates[{place}]", gate) for place, gate in enumerate(content)]
    names = [gate.name for gate in gates]
    for name in names:
        if names.count(name) > 1:
            raise InvalidOption(f"gates: {name} is the name of several")
    return gates


def read_notification(option: Any) -> Notification | None:
    """The notification in an option: a command, or an object with one, which may be JSON; None if unset.

    Raises `InvalidOption`.
    """
    if not option:
        return None
    is_json = isinstance(option, str) and option.lstrip().startswith(("{", "["))
    content = _from_json("notify", option) if is_json else option
    given = content if isinstance(content, Mapping) else {"command": content}
    _check_keys("notify", given, ("command", "environment", "timeout"))
    return Notification(
        _command("notify.command", given.get("command")),
        _texts("notify.environment", given.get("environment")),
        _seconds("notify.timeout", given.get("timeout", TIMEOUT)),
    )


def _from_json(where: str, option: str) -> Any:
    try:
        return json.loads(option)
    except (ValueError, RecursionError) as exc:
        raise InvalidOption(f"{where}: expected JSON, where it is a text: {exc}") from exc


def _gate(where: str, content: Any) -> StepGate:
    if not isinstance(content, Mapping):
        raise InvalidOption(f"{where}: expected an object with a command or a url")
    kinds = [kind for kind in ("command", "url") if kind in content]
    if len(kinds) != 1:
        raise InvalidOption(f"{where}: expected either command or url, got {' and '.join(kinds) or 'neither'}")
    _check_keys(where, content, ("name", "timeout", *(OF_COMMANDS if kinds == ["command"] else OF_URLS)))
    name, seconds = content.get("name"), _seconds(f"{where}.timeout", content.get("timeout", TIMEOUT))
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidOption(f"{where}.name: expected a line of text, which tells it from others")
    return (_command_gate if kinds == ["command"] else _url_gate)(where, content, str(name), seconds)


def _command_gate(where: str, content: Mapping[str, Any], name: str, seconds: float) -> StepGate:
    environment = _texts(f"{where}.environment", content.get("environment"))
    command = _command(f"{where}.command", content["command"])
    lines = [line for text in environment.values() for line in (text, *text.splitlines())]
    return StepGate(name, seconds, command, environment, secrets=_secrets(lines))


def _url_gate(where: str, content: Mapping[str, Any], name: str, seconds: float) -> StepGate:
    url, headers = _url(f"{where}.url", content["url"]), _headers(f"{where}.headers", content.get("headers"))
    options = {key: content[key] for key in PASSED_ON if content.get(key) is not None}
    for key, value in options.items():
        if not isinstance(value, bool if key == "validate_certs" else str):
            raise InvalidOption(f"{where}.{key}: expected {'true or false' if key == 'validate_certs' else 'a string'}")
    options.update({key: os.path.expanduser(os.path.expandvars(options[key])) for key in PATHS if key in options})
    if "url_username" in options:
        options["force_basic_auth"] = True
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    told = [url, parts.query, *_query_values(parts.query), parts.password, password, options.get("url_password")]
    told += [_basic(user, password), _basic(options.get("url_username"), options.get("url_password"))]
    told += [word for value in headers.values() for word in _words(value)]
    return StepGate(
        name,
        seconds,
        url=url,
        options={**options, "headers": headers},
        statuses=_statuses(f"{where}.status_code", content.get("status_code", 200)),
        matches=_pattern(f"{where}.matches", content.get("matches")),
        value=_value(f"{where}.json", content.get("json")),
        secrets=_secrets(told),
    )


def _secrets(texts: Collection[Any]) -> frozenset[str]:
    forms = {form for text in texts if text for form in _forms(str(text))}
    return frozenset(form for form in forms if len(form) >= SHORTEST_SECRET)


def _words(header: str) -> list[str]:
    """The parts of a header's value: its words, their values, as in a cookie, and the login and password of Basic."""
    words = [header, *header.split(), *re.split(r"[\s;,]+", header)]
    words += [word.partition("=")[2].strip('"') for word in words]
    basic = re.fullmatch(r"basic\s+(\S+)", header.strip(), re.IGNORECASE)
    try:
        login = base64.b64decode(basic[1], validate=True).decode() if basic else ""
    except ValueError:
        login = ""
    return [*words, login, login.partition(":")[2]]


def _forms(text: str) -> set[str]:
    """The forms of a string in a line of output: unchanged, its first line made printable, both in HTML and JSON."""
    plain = {text, first_line(text)}
    plain |= {form for one in plain for form in _in_html(one)}
    return {*plain, *(json.dumps(one, ensure_ascii=ascii_only)[1:-1] for one in plain for ascii_only in (True, False))}


def _in_html(text: str) -> tuple[str, ...]:
    """Its forms in a page, with quotation marks as they are, by name, or by number."""
    bare = html.escape(text, quote=False)
    return bare, html.escape(text), bare.replace('"', "&#34;").replace("'", "&#39;")


def _query_values(query: str) -> list[str]:
    """The values of a URL's parameters, as written and decoded."""
    values = [parameter.partition("=")[2] for parameter in query.split("&")]
    return [*values, *map(unquote_plus, values)]


def _basic(user: str | None, password: str | None) -> str:
    """A user and a password in base64, as in a request's header; empty without a password."""
    return base64.b64encode(f"{user or ''}:{password}".encode()).decode() if password else ""


def _check_keys(where: str, content: Mapping[str, Any], known: Collection[str]) -> None:
    for key in content:
        if key not in known:
            raise InvalidOption(f"{where}.{key}: no such key; expected one of {', '.join(known)}")


def _command(where: str, value: Any) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise InvalidOption(f"{where}: {str(exc).lower()}") from exc
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) and "\0" not in word for word in words)
    ):
        raise InvalidOption(f"{where}: expected a command, a string or a list of words")
    return tuple(map(str, words))


def _url(where: str, value: Any) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not value.isascii() or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise InvalidOption(f"{where}: expected one of http or https, with what is no letter or digit encoded (%20)")
    return str(value)


def _texts(where: str, value: Any) -> dict[str, str]:
    """A mapping of strings, such as an environment."""
    if value is None:
        return {}
    texts = [*value, *value.values()] if isinstance(value, Mapping) else [None]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise InvalidOption(f"{where}: expected an object whose values are strings")
    return {str(key): str(text) for key, text in value.items()}


def _headers(where: str, value: Any) -> dict[str, str]:
    headers = _texts(where, value)
    if not all(text.isprintable() and text.isascii() for text in (*headers, *headers.values())):
        raise InvalidOption(f"{where}: expected names and values of one line, in ASCII")
    return headers


def _seconds(where: str, value: Any) -> float:
    try:
        seconds = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if 0 < seconds <= LONGEST:
        return seconds
    raise InvalidOption(f"{where}: expected seconds, more than 0 and at most {LONGEST:g}")


def _statuses(where: str, value: Any) -> frozenset[int]:
    statuses = value if isinstance(value, list) else [value]
    try:
        numbers = frozenset(int(status) for status in statuses)
    except (TypeError, ValueError, OverflowError):
        numbers = frozenset()
    if numbers and all(100 <= number <= 599 for number in numbers):
        return numbers
    raise InvalidOption(f"{where}: expected a status of HTTP, such as 200, or a list of some")


def _pattern(where: str, value: Any) -> re.Pattern[str] | None:
    if value is None:
        return None
    try:
        return re.compile(value)
    except (TypeError, re.error, OverflowError, RecursionError) as exc:
        raise InvalidOption(f"{where}: expected a regular expression: {exc}") from exc


def _value(where: str, content: Any) -> ExpectedValue | None:
    if content is None:
        return None
    if not isinstance(content, Mapping) or "path" not in content:
        raise InvalidOption(f"{where}: expected an object with path, and equals, at_least or at_most")
    _check_keys(where, content, OF_VALUES)
    path = content["path"].split(".") if isinstance(content["path"], str) else content["path"]
    if not isinstance(path, list) or not path or not all(isinstance(word, (str, int)) and word != "" for word in path):
        raise InvalidOption(f"{where}.path: expected keys and places with dots between them, or a list of them")
    limits = {key: _number(f"{where}.{key}", content[key]) for key in ("at_least", "at_most") if key in content}
    if bool(limits) == ("equals" in content):
        raise InvalidOption(f"{where}: expected either equals, or at_least or at_most or both")
    return ExpectedValue(tuple(map(str, path)), content.get("equals"), **limits)


def _number(where: str, value: Any) -> float:
    number = number_of(value)
    if number is None:
        raise InvalidOption(f"{where}: expected a number")
    return number
