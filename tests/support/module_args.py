"""Module arguments as Ansible passes them, in this process, for every supported ansible-core."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from ansible.module_utils import basic
from ansible.module_utils.common.parameters import PASS_VARS

INTERNAL = {"_ansible_inject_invocation": True} if "inject_invocation" in PASS_VARS else {}
"""Since 2.21, a module returns its arguments only if Ansible asks for them, as it does with -vvv."""


@contextmanager
def given_args(args: Mapping[str, Any]) -> Iterator[None]:
    """Give these options to modules started inside the block. Ansible's own `patch_module_args` is newer than 2.17."""
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, **INTERNAL}}).encode()
    with ExitStack() as patched:
        patched.enter_context(mock.patch.object(basic, "_ANSIBLE_ARGS", given))
        if hasattr(basic, "_ANSIBLE_PROFILE"):
            patched.enter_context(mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy"))
        yield
