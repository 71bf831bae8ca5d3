"""A temporary shortage on a host is recognised, even behind the errors it has led to."""

from __future__ import annotations

import errno

import pytest

from zoo_watcher.errors import AgentError, ConfigError
from zoo_watcher.host.shortage import comes_of_shortage

LACK = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("causes", "comes"),
    [
        ([LACK], True),
        ([MemoryError()], True),
        ([RuntimeError("can't start new thread")], True),
        ([RuntimeError("dictionary changed size during iteration")], False),
        ([ConfigError(["x"]), LACK], True),
        ([ConfigError(["x"]), AgentError("x"), LACK], True),
        ([ConfigError(["x"])], False),
        ([ConfigError(["x"]), OSError(errno.EACCES, "Permission denied")], False),
    ],
)
def test_a_shortage_is_recognised_behind_the_errors_it_has_led_to(causes: list[BaseException], comes: bool) -> None:
    for error, cause in zip(causes, [*causes[1:], None]):
        error.__cause__ = cause
    assert comes_of_shortage(causes[0]) == comes
