# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GET request from the controller, answered within a time limit or not at all."""

from __future__ import annotations

import threading
import urllib.error
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible.module_utils.urls import open_url

LONGEST = 1_000_000
"""Bytes of an answer that are read."""


class WebAnswer(NamedTuple):
    """An answer's status and the beginning of its body; without one, the status is None and `problem` is set."""

    status: int | None
    body: bytes = b""
    problem: str = ""


def get(url: str, seconds: float, options: Mapping[str, Any]) -> WebAnswer:
    """Request a URL; a redirect is an answer. `options` are further ones of `open_url`.

    A server that sends byte by byte would restart each socket timeout, so a thread keeps the time.
    """
    answers: list[WebAnswer] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(url, seconds, options)), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else WebAnswer(None, problem=f"no answer within {seconds:g} s")


def _ask(url: str, seconds: float, options: Mapping[str, Any]) -> WebAnswer:
    try:
        try:
            answer = open_url(url, method="GET", timeout=seconds, follow_redirects="none", **options)
        except urllib.error.HTTPError as exc:
            answer = exc
        with answer:
            return WebAnswer(answer.code, answer.read(LONGEST))
    except Exception as exc:  # noqa: BLE001  # whatever urllib and TLS raise, there was no answer
        reason = getattr(exc, "reason", None) or exc
        return WebAnswer(None, problem=f"no answer: {getattr(reason, 'strerror', None) or reason}")
