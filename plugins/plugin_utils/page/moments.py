# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as a page shows them: the moment, and its age when the fleet was read."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import cut, plain

LONGEST = 32
"""Characters shown of a value that is not a time."""
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Moment(NamedTuple):
    """A time: for a program (RFC 3339; empty if it can't be read), for a person, and its age in a word or two.

    There is no age if the other host's clock is ahead of this one.
    """

    iso: str
    utc: str
    age: str


def moment(value: Any, now: datetime) -> Moment | None:
    """A time from a record; None if the record has none."""
    if value in (None, ""):
        return None
    try:
        then = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
        then = (then if then.tzinfo else then.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
        seconds = (now - then).total_seconds()
    except (ValueError, OverflowError):
        return Moment("", cut(plain(value), LONGEST), "")
    return Moment(then.isoformat(timespec="seconds"), then.strftime("%Y-%m-%d %H:%M:%S UTC"), age(seconds))


def age(seconds: float) -> str:
    """How long ago, in one unit; empty for the future."""
    if seconds < 0:
        return ""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds // size:.0f} {unit} ago"
