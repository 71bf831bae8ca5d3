"""Have `ansible-playbook` find the modules that an earlier run has packed.

For each module it looks up what that imports, in some fifty files, and packs all of it; it keeps that in a directory of
its own, which ends with the run.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import (
    action_loader,
    connection_loader,
    filter_loader,
    lookup_loader,
    shell_loader,
    test_loader,
)

DOCUMENTATION = """
name: kept_modules
type: aggregate
short_description: Keeps packed modules from one run to the next
description: In the directory that the environment variable ZOO_TESTS_MODULES names.
"""

PLUGINS = (
    (filter_loader, "ansible.builtin.default"),
    (test_loader, "ansible.builtin.defined"),
    (action_loader, "ansible.builtin.normal"),
    (connection_loader, "ansible.builtin.local"),
    (shell_loader, "ansible.builtin.sh"),
    (lookup_loader, "ansible.builtin.first_found"),
)
"""What nearly every task needs. With one filter or test Ansible loads all of its own."""


class CallbackModule(CallbackBase):
    """Has nothing to say."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_modules"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(os.environ["ZOO_TESTS_MODULES"])
        # Each task is a fork, which would load them anew.
        for loader, name in PLUGINS:
            loader.get(name, class_only=True)
