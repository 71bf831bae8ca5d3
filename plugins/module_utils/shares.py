# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares of a fleet: a number of agents, or a percentage such as `80%`.

Standard library and `znode_names` only: the agent ships this same file.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .znode_names import InvalidRecord, quote

_SHARE = re.compile(r"([0-9]{1,9})(%?)")


def parse_share(value: int | str) -> tuple[int, bool]:
    """The number, and whether it is a percentage rather than a number of agents. Raises `InvalidRecord`."""
    share = _parse(str(value))
    if share is None:
        raise InvalidRecord(f'expected a whole number of agents or a percentage such as "80%", got {quote(value)}')
    return share


@lru_cache(maxsize=100)
def _parse(text: str) -> tuple[int, bool] | None:
    """The same; None if it is not a share. Cached: the rules of a rollout parse its plan's shares repeatedly."""
    match = _SHARE.fullmatch(text)
    if match is None or (match[2] and int(match[1]) > 100):
        return None
    return int(match[1]), bool(match[2])


def at_least(share: int | str, fleet: int) -> int:
    """How many agents of a fleet that is, rounded up; at least one for a percentage above 0, whatever the fleet."""
    number, is_percentage = parse_share(share)
    return max(-(-number * fleet // 100), min(number, 1)) if is_percentage else number


def at_most(share: int | str, fleet: int) -> int:
    """How many agents of a fleet that is, rounded down."""
    number, is_percentage = parse_share(share)
    return number * fleet // 100 if is_percentage else number
