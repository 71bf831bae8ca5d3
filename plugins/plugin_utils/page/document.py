# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet of an application on a page, or as JSON.

One HTML file that loads nothing from outside. Statuses are untrusted strings: Jinja2 escapes each of them, characters
that a terminal or a browser would not show are shown as escapes, and the page's own policy (CSP) runs no script except
its own. `releases` is what `zk_release_info` returns, `fleet` what `zk_fleet_info` does.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ansible_collections.zoo.deploy.plugins.module_utils.releases import SUBJECT
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import after_failure, log_command
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import short
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief, cut, plain
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.rollout_line import next_step, standing

from .bars import percent, segments
from .files import MOST, fleet_files
from .history import bad_commits, publications
from .hosts import MOST_BLOCKS, Group, PageHost, details, group_hosts, names_by_kind, read_hosts
from .kinds import FAILED
from .moments import moment
from .plain_data import cleaned, json_in_html, lines, link, mapping, to_json
from .steps import WORDS, is_canary_step, rules, step_views
from .summary import MOST_REASONS, Reason, reasons, summarize

HERE = os.path.dirname(__file__)
MOST_COMMITS = 8
"""How many of the served commits have a bar."""
NAME = 64
"""How much of a string is shown at the top of the page; anybody may have written any length."""
ANSIBLES = frozenset({"invocation", "exception", "changed", "failed", "warnings", "deprecations"})
"""What Ansible puts into a result; the invocation has the connection options."""
LEAST_SHARE = 1.5
"""The width of the smallest of these bars, in percent."""


def to_document(
    app: str, releases: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime, form: str, reload: int = 0
) -> str:
    """The fleet in a `form`, `html` or `json`; a page reloads itself after `reload` seconds, with 0 never."""
    releases, fleet = cleaned(releases), cleaned(fleet)
    hosts = read_hosts(fleet, now)
    groups = group_hosts(hosts)
    data = machine_readable(app, releases, fleet, now, hosts)
    if form == "json":
        return f"{to_json(data)}\n"
    view = {
        **page_of(releases, fleet, now, hosts, groups),
        "app": app,
        "now": moment(now.isoformat(), now),
        "reload": reload,
        "data": Markup(json_in_html(data)),  # noqa: S704  # nothing in it ends the element
    }
    page: str = template().render(view)
    return page


def machine_readable(
    app: str, releases: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime, hosts: list[PageHost]
) -> dict[str, Any]:
    """The fleet for a program: what both modules have returned, and the names of the hosts of each kind."""
    results = {"releases": _own_keys(releases), "fleet": _own_keys(fleet)}
    return {"app": app, "read_at": now.isoformat(timespec="seconds"), "kinds": names_by_kind(hosts), **results}


def _own_keys(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ANSIBLES and not name.startswith("_")}


def page_of(
    releases: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime, hosts: list[PageHost], groups: list[Group]
) -> dict[str, Any]:
    """The content of the page's sections."""
    told = reasons(groups, hosts)
    stopped = stopped_for(fleet.get("rollout") or {})
    files = fleet_files(host.status for host in hosts if host.status)
    return {
        "summary": summarize(releases, fleet, groups),
        "problems": lines(releases.get("problem")) if not fleet.get("commit_id") else [],
        "groups": groups,
        "in_rows": {host.name for group in groups for host in group.rows},
        "whole": len(hosts),
        "bar": segments((group.kind, group.size) for group in groups),
        "reasons": told[:MOST_REASONS],
        "reasons_left": len(told) - MOST_REASONS,
        "stopped": [] if is_among(stopped, told) else stopped,
        "lost": list(map(brief, fleet.get("lost_agents") or [])),
        "logs": log_command(host.status.unit for host in hosts if host.kind.needs_attention and host.status),
        "details_of": partial(details, generation=fleet.get("generation"), now=now),
        "release": release_view(releases, fleet, now),
        "lock": mapping(releases.get("lock")).get("says"),
        "is_open": bool(releases.get("open")),
        "rollout": rollout_view(fleet, now),
        "next": next_step(fleet["rollout"]) if fleet.get("rollout") else after_failure(fleet),
        "blocks": block_groups(hosts, fleet) if len(hosts) <= MOST_BLOCKS else [],
        "served": served(fleet),
        "bad": list(map(short, bad_commits(releases, fleet))),
        "versions": versions(fleet),
        "files": files[:MOST],
        "files_left": len(files) - MOST,
        "history": publications(releases, fleet, now),
    }


def release_view(releases: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The desired release."""
    release = mapping(fleet.get("release") or releases.get("release"))
    return {
        "commit": release.get("commitId"),
        "short": short(release.get("commitId")),
        "subject": release.get(SUBJECT) or "",
        "url": release.get("url"),
        "link": link(release.get("url")),
        "path": release.get("relativePath"),
        "ref": release.get("ref") if release.get("ref") != release.get("commitId") else None,
        "publisher": release.get("publisher"),
        "at": moment(release.get("publishedAt"), now),
        "back_from": release.get("rolledBackFrom"),
        "generation": fleet.get("generation"),
    }


def stopped_for(rollout: Mapping[str, Any]) -> list[str]:
    """Why a rollout does not continue, in lines; empty if it does, or does not say."""
    return lines(rollout.get("reason")) if rollout.get("phase") in WORDS else []


def is_among(stopped: Sequence[str], told: Iterable[Reason]) -> bool:
    """Whether the reason that stopped a rollout is also a failed host's: then it begins with the host's name."""
    why = " ".join(stopped)
    return any(reason.kind == FAILED and reason.text and why.endswith(f": {reason.text}") for reason in told)


def rollout_view(fleet: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
    """The rollout; None if there is none."""
    rollout = fleet.get("rollout")
    if not rollout:
        return None
    return {
        "phase": rollout["phase"],
        "standing": standing(rollout, now),
        "steps": step_views(rollout),
        "rules": rules(rollout),
        "reason": [] if rollout["phase"] in WORDS else lines(rollout.get("reason")),
        "by": rollout.get("by"),
        "since": moment(rollout.get("since"), now),
        "from": short(rollout.get("from")),
        "bad": rollout.get("bad"),
        "places": rollout.get("places"),
        "fleet": rollout.get("fleet"),
    }


def block_groups(hosts: list[PageHost], fleet: Mapping[str, Any]) -> list[tuple[str, list[PageHost]]]:
    """The hosts that have a block each, in the order of the rollout's steps if there are several."""
    rollout = fleet.get("rollout") or {}
    if rollout.get("steps", 1) < 2:
        return [("", hosts)] if hosts else []
    groups = [
        (f"Step {number}{' (canary)' if is_canary_step(number, rollout) else ''}", number)
        for number in range(1, rollout["steps"] + 1)
    ]
    known = [(title, [host for host in hosts if host.step == number]) for title, number in groups]
    others = [host for host in hosts if host.step not in range(1, rollout["steps"] + 1)]
    return [(title, members) for title, members in [*known, ("Not admitted", others)] if members]


def served(fleet: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the live hosts serve: the commit, its number of hosts and their share; the most frequent one first."""
    groups = fleet.get("served") or []
    whole = sum(len(group["agents"]) for group in groups)
    counts = [(group, len(group["agents"])) for group in groups]
    shown, rest = counts[:MOST_COMMITS], sum(count for _group, count in counts[MOST_COMMITS:])
    rows = [
        {"commit": short(group["commit_id"]) if group["commit_id"] else "nothing", "desired": group["desired"], "n": n}
        for group, n in shown
    ]
    rows += [{"commit": "others", "desired": False, "n": rest}] if rest else []
    return [
        {**row, "share": max(LEAST_SHARE, 100 * row["n"] / whole), "percent": percent(row["n"], whole)} for row in rows
    ]


def versions(fleet: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The versions of the agents, the most frequent first; hosts without one are left out."""
    counts: dict[str, int] = {}
    for agent in fleet.get("agents", []):
        if isinstance(agent.get("version"), str):
            counts[agent["version"]] = counts.get(agent["version"], 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_COMMITS]


@lru_cache(maxsize=1)
def template() -> Any:
    """The page's template, with its own style and script in it, and a policy that allows no others."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"number": "{:,}".format, "short": lambda text, most=NAME: cut(plain(text), most)})
    own = {name: _own(name) for name in ("fleet.css", "fleet.js")}
    hashes = {name.partition(".")[2]: _digest(text) for name, text in own.items()}
    environment.globals.update(
        {"style": own["fleet.css"], "script": own["fleet.js"], "hashes": hashes, "percent": percent}
    )
    return environment.get_template("fleet.html.j2")


def _own(name: str) -> Markup:
    """A file of the collection itself, to be included in the page unchanged."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return Markup(file.read())  # noqa: S704  # our own


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shown(value: Any) -> Any:
    """What the template puts into the page: no string contains anything invisible, or reorders others."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
