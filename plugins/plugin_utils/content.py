# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be in a znode, as it is on the controller: the bytes of a file, and data that will be JSON."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import MAX_NODE_BYTES, InvalidRecord, quote


class Content(NamedTuple):
    """What is in a file, and whether nobody is to see it."""

    data: bytes
    secret: bool = False

    def options(self) -> dict[str, Any]:
        """The options of `zk_znode` that write it."""
        option = "secret_value" if self.secret else "value"
        return {option: base64.b64encode(self.data).decode("ascii"), "encoding": "base64"}


def check_json(data: Any, where: str) -> None:
    """Raise `InvalidRecord`, which begins with `where`, for what JSON has not, wherever in the data it is.

    That is a key that is no text: 8080 would become "8080", where another key may have that name, and which text was
    meant by yes or 1.10 can't be known. And it is a number that is none, or is infinite.
    """
    if isinstance(data, Mapping):
        for key, inner in data.items():
            if not isinstance(key, str):
                raise InvalidRecord(f"{where}: the key {quote(key)} is not a string; quote it")
            check_json(inner, where)
    elif isinstance(data, (list, tuple)):
        for inner in data:
            check_json(inner, where)
    elif isinstance(data, float) and not math.isfinite(data):
        raise InvalidRecord(f"{where}: {quote(data)} is not a JSON number; quote it")


def read_content(loader: DataLoader, path: str) -> Content:
    """The bytes of a file, decrypted where Ansible Vault has encrypted it; then they are secret.

    Raises an `InvalidRecord` that begins with the path, also for more than a znode holds.
    """
    try:
        # What is encrypted is decrypted to a file of its own, for as long as it is read.
        plain = loader.get_real_file(path)
    except AnsibleError as exc:
        raise InvalidRecord(f"{path}: {exc.message}") from None
    try:
        with open(plain, "rb") as file:
            data = file.read(MAX_NODE_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
        secret = not os.path.samefile(plain, path)
    except OSError as exc:
        raise InvalidRecord(f"{path}: {exc.strerror}") from None
    finally:
        loader.cleanup_tmp_file(plain)
    if len(data) > MAX_NODE_BYTES:
        raise InvalidRecord(f"{path}: it has {size} bytes; a znode holds at most {MAX_NODE_BYTES}")
    return Content(data, secret)
