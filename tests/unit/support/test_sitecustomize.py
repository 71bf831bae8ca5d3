"""What the test processes cache of what they import from zips, and of what Ansible reads about plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from support.merged import run_merged

TESTS = Path(__file__).parents[2]


def run_from_zip(archive: Path, kept: Path) -> str:
    """Return what a program prints that imports `part` from the archive in a new process."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{archive}", "ZOO_TESTS_BYTECODE": str(kept)}
    command = [sys.executable, "-c", "import part; print(part.WORD, part.__file__)"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


READ = """
import sys
from ansible.utils.collection_loader._collection_finder import _meta_yml_to_dict
print(_meta_yml_to_dict(sys.argv[1].encode(), "example"), "yaml" in sys.modules)
"""


def read_routing(text: str, kept: Path) -> str:
    """Return what Ansible reads in a collection's `runtime.yml` in a new process, and whether it has loaded YAML."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "ZOO_TESTS_BYTECODE": str(kept)}
    command = [sys.executable, "-c", READ, text]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_each_source_is_compiled_once(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    archive = tmp_path / "a.zip"
    for word, texts in (("one", 1), ("one", 1), ("two", 2)):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("part.py", f"WORD = {word!r}\n")
        assert run_from_zip(archive, kept) == f"{word} {archive}/part.py"
        assert len(list(kept.iterdir())) == texts


def test_damaged_bytecode_is_compiled_again_and_a_missing_directory_caches_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("part.py", "WORD = 1\n")
    assert run_from_zip(archive, kept) == f"1 {archive}/part.py"
    kept.mkdir()
    run_from_zip(archive, kept)
    (one,) = kept.iterdir()
    good = one.read_bytes()
    one.write_bytes(good[:7])
    assert run_from_zip(archive, kept) == f"1 {archive}/part.py"
    assert one.read_bytes() == good


def test_what_a_collection_declares_about_its_plugins_is_read_once_and_as_ansible_reads_it(tmp_path: Path) -> None:
    first, second = "{'a': {'tombstone': '2.0'}} ", "{'b': ['c']} "
    assert read_routing("a: {tombstone: 2.0}", tmp_path) == f"{first}True"
    assert read_routing("a: {tombstone: 2.0}", tmp_path) == f"{first}False"
    assert read_routing("b: [c]", tmp_path) == f"{second}True"
    assert len(list(tmp_path.iterdir())) == 2
    next(path for path in tmp_path.iterdir() if b"tombstone" in path.read_bytes()).write_bytes(b"")
    assert read_routing("a: {tombstone: 2.0}", tmp_path) == f"{first}True"


def test_ansible_finds_a_collection_as_without_a_cache_when_the_cache_is_still_empty(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "ANSIBLE_COLLECTIONS_PATH": str(TESTS.parent / "collections"),
        "LC_ALL": "C.UTF-8",
    }
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--list", "--json", "zoo.deploy"]
    listed = []
    for kept in ("", str(tmp_path), str(tmp_path)):
        done = run_merged(command, 60, cwd=tmp_path, env={**environment, "ZOO_TESTS_BYTECODE": kept})
        assert done.returncode == 0, done.stdout
        listed.append(json.loads(done.stdout))
    assert "zoo.deploy.zk_znode" in listed[0]
    assert listed == [listed[0]] * 3
    assert list(tmp_path.glob("routing-*"))
