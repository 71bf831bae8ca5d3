# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a host, read from its disk: also if no agent runs and no ensemble answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config.instance import Instance
from .host.base_lock import is_locked
from .host.controls import DRAINED, HELD, read_mark
from .host.disk import unwritable
from .host.filesystem import load_json
from .host.layout import Layout
from .releases.activation import live_commit
from .releases.course import in_seconds
from .releases.journal import ReleaseJournal
from .wire.access import ANYBODY_DEPLOYS
from .wire.records import describe_mark


def host_report(instance: Instance) -> dict[str, Any]:
    """What is live, what a rollback could activate, whether an agent runs, and its last status.

    `outdated` is what may prevent the agent from writing its status; `unread` has a line for each thing that this
    user may not read.
    """
    layout = Layout(instance.base)
    journal = ReleaseJournal.load(layout.journal)
    status = _last_status(layout)
    return {
        "name": instance.name or (status or {}).get("name"),
        "app": instance.app or (status or {}).get("app"),
        "base": str(instance.base),
        "running": is_locked(layout),
        "held": _mark(layout, HELD, status),
        "drained": _mark(layout, DRAINED, status),
        "live": _live(layout),
        "healthy": list(journal.healthy),
        "failure": {"generation": journal.failure.generation, "message": journal.failure.message}
        if journal.failure
        else None,
        "staged": _staged(layout),
        "status": status,
        "outdated": _outdated(layout),
        "unread": _unread(instance, layout),
    }


def _outdated(layout: Layout) -> str | None:
    reason = unwritable(layout.own) if is_locked(layout) else None
    return f"{layout.status}: {reason}; the status may be out of date" if reason else None


def _staged(layout: Layout) -> list[str]:
    with contextlib.suppress(PermissionError):
        return sorted(layout.staged())
    return []


def _mark(layout: Layout, name: str, status: Mapping[str, Any] | None) -> dict[str, str] | None:
    """What a marker says; if it can't be read now, what the agent last said about it."""
    try:
        mark = read_mark(layout.control(name))
    except OSError:
        return (status or {}).get(name)
    return mark.to_object() if mark else None


def _unread(instance: Instance, layout: Layout) -> list[str]:
    """What this user may not read: a configuration, or the first of the places below the base."""
    markers = [layout.control(name) for name in (HELD, DRAINED)]
    places = (layout.base, layout.own, layout.controls, layout.journal, layout.status, *markers)
    closed = [
        f"{place}: Permission denied" for place in places if os.path.lexists(place) and not os.access(place, os.R_OK)
    ]
    return [*([instance.unread] if instance.unread else []), *closed[:1]]


def as_table(report: Mapping[str, Any]) -> str:
    """The report for a person: a fact a line."""
    status = report["status"] or {}
    failure, failed = report["failure"], status.get("failedStep")
    rows = [
        ("agent", f"{report['name'] or 'unknown'}, {'running' if report['running'] else 'not running'}"),
        ("app", report["app"] or "unknown"),
        ("base", report["base"]),
        *[(name, _since(name, report[name])) for name in ("held", "drained") if report[name]],
        *[("live", f"{path} is {commit_id}") for path, commit_id in sorted(report["live"].items())],
        ("state", f"{status.get('state', 'unknown')}, generation {status.get('generation', 'none')}"),
        ("since", status.get("since", "unknown")),
        ("session", _session(status)),
        *[("tries", _trying(trying)) for trying in [status.get("trying")] if trying],
        ("registered", ", ".join(map(str, status.get("registered") or [])) or "nothing"),
        ("message", status.get("message") or "none"),
        *([("steps", in_seconds(status.get("timings") or {}, failed))] if failed or status.get("timings") else []),
        ("back to", _back_to(status)),
        *([("trouble", report["outdated"])] if report["outdated"] else []),
        *([("open", f"{ANYBODY_DEPLOYS}; see zk_access")] if status.get("open") else []),
        *[("trouble", str(trouble)) for trouble in status.get("troubles") or ()],
        *[("file", f"{dest} {_file(file)}") for dest, file in sorted(status.get("files", {}).items())],
        ("healthy", ", ".join(report["healthy"]) or "none yet"),
        ("failed", f"generation {failure['generation']}: {failure['message']}" if failure else "none"),
    ]
    return "\n".join(f"{name:<11} {text}" for name, text in rows)


def _back_to(status: Mapping[str, Any]) -> str:
    """What the host would roll back to from what it serves."""
    known = status.get("previousCommitId")
    return str(known) if known and known != status.get("commitId") else "nothing"


def _since(name: str, mark: Mapping[str, str]) -> str:
    return describe_mark(name, mark)[len(name) + 1 :]


def _session(status: Mapping[str, Any]) -> str:
    """The state of the session, and when each other state was last entered."""
    state, entered = status.get("session", "unknown"), status.get("sessionStates", {})
    others = [
        f"{other} at {when}" for other, when in sorted(entered.items(), key=lambda item: item[1]) if other != state
    ]
    since = f" since {entered[state]}" if state in entered else ""
    return f"{state}{since}{'; before: ' if others else ''}{', '.join(others)}"


def _trying(trying: Mapping[str, Any]) -> str:
    """The members of the ensemble that are tried, and the last error."""
    error = f"; last error: {trying['error']}" if "error" in trying else ""
    return f"{', '.join(trying['members'])}{error}"


def _file(file: Mapping[str, Any]) -> str:
    """A file's state, which value it has, and as of when."""
    has = ", ".join(f"{key} {file[key]}" for key in ("version", "mzxid") if key in file) or "no value"
    message = f": {file['message']}" if file.get("message") else ""
    return f"is {file.get('state')} as of {file.get('zxid')}, it has {has} of {file.get('znode')}{message}"


def _live(layout: Layout) -> dict[str, str]:
    """The commit at each place below the base where one of the releases is live."""
    live = {}
    for directory, directories, files in os.walk(layout.base):
        if Path(directory) == layout.base and layout.own.name in directories:
            directories.remove(layout.own.name)
        for name in [*directories, *files]:
            relative = os.path.relpath(os.path.join(directory, name), layout.base)
            # A place that can't be read does not hide the others.
            with contextlib.suppress(OSError):
                commit_id = live_commit(layout, relative)
                if commit_id:
                    live[os.fsencode(relative).decode("utf-8", "replace")] = commit_id
    return live


def _last_status(layout: Layout) -> dict[str, Any] | None:
    return load_json(layout.status, lambda status: status if isinstance(status, dict) else None, None)
