# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The git hook of zoo.deploy: publishes in ZooKeeper what was pushed to a branch.

It shares the collection's ZooKeeper modules, so that it publishes exactly what `zk_release` publishes.
"""
