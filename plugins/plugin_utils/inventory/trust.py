# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that anybody may have written, marked so that Ansible never takes them for templates."""

from __future__ import annotations

from typing import Any

try:
    from ansible.template import trust_as_template as _trusted
except ImportError:
    _trusted = None


def untrusted(value: Any) -> Any:
    """`value`, marked where Ansible would take it for a template; since 2.19 it takes only what is marked as one."""
    if _trusted is not None:
        return value
    from ansible.utils.unsafe_proxy import wrap_var  # noqa: PLC0415 - deprecated where it isn't needed

    return wrap_var(value)
