# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a znode on the controller: the bytes of a file, or data that will become JSON."""

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
    """The content of a file, and whether it must not be shown."""

    data: bytes
    secret: bool = False

    def options(self) -> dict[str, Any]:
        """The options of `zk_znode` that write it."""
        option = "secret_value" if self.secret else "value"
        return {option: base64.b64encode(self.data).decode("ascii"), "encoding": "base64"}


def check_json(data: Any, where: str) -> None:
    """Raise an `InvalidRecord` that begins with `where` for anything in the data, at any depth, that JSON can't hold.

    That is a key that is not a string: 8080 would become "8080", which may be another key, and which string yes or
    1.10 stands for can't be known. And it is a number that is NaN or infinite.
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
    """The bytes of a file. If Ansible Vault has encrypted it, they are decrypted and secret.

    Raises an `InvalidRecord` that begins with the path, also if it is more than a znode can hold.
    """
    try:
        # An encrypted file is decrypted to a temporary one while it is read.
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
