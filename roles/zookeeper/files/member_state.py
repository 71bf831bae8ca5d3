# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the state of a member on its host, and change nothing.

`member_state.py CONFIG_DIR DATA_DIR DATA_LOG_DIR HOME USER NEEDED...` prints a JSON object: `myid`, the text of that
file, empty if there is none; `data`, whether the member has any; `settings`, those of zoo.cfg that can't be changed at
will, as an object, empty if there is no zoo.cfg; whether there are a login file (`login`), the directory HOME
(`unpacked`) and the user USER (`user`); and which of the files NEEDED are missing (`lacking`). The role sends this
source to the host's Python.
"""

from __future__ import annotations

import json
import pwd
import re
import sys
from pathlib import Path

EMPTY = "snapshot.0"
"""The file that a member writes when it starts for the first time."""
SETTINGS = (
    *("dataDir", "dataLogDir", "sslQuorum", "portUnification"),
    *("quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl"),
)
PLACEHOLDER = re.compile(r"replace this text")
"""What the Debian package's example has for a myid; a link to it is in the package's data directory."""


def main() -> None:
    """Print the state."""
    config, data, log, home = map(Path, sys.argv[1:5])
    myid = text(data / "myid").strip()
    report = {
        "myid": "" if PLACEHOLDER.match(myid) else myid,
        "data": has_data(data / "version-2", log / "version-2"),
        "settings": settings(text(config / "zoo.cfg")),
        "login": (config / "jaas.conf").exists(),
        "unpacked": home.is_dir(),
        "user": any(one.pw_name == sys.argv[5] for one in pwd.getpwall()),
        "lacking": [path for path in sys.argv[6:] if not Path(path).exists()],
    }
    json.dump(report, sys.stdout)


def text(path: Path) -> str:
    """A file's text, empty if there is none."""
    return path.read_text(errors="replace") if path.is_file() else ""


def has_data(data: Path, log: Path) -> bool:
    """Whether the member has been in sync with a leader, or has transactions from running standalone."""
    epoch = text(data / "currentEpoch").strip()
    return epoch not in {"", "0"} or any(log.glob("log.*")) or any(one.name != EMPTY for one in data.glob("snapshot.*"))


def settings(content: str) -> dict[str, str]:
    """The lines `name=value` of a properties file as this role writes it."""
    lines = [line.partition("=") for line in content.splitlines() if not line.startswith("#")]
    return {name.strip(): value.strip() for name, _equals, value in lines if name in SETTINGS}


if __name__ == "__main__":
    main()
