# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the progress of a wait for a fleet, between Ansible's own lines, and how it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible import constants
from ansible.utils.display import Display

from ansible_collections.zoo.deploy.plugins.plugin_utils.terminal import say

from .fleet_report import WHY, ending, headline, listed_reasons, outlook, overview, reasons, report
from .host_line import PROVED, news, outcomes
from .plain_text import plain

GOES_ON = "Ctrl-C ends this waiting only: the agents go on"
ASKS_GATES = "Ctrl-C ends this waiting, and nobody asks the gates then: the agents go on until the next ones"
NARROWEST = 120
"""Columns of the output without a terminal, or on a narrower one, which breaks lines itself."""

display = Display()


class Show:
    """The output of one task's wait for the fleet of `app`; none if the task is `silent` (`no_log`)."""

    def __init__(self, app: str, *, silent: bool = False, asks_gates: bool = False) -> None:
        self._app = app
        self._goes_on = ASKS_GATES if asks_gates else GOES_ON
        self._silent = silent
        self._has_begun = False
        self.shown: dict[str, str] = {}
        """The hosts' outcomes that have been shown."""

    def begin(self, result: Mapping[str, Any]) -> None:
        """Print what is waited for, and what stops the waiting; only once."""
        if self._has_begun:
            return
        self._has_begun = True
        goes_on = self._goes_on if result.get("rollout") else ""
        # A person has to know this before the release is everywhere; a warning appears only when the task ends.
        self.tell([headline(result, self._app), result.get("without_steps", ""), goes_on])

    def tell(self, lines: Iterable[str], color: str | None = None) -> None:
        """Print some lines, any of which may contain what others have written."""
        text = "\n".join(map(plain, filter(None, lines)))
        if text and not self._silent:
            say(text, color)

    def end(self, result: dict[str, Any], *, tells: bool = True) -> dict[str, Any]:
        """The result with a full `report` for a person, if there is one; it is printed if this `tells`."""
        # These, too, contain what others have written.
        result.update({"msg": plain(result["msg"])} if "msg" in result else {})
        result.update({"degraded": list(map(plain, result["degraded"]))} if "degraded" in result else {})
        if "agents" not in result and not result.get("rollout"):
            return result
        now = datetime.now(timezone.utc)
        if tells:
            width = max(display.columns, NARROWEST)
            head = "" if self._has_begun else headline(result, self._app)
            self.tell([head, *self._failures(result), *overview(result, now, width)])
            told, end = reasons(result), ending(result)
            if result.get("failed") and end:
                self.tell([end], constants.COLOR_ERROR)
                is_told = bool(told) and end.endswith(told[0].removeprefix(WHY))
                self.tell([*listed_reasons(told[1:] if is_told else told, width), *outlook(result)])
            else:
                self.tell([*listed_reasons(told, width), *outlook(result)])
                self.tell([end], constants.COLOR_OK)
        return {**result, "report": [*map(plain, filter(None, [headline(result, self._app), *report(result, now)]))]}

    def _failures(self, result: Mapping[str, Any]) -> list[str]:
        """Failures and other outcomes since the last line; the table has the hosts that have proved it."""
        proved = {name: one for name, one in outcomes(result).items() if one == PROVED}
        return [f"{'':9}{line}" for line in news(result, {**self.shown, **proved})] if result.get("commit_id") else []
