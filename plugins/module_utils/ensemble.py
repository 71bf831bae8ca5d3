# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an ensemble is whole, by what all its members report at once; and waiting until it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from .member import Address, Facts, Question, ask_member

PAUSE = 0.2
"""Seconds between two rounds of questions."""
COUNTER = 0xFFFFFFFF
"""The part of a zxid that counts transactions; at the beginning of an epoch it is 0, which only the leader reports."""


def look(members: Sequence[Address], question: Question, wait_timeout: float) -> dict[str, Any]:
    """What the members report, once the ensemble is whole or `wait_timeout` seconds have passed.

    `whole`; `problem`, what it lacks, empty if it is whole; `leader`, None if there is not exactly one; and `members`.
    """
    deadline = time.monotonic() + wait_timeout
    with ThreadPoolExecutor(len(members)) as pool:
        ask = partial(ask_member, question=question)
        answers = list(pool.map(ask, members))
        goal = furthest(answers)
        while lacking(answers, goal) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            answers = list(pool.map(ask, members))
    problem = lacking(answers, goal)
    leaders = [answer["member"] for answer in answers if answer.get("mode") == "leader"]
    leader = leaders[0] if len(leaders) == 1 else None
    return {"whole": not problem, "problem": problem, "leader": leader, "members": answers}


def furthest(answers: Sequence[Facts]) -> int:
    """The last transaction that a member has; 0 if none reports one."""
    zxids = [answer.get("zxid", 0) for answer in answers]
    return max((zxid for zxid in zxids if zxid & COUNTER), default=0)


def lacking(answers: Sequence[Facts], goal: int) -> str:
    """Why the ensemble is not whole, empty if it is: one leads, all serve and have reached the transaction `goal`."""
    silent = [f"{answer['member']}: {answer['problem']}" for answer in answers if "problem" in answer]
    if silent:
        return "; ".join(silent)
    cut_off = [answer["member"] for answer in answers if answer["mode"] == "read-only"]
    if cut_off:
        return f"read-only, being cut off from the others: {', '.join(cut_off)}"
    modes = [answer["mode"] for answer in answers]
    if modes == ["standalone"]:
        return ""
    if modes.count("leader") != 1 or "standalone" in modes:
        return f"{modes.count('leader')} members lead, {modes.count('standalone')} stand alone"
    behind = [answer["member"] for answer in answers if answer.get("zxid", goal) < goal]
    if behind:
        return f"not in sync: {', '.join(behind)}"
    leader = answers[modes.index("leader")]
    followers = modes.count("follower")
    synced = leader.get("synced_followers", followers)
    return f"{leader['member']} leads, and of {followers} followers {synced} are in sync" if synced < followers else ""
