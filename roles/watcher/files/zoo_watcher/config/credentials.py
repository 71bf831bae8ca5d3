# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of the connection that are credentials of the unit (LoadCredential=, systemd.exec(5)), not in a file here.

systemd puts each into a file with its name, in a directory in memory that only the unit's user may read.
"""

from __future__ import annotations

import os

from .document import read_named
from .object_reader import ObjectReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECRETS = ("digest_password", "sasl_password", "tls_key_password")
"""Those whose value is in the file."""
FILES = ("tls_cert", "tls_key")
"""Those that are the path of a file."""
DIRECTORY = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd passes the directory."""


def take_credentials(reader: ObjectReader) -> None:
    """Set the keys that the key `credentials` names from the credentials."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(item in SECRETS + FILES for item in value)

    names = reader.take("credentials", f"a list of {', '.join(SECRETS + FILES)}", fits, ())
    directory = os.environ.get(DIRECTORY)
    if names and not directory:
        reader.wrong("credentials", f"{DIRECTORY} is not set; systemd sets it for a unit with LoadCredential=")
        return
    for name in names:
        if name in reader.left:
            reader.wrong(name, "given here, and among the credentials; leave one of them out")
            continue
        path = os.path.join(str(directory), name)
        try:
            content = read_named(path).decode("utf-8")
        except (OSError, ValueError) as exc:
            reader.wrong("credentials", f"{path}: {exc.strerror if isinstance(exc, OSError) else 'not UTF-8'}")
            continue
        reader.left[name] = path if name in FILES else content.rstrip("\n")
