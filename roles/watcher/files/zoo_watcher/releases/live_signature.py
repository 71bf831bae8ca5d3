# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the live release is signed as this host now demands; if not, that is reported, and it is served anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, PassingError
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.thread import Thread

from .manifest import Manifest
from .release_directory import allowed_signers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .apply_process import ApplyProcess

LONGEST_PAUSE = 60.0
"""The most seconds between tries if the signature can't be verified now."""

log = logging.getLogger(__name__)


class LiveSignature:
    """Verifies each live release once, in a thread of its own. `changed` is called in that thread."""

    def __init__(self, config: Config, layout: Layout, changed: Callable[[], None]) -> None:
        self.trouble: str | None = None
        """What is wrong with the signature of the release that is live now."""
        self._config = config
        self._layout = layout
        self._changed = changed
        self._commit_id: str | None = None
        self._another_is_live = threading.Event()
        self._process: ApplyProcess | None = None
        self._threads: list[Thread] = []

    def look(self, commit_id: str | None) -> None:
        """Have the commit that is live now verified, if it is another one than at the last look."""
        if self._config.require_signature is None or commit_id == self._commit_id:
            return
        self._end_process()
        self._another_is_live = threading.Event()
        self._commit_id, self.trouble = commit_id, None
        if commit_id is None:
            return
        # Imported here: an agent that demands no signature and deploys nothing does not keep it in memory.
        from .apply_process import ApplyProcess  # noqa: PLC0415

        self._process = ApplyProcess(self._config)
        words = (commit_id, self._another_is_live, self._process)
        thread = Thread(target=self._verify, args=words, name="live-signature", daemon=True)
        try:
            thread.start()
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        except RuntimeError as exc:
            self._commit_id, self.trouble = None, f"the live release can't be verified now: {exc}"

    def end(self) -> None:
        """Verify nothing more. After a reload, nobody would wait for a process that has ended."""
        self._end_process()
        for thread in self._threads:
            from .apply_process import KILLED  # noqa: PLC0415

            thread.join(KILLED)

    def _end_process(self) -> None:
        """End the running verification, if any: another release is live, or the agent ends."""
        self._another_is_live.set()
        if self._process is not None:
            self._process.end()

    def _verify(self, commit_id: str, ended: threading.Event, process: ApplyProcess) -> None:
        for pause in Backoff(longest=LONGEST_PAUSE):
            try:
                self._check(commit_id, process)
            except CancelledError:
                return
            except PassingError as exc:
                self._tell(f"the live release can't be verified now: {exc}", ended)
            except DeployError as exc:
                self._tell(f"the live release stays, but {exc}", ended)
                return
            except Exception as exc:  # noqa: BLE001  # whatever it is, it is tried again
                self._tell(f"the live release can't be verified now: unexpected {exc!r}", ended)
            else:
                log.info("the live release is verified, commit=%s", commit_id)
                self._tell(None, ended)
                return
            if ended.wait(pause):
                return

    def _check(self, commit_id: str, process: ApplyProcess) -> None:
        """Raises `DeployError` if the commit lacks the demanded signature, `CancelledError` after `end`."""
        with disk_errors("reading a manifest"):
            manifest = Manifest.load(self._layout.manifest(commit_id))
        if manifest is None or manifest.signers != allowed_signers(*self._config.signers):
            from .apply_process import verify_job  # noqa: PLC0415

            process.run(verify_job(self._config, commit_id))

    def _tell(self, trouble: str | None, ended: threading.Event) -> None:
        if not ended.is_set() and self.trouble != trouble:
            self.trouble = trouble
            self._changed()
