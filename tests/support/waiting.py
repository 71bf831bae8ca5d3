"""Wait for a condition with a deadline. No test relies on a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
SHORTEST, LONGEST = 0.02, 0.1
"""Seconds between two checks of a condition."""


def wait_for(condition: Callable[[], Result | None], what: str, seconds: float = 30.0) -> Result:
    """The first true answer of `condition`. Raises AssertionError with `what` and the last answer after `seconds`.

    Each check costs CPU time, here and in the process that answers, so the pauses grow with the time so far.
    """
    began = time.monotonic()
    while True:
        answer = condition()
        if answer:
            return answer
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"not within {seconds} s: {what} (last answer: {answer!r})")
        time.sleep(min(max(waited / 20, SHORTEST), LONGEST))
