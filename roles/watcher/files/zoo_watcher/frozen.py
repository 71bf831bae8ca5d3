# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`@dataclass(frozen=True)` like that of `dataclasses`, with methods that these classes share.

An idle agent has dozens of such classes, and each method of each takes a kilobyte or two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

__all__ = ["dataclass"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import Any
else:

    def dataclass(*, frozen: bool) -> Callable[[type], type]:
        """Turn a class into a frozen dataclass."""
        make = dataclasses.dataclass(frozen=frozen, repr=False, eq=False)

        def decorate(cls: type) -> type:
            made = make(cls)
            for name in SHARED:
                setattr(made, name, vars(_Frozen)[name])
            return made

        return decorate


SHARED = ("__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__")


class _Frozen:
    """The methods that all of them share."""

    def __repr__(self: Any) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(name)

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(name)


def _compared(one: Any) -> tuple[Any, ...]:
    return tuple(getattr(one, field.name) for field in dataclasses.fields(one) if field.compare)
