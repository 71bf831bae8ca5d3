# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the agent from its work, at the ensemble or on this host: logged once, tried again less and less often."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

from .backoff import Backoff
from .errors import AgentError, NoAnswerError, SessionTroubleError
from .host.filesystem import MAY_BE_UNDONE
from .host.shortage import is_shortage

UNEXPECTED = "unexpected"
"""How the line for an unexpected error begins."""

log = logging.getLogger(__name__)


def describe(error: Exception) -> str:
    """The line for an error: a shortage of this host, a file or disk, or an unexpected one."""
    if is_shortage(error):
        return f"this host lacks something: {error!r}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in MAY_BE_UNDONE:
        return f"this host: {error.strerror}"
    return f"{UNEXPECTED} {error!r}"


class Troubles:
    """Collects the troubles of each turn of the loop. `current` are those of the present turn."""

    def __init__(self) -> None:
        self.current: list[str] = []
        self._logged: list[str] = []
        self._backoff = Backoff()

    def begin_turn(self) -> None:
        """Forget those of the last turn."""
        self.current = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note what goes wrong inside the block, so that what follows goes on.

        A `NoAnswerError` ends the turn; any other `AgentError` except `SessionTroubleError` ends the agent.
        """
        try:
            yield
        except NoAnswerError:
            raise
        except SessionTroubleError as exc:
            self.add([str(exc)])
        except AgentError:
            raise
        except Exception as exc:  # noqa: BLE001  # whatever it is, an agent that has ended helps nobody
            self.note_mistake(exc)

    def note_mistake(self, error: Exception) -> None:
        """Note an error of a step; an unexpected one with its traceback."""
        text = describe(error)
        if text not in self._logged and text.startswith(UNEXPECTED):
            log.error("%s", text, exc_info=error)
        self.add([text])

    def add(self, troubles: Iterable[str]) -> None:
        """Note more of them, each once."""
        self.current = list(dict.fromkeys([*self.current, *troubles]))

    def end_turn(self) -> float | None:
        """Log what is new; returns the seconds after which to try again, None if nothing is to be tried."""
        if self.current != self._logged:
            self._backoff.reset()
            for trouble in self.current:
                if trouble not in self._logged:
                    log.warning("trouble, tried again: %s", trouble)
        self._logged = self.current
        return next(self._backoff) if self.current else None
