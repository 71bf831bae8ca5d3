"""Cache what each of Ansible's processes would otherwise compile or parse again.

In each process, Python compiles what it imports from a zip. Ansible sends each task's module in a zip with some fifty
files of its own, whose compilation takes most of the module's time. Each of its commands also parses ten thousand lines
of YAML about the plugins that it once contained, a sixth of the time in which a playbook starts.

Python imports this file automatically if it is on its path; the hosts of the lab have it, too (hosts/lab/tree.py). The
code that runs is the same, compiled from the same source.
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

LOADER = "ansible.utils.collection_loader"
ROUTING = f"{LOADER}._collection_meta"
"""The module whose only function parses a collection's metadata about plugins; it is designed to be replaceable."""


def keep(directory: str) -> None:
    """Cache compiled code in a directory, keyed by its source and Python's version."""
    machinery = vars(zipimport)  # there is no public interface
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
    """Cache what Ansible parses of a collection's metadata in a directory, keyed by its text."""

    def read(text: bytes, content_id: object) -> object:
        kept = os.path.join(directory, f"routing-{_imp.source_hash(0, text).hex()}")
        routing = _load(kept)
        if routing is None:
            routing = _routing_module()._meta_yml_to_dict(text, content_id)
            _save(kept, routing)
        return routing

    module = type(sys)(ROUTING)
    vars(module)["_meta_yml_to_dict"] = read
    sys.modules[ROUTING] = module


def _routing_module() -> Any:
    """The module itself, imported without Ansible's finder, which would first ask for the metadata of a collection."""
    found, sys.meta_path[:] = sys.meta_path[:], [one for one in sys.meta_path if LOADER not in type(one).__module__]
    replaced = sys.modules.pop(ROUTING, None)
    try:
        return __import__(ROUTING, fromlist=["*"])
    finally:
        sys.meta_path[:] = found
        if replaced is not None:
            sys.modules[ROUTING] = replaced


def _load(kept: str) -> object:
    """The value in a file; None if there is no complete one."""
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None


def _save(kept: str, value: Any) -> None:
    """Write a value to a file, atomically."""
    try:
        with open(f"{kept}.{os.getpid()}", "xb") as new:
            marshal.dump(value, new)
        os.replace(new.name, kept)
    except OSError:
        pass  # the directory belongs to another user


if os.environ.get("ZOO_TESTS_BYTECODE"):
    keep(os.environ["ZOO_TESTS_BYTECODE"])
    keep_routing(os.environ["ZOO_TESTS_BYTECODE"])
