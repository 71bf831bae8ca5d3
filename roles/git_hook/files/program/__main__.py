# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Python starts when it is given this directory to run."""

from __future__ import annotations

import sys

from zoo_git_hook.hook import main

sys.exit(main(sys.argv[1:]))
