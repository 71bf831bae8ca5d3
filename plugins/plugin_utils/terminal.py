# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the output of a wait is printed, between Ansible's own lines."""

from __future__ import annotations

from ansible import constants
from ansible.utils.display import Display

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import printable

display = Display()


def say(text: str, color: str | None = None) -> None:
    """Print some lines at once, so that those of other hosts can't come between them; none moves a cursor.

    If Ansible's output is JSON, as with the callback `ansible.posix.json`, they go to standard error.
    """
    lines = "\n".join(map(printable, text.split("\n")))
    display.display(lines, color=color, stderr="json" in str(constants.DEFAULT_STDOUT_CALLBACK))
