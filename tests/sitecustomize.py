"""What every process of Ansible's makes anew, it makes once with this.

Python compiles what it imports from a zip in each process. Ansible sends the module of each task in a zip, with some
fifty files of its own, which take most of the module's time. And each of its commands reads ten thousand lines of YAML,
which say what became of the plugins that it once had: a sixth of what a playbook takes to begin.

Python imports this file by itself where it is on its path; the hosts of the lab have it too (hosts/lab/tree.py). What
is run is the same, compiled from the same text.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROUTING = "ansible.utils.collection_loader._collection_meta"
"""The module whose one function reads what a collection says of its plugins; others may take its place, it says."""


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
        _save(kept, code)
        return code

    machinery["_compile_source"] = compiled


def keep_routing(directory: str) -> None:
    """Have what Ansible reads of a collection's plugins kept in a directory, by its text."""

    def read(text: bytes, content_id: object) -> object:
        kept = os.path.join(directory, f"routing-{_imp.source_hash(0, text).hex()}")
        routing = _load(kept)
        if routing is None:
            del sys.modules[ROUTING]
            routing = vars(__import__(ROUTING, fromlist=["*"]))["_meta_yml_to_dict"](text, content_id)
            _save(kept, routing)
        return routing

    module = type(sys)(ROUTING)
    vars(module)["_meta_yml_to_dict"] = read
    sys.modules[ROUTING] = module


def _load(kept: str) -> object:
    """What a file has; None where there is none, or no whole one."""
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None


def _save(kept: str, value: Any) -> None:
    """Have a file with a value, whole at every moment."""
    try:
        with open(f"{kept}.{os.getpid()}", "xb") as new:
            marshal.dump(value, new)
        os.replace(new.name, kept)
    except OSError:
        pass  # another user's directory


if os.environ.get("ZOO_TESTS_BYTECODE"):
    keep(os.environ["ZOO_TESTS_BYTECODE"])
    keep_routing(os.environ["ZOO_TESTS_BYTECODE"])
