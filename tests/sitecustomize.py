"""Python compiles what it imports from a zip anew in every process; with this it does so once.

Ansible sends the module of each task in a zip, with some fifty files of its own, which take most of the module's time.
Python imports this file by itself where it is on its path; the hosts of the lab have it too (hosts/lab/tree.py). What
is run is the same, compiled from the same text.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport


def keep(directory: str) -> None:
    """Have what is compiled kept in a directory, by its text and Python's version."""
    machinery = vars(zipimport)  # there is no public way in
    compile_source = machinery["_compile_source"]

    def compiled(path: str, source: bytes) -> object:
        kept = os.path.join(directory, _imp.source_hash(sys.hexversion, source).hex())
        code = _load(kept)
        if code is not None:
            return code
        code = compile_source(path, source)
        try:
            with open(f"{kept}.{os.getpid()}", "xb") as new:
                marshal.dump(code, new)
            os.replace(new.name, kept)
        except OSError:
            pass  # another user's directory
        return code

    machinery["_compile_source"] = compiled


def _load(kept: str) -> object:
    """What a file has; None where there is none, or no whole one."""
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None


if os.environ.get("ZOO_TESTS_BYTECODE"):
    keep(os.environ["ZOO_TESTS_BYTECODE"])
