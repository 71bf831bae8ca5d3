# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask every member of an ensemble for its `srvr` word, until one leads and all serve or the time is up.

`ensemble_status.py SECONDS host:port,...` prints a JSON list of objects: `member`, `mode` (leader, follower, observer,
standalone), `version`, `zxid`, `connections`; where a member gives no mode, `problem` says why.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

PAUSE = 0.2
"""Seconds between two rounds of asking."""
LINES = {"Mode": "mode", "Zookeeper version": "version", "Zxid": "zxid", "Connections": "connections"}
"""What of the answer is told, by the word that its line begins with."""


def main() -> None:
    """Print what the members say."""
    deadline = time.monotonic() + float(sys.argv[1])
    members = [one.strip() for one in sys.argv[2].split("/")[0].split(",") if one.strip()]
    with ThreadPoolExecutor(len(members) or 1) as pool:
        answers = list(pool.map(status, members))
        while not complete(answers) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            answers = list(pool.map(status, members))
    print(json.dumps(answers))


def complete(answers: list[dict[str, str]]) -> bool:
    """Whether every member serves and one leads."""
    modes = [answer.get("mode") for answer in answers]
    return all(modes) and (modes.count("leader") == 1 or modes == ["standalone"])


def status(member: str) -> dict[str, str]:
    """What one member, `host:port`, says of itself."""
    host, _colon, port = member.rpartition(":") if member.rsplit("]", 1)[-1].count(":") else (member, "", "2181")
    try:
        answer = ask(host.strip("[]"), int(port))
    except (OSError, ValueError) as exc:
        return {"member": member, "problem": f"no answer: {exc}"}
    pairs = [line.partition(": ") for line in answer.splitlines()]
    found = {LINES[word]: re.split(r"[-,]", value)[0] for word, _equals, value in pairs if word in LINES}
    if "mode" not in found:
        found["problem"] = (answer.strip() or "closed the connection without an answer").splitlines()[0]
    return {"member": member, **found}


def ask(host: str, port: int) -> str:
    """The answer to the four letter word `srvr`. Raises `OSError`."""
    with socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(b"srvr")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")


if __name__ == "__main__":
    main()
