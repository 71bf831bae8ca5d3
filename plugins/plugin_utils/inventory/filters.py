# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which registrations become hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import FAILS


class Filter(NamedTuple):
    """One entry of the option `filters`: a condition, and what happens to a registration if it is true or not.

    True keeps it, False leaves it out, None leaves it to the filters that follow.
    """

    condition: str | bool
    if_true: bool | None
    otherwise: bool | None

    @classmethod
    def from_option(cls, given: Any) -> Filter:
        """From an entry as in the file. Raises `ZooKeeperError`."""
        if _is_condition(given):
            return cls(given, None, False)
        if isinstance(given, Mapping) and len(given) == 1:
            ((kind, condition),) = given.items()
            if kind in {"include", "exclude"} and _is_condition(condition):
                return cls(condition, kind == "include", None)
        expected = "expected a condition, or a mapping with include or exclude"
        raise ZooKeeperError(f"filters: {expected}, got {quote(given)}")

    def judge(
        self, values: Sequence[Any], paths: Sequence[str], others: Iterable[Any] = ()
    ) -> tuple[list[bool | None], list[str]]:
        """Which znodes of `paths` are kept, by the condition's values; a message if some values are not booleans.

        Whether one is may depend on what somebody has registered: that one is left out. Raises `ZooKeeperError` if none
        is, not even for the `others` that earlier filters have decided: then it is not a condition.
        """
        odd = [place for place in zip(values, paths) if _is_odd(place[0])]
        judged = [False if _is_odd(value) else self.if_true if value is True else self.otherwise for value in values]
        if not odd:
            return judged, []
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        what = f"filters: {self.condition}: expected true or false, got {quote(odd[0][0], 40)} for {odd[0][1]}{more}"
        if len(odd) == len(values) and all(map(_is_odd, others)):
            raise ZooKeeperError(f"{what}; compare it with something")
        return judged, [f"{what}; left out"]


def _is_condition(given: Any) -> bool:
    return isinstance(given, bool) or (isinstance(given, str) and bool(given))


def _is_odd(value: Any) -> bool:
    """Whether it is not a boolean, nor from a condition that fails, which is no match."""
    return not isinstance(value, bool) and value not in (None, FAILS)
