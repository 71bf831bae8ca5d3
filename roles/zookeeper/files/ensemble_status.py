# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask every member of an ensemble for its `srvr` word, until the ensemble is whole or the time is up.

`ensemble_status.py SECONDS host:port,... [CA CERTIFICATE]` prints a JSON object: `whole`, a bool; `problem`, what it
lacks, empty where it is whole; `members`, a list of objects with `member`, `mode` (leader, follower, observer,
standalone), `version`, `zxid`, `connections`, from a leader that may be asked for `mntr` also `synced_followers`, and
`row`, a line to show. Where a member gives no mode, `problem` in its object says why.
With CA and CERTIFICATE, two PEM files (the second has the private key too), the ports are those that speak TLS. Whose
certificate a member shows is not looked at: asking is no secret, and members are asked by address.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

Answer = dict[str, Any]

PAUSE = 0.2
"""Seconds between two rounds of asking."""
LINES = {"Mode": "mode", "Zookeeper version": "version", "Zxid": "zxid", "Connections": "connections"}
"""What of the answer to `srvr` is told, by the word that its line begins with."""
SYNCED = re.compile(r"^zk_synced_followers\t(\d+)", re.MULTILINE)
"""The line of the answer to `mntr` that only a leader's has."""
COUNTER = 0xFFFFFFFF
"""The part of a zxid that counts transactions; at the beginning of an epoch it is 0, which only the leader tells."""


def main() -> None:
    """Print what the members say."""
    deadline = time.monotonic() + float(sys.argv[1])
    members = [one.strip() for one in sys.argv[2].split("/")[0].split(",") if one.strip()]
    ask_one = partial(status, tls=tls_context(*sys.argv[3:5]) if sys.argv[3:5] else None)
    with ThreadPoolExecutor(len(members) or 1) as pool:
        answers = list(pool.map(ask_one, members))
        goal = furthest(answers)
        while lacking(answers, goal) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            answers = list(pool.map(ask_one, members))
    problem = lacking(answers, goal)
    shown = [{**answer, "row": row(answer)} for answer in answers]
    json.dump({"whole": not problem, "problem": problem, "members": shown}, sys.stdout)


def tls_context(authority: str, certificate: str) -> ssl.SSLContext:
    """For members whose certificate the authority has signed."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    # Python 3.13 wants more of an authority's certificate than Java does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(certificate)
    return context


def furthest(answers: list[Answer]) -> int:
    """The last transaction that a member has; 0 where none tells one."""
    zxids = [int(answer.get("zxid", "0"), 16) for answer in answers]
    return max((zxid for zxid in zxids if zxid & COUNTER), default=0)


def lacking(answers: list[Answer], goal: int) -> str:
    """Why this is no whole ensemble, empty where it is: one leads, all serve and have got to the transaction `goal`."""
    silent = [f"{answer['member']}: {answer['problem']}" for answer in answers if "mode" not in answer]
    if silent:
        return "; ".join(silent)
    modes = [answer["mode"] for answer in answers]
    if modes == ["standalone"]:
        return ""
    if modes.count("leader") != 1 or "standalone" in modes:
        return f"{modes.count('leader')} members lead, {modes.count('standalone')} stand alone"
    behind = [answer["member"] for answer in answers if int(answer.get("zxid", "0"), 16) < goal]
    if behind:
        return f"not in sync: {', '.join(behind)}"
    leader = answers[modes.index("leader")]
    followers = modes.count("follower")
    synced = leader.get("synced_followers", followers)
    return f"{leader['member']} leads, and of {followers} followers {synced} are in sync" if synced < followers else ""


def row(answer: Answer) -> str:
    """A line of a table."""
    version = f"ZooKeeper {answer.get('version', '')}"
    return f"{answer['member']:<24} {answer.get('mode', 'down'):<11} {answer.get('problem', version)}"


def status(member: str, tls: ssl.SSLContext | None) -> Answer:
    """What one member, `host:port`, says of itself."""
    host, _colon, port = member.rpartition(":") if member.rsplit("]", 1)[-1].count(":") else (member, "", "2181")
    ask_it = partial(ask, host.strip("[]"), port, tls)
    try:
        answer = ask_it("srvr")
        pairs = [line.partition(": ") for line in answer.splitlines()]
        found: Answer = {LINES[word]: re.split(r"[-,]", value)[0] for word, _colon, value in pairs if word in LINES}
        synced = SYNCED.search(ask_it("mntr")) if found.get("mode") == "leader" else None
    except (OSError, ValueError) as exc:
        return {"member": member, "problem": f"no answer: {exc}"}
    if "mode" not in found:
        found["problem"] = (answer.strip() or "closed the connection without an answer").splitlines()[0]
    if synced:
        found["synced_followers"] = int(synced[1])
    return {"member": member, **found}


def ask(host: str, port: str, tls: ssl.SSLContext | None, word: str) -> str:
    """The answer to a four letter word. Raises `OSError`, and `ValueError` where the port is no number."""
    connection = socket.create_connection((host, int(port)), timeout=2)
    with tls.wrap_socket(connection, server_hostname=host) if tls else connection as stream:
        stream.sendall(word.encode())
        return b"".join(iter(lambda: stream.recv(4096), b"")).decode(errors="replace")


if __name__ == "__main__":
    main()
