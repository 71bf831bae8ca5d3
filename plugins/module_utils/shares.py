# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares of a fleet: a number of agents, or a percentage, as in `80%`.

Standard library and names only: the agent carries this same file.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .znode_names import InvalidRecord, quote

_SHARE = re.compile(r"([0-9]{1,9})(%?)")


def parse_share(value: int | str) -> tuple[int, bool]:
    """A number of agents, and whether it is a percentage: that many of each 100. Raises `InvalidRecord`."""
    share = _parse(str(value))
    if share is None:
        raise InvalidRecord(f'expected a whole number of agents or a percentage such as "80%", got {quote(value)}')
    return share


@lru_cache(maxsize=100)
def _parse(text: str) -> tuple[int, bool] | None:
    """The same; None for what is no share. The rules of a rollout ask for those of its plan again and again."""
    match = _SHARE.fullmatch(text)
    if match is None or (match[2] and int(match[1]) > 100):
        return None
    return int(match[1]), bool(match[2])


def at_least(share: int | str, fleet: int) -> int:
    """How many agents that is of a fleet, rounded up; one where it is a percentage above 0, whoever there is."""
    number, is_percentage = parse_share(share)
    return max(-(-number * fleet // 100), min(number, 1)) if is_percentage else number


def at_most(share: int | str, fleet: int) -> int:
    """How many agents that is of a fleet, rounded down."""
    number, is_percentage = parse_share(share)
    return number * fleet // 100 if is_percentage else number
