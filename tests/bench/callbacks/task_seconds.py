"""Writes the seconds that each task took on each host to the file in ZOO_BENCH_TASK_SECONDS, one per line."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_seconds
type: aggregate
short_description: Task times for the bench
description: Writes a line of JSON for each task.
"""


class CallbackModule(CallbackBase):
    """Times a task from the moment it is handed to a host to the moment its result is there."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0.0

    def v2_runner_on_start(self, *_what: Any) -> None:
        """A task begins."""
        self._begun = time.perf_counter()

    def v2_runner_on_ok(self, *_what: Any) -> None:
        """A task has ended."""
        with open(os.environ["ZOO_BENCH_TASK_SECONDS"], "a", encoding="utf-8") as file:
            file.write(f"{time.perf_counter() - self._begun}\n")
