"""The tests in this directory. Those in the scenarios' directories are run only by molecule: they need its hosts."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "MOLECULE_FILE" in os.environ else ["*/tests/*"]
