"""What is printed if Ctrl-C ends workers that waited: the process that has started them prints it at its end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.interrupted_wait import COMMANDS, GOES_ON, UNKNOWN

RUN = """
import os, sys
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.interrupted_wait import Waiting

for worker in sys.argv[1:]:
    if os.fork() == 0:
        waiting = Waiting()
        waiting.__enter__()
        if worker != "begun":
            waiting.note_published()
        how = {"ended": [None], "timeout of the task": [BaseException], "interrupted": [KeyboardInterrupt]}
        waiting.__exit__(*how[worker]) if worker in how else None
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (["ended"], ""),
        (["timeout of the task"], ""),
        (["interrupted", "ended"], GOES_ON + COMMANDS),
        (["begun"], UNKNOWN),
        (["waits", "ended"], GOES_ON + COMMANDS),
        (["begun", "ended"], UNKNOWN),
        (["waits", "begun"], GOES_ON + COMMANDS),
    ],
)
def test_a_worker_that_has_ended_well_does_not_speak_for_one_that_has_not(workers: list[str], said: str) -> None:
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *workers], env=surroundings, capture_output=True, text=True, check=True
    )
    assert done.stderr == said
