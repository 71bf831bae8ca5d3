# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of the connection that the configuration lacks, from environment variables, as for modules.

Each is named like the key, in capitals after `ZK_`; an empty one counts as unset. A secret may be in a file instead,
which `ZK_DIGEST_PASSWORD_FILE`, say, names: anybody who may inspect a container can read its variables.
"""

from __future__ import annotations

import os

from zoo_watcher.wire.records import quote

from .credentials import SECRETS
from .document import read_named
from .object_reader import ObjectReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TEXTS = (
    *("hosts", "digest_username", "digest_password", "sasl_mechanism", "sasl_username", "sasl_password"),
    *("sasl_service", "sasl_principal", "tls_ca", "tls_cert", "tls_key", "tls_key_password"),
)
FLAGS = ("tls", "tls_verify", "tls_check_hostname")
NUMBERS = ("session_timeout",)
WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}
"""What Ansible takes for true and false."""


def variable(key: str) -> str:
    """The variable that counts if the configuration lacks a key."""
    return f"ZK_{key.upper()}"


SECRET_VARIABLES = tuple(map(variable, SECRETS))
FILE_VARIABLES = tuple(f"{name}_FILE" for name in SECRET_VARIABLES)


def take_environment(reader: ObjectReader) -> None:
    """Set these keys from the environment if the configuration lacks them."""
    for key in (*TEXTS, *FLAGS, *NUMBERS):
        if reader.left.get(key) is None and not reader.noted(key):
            value = _value(reader, key)
            if value is not None:
                reader.left[key] = value


def _value(reader: ObjectReader, key: str) -> Any:
    name = variable(key)
    text = os.environ.get(name)
    if not text:
        return _in_file(reader, f"{name}_FILE") if key in SECRETS else None
    if key in FLAGS:
        return _checked(reader, name, "true or false", text, WORDS.get(text.strip().lower()))
    if key in NUMBERS:
        return _checked(reader, name, "seconds", text, _number(text))
    return text


def _checked(reader: ObjectReader, name: str, expected: str, text: str, value: Any) -> Any:
    if value is None:
        reader.wrong(name, f"expected {expected}, got {quote(text)}")
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _in_file(reader: ObjectReader, name: str) -> str | None:
    """The secret in the file that a variable names, without the newline at its end."""
    path = os.environ.get(name)
    if not path:
        return None
    try:
        secret = read_named(path).decode("utf-8").rstrip("\n")
    except (OSError, ValueError) as exc:
        reader.wrong(name, f"{path}: {exc.strerror if isinstance(exc, OSError) else 'not UTF-8'}")
        return None
    if not secret:
        reader.wrong(name, f"{path} is empty")
    return secret or None
