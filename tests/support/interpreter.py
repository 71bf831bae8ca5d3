"""The interpreter of agents and modules: this one, or the one that a gate specifies (`suites/gates`)."""

from __future__ import annotations

import os
import sys

PYTHON = os.environ.get("ZOO_TESTS_PYTHON") or sys.executable
