"""The option src of zk_znode: files of the controller as the values of znodes."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.tasks import Run, run_tasks

BYTES = bytes(range(256))
HIDDEN = "correct horse battery"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The directory `files` beside the playbook."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "bytes").write_bytes(BYTES)
    (directory / "text").write_text("one\n{{ no_template }}\n")
    (directory / "patch.json").write_text('{"pool": {"max": 30}, "host": null}')
    (directory / "big").write_bytes(b"x" * 1_000_001)
    (directory / "vaulted").write_text(HIDDEN)
    (directory / "vaulted.json").write_text(f'{{"password": "{HIDDEN}"}}')
    (tmp_path / "password").write_text("open sesame")
    vault = Path(sys.executable).with_name("ansible-vault")
    for name in ("vaulted", "vaulted.json"):
        command = [str(vault), "encrypt", "--vault-password-file", str(tmp_path / "password"), str(directory / name)]
        subprocess.run(command, check=True, capture_output=True)
    return directory


def run(files: Path, ensemble: Ensemble, tasks: list[dict[str, Any]], *words: str) -> Run:
    """Run zk_znode tasks, each given by its options, with `register` among them."""
    made = []
    for options in tasks:
        given = {name: value for name, value in options.items() if name not in {"register", "async"}}
        task = {"register": options["register"], "zoo.deploy.zk_znode": {"hosts": ensemble.hosts, **given}}
        made.append({**task, **({"async": 60, "poll": 1} if "async" in options else {})})
    return run_tasks(files.parent, made, *words)


def test_a_file_is_written_byte_for_byte_and_only_where_it_differs(
    files: Path, ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.create(f"{app}/merged", b'{"host": "db1", "pool": {"min": 2}}', makepath=True)
    entries = [{"path": f"{app}/x", "src": "text"}, {"path": f"{app}/y", "value": "as it is"}]
    done = run(
        files,
        ensemble,
        [
            {"register": "made", "path": f"{app}/bytes", "src": "bytes"},
            {"register": "again", "path": f"{app}/bytes", "src": str(files / "bytes")},
            {"register": "text", "path": f"{app}/text", "src": "files/text"},
            {"register": "entries", "znodes": entries},
            {"register": "merged", "path": f"{app}/merged", "src": "patch.json", "merge": True},
            {"register": "later", "path": f"{app}/later", "src": "text", "async": True},
        ],
        "--diff",
    )
    assert [done[name]["changed"] for name in ("made", "again", "text", "entries", "later")] == [
        True,
        False,
        *[True] * 3,
    ]
    assert zk.get(f"{app}/bytes")[0] == BYTES
    assert (done["made"]["encoding"], done["made"]["value"]) == ("base64", base64.b64encode(BYTES).decode())
    for name in ("text", "x", "later"):
        assert zk.get(f"{app}/{name}")[0] == b"one\n{{ no_template }}\n"
    assert done["text"]["diff"]["after"]["value"] == ["one\n", "{{ no_template }}\n"]
    assert zk.get(f"{app}/y")[0] == b"as it is"
    assert zk.get(f"{app}/merged")[0] == b'{"pool": {"min": 2, "max": 30}}'
    assert zk.exists(f"{app}/bytes").version == 0


def test_the_content_of_a_vault_is_written_and_shown_nowhere(
    files: Path, ensemble: Ensemble, zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = files.parent / "ansible.log"
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    zk.create(f"{app}/former", HIDDEN.encode(), makepath=True)
    zk.create(f"{app}/merged", b'{"user": "ann"}')
    done = run(
        files,
        ensemble,
        [
            {"register": "made", "path": f"{app}/made", "src": "vaulted"},
            {"register": "entries", "znodes": [{"path": f"{app}/former", "src": "vaulted"}]},
            {"register": "merged", "path": f"{app}/merged", "src": "vaulted.json", "merge": True},
        ],
        *("--diff", "-vvv", "--vault-password-file", str(files.parent / "password")),
    )
    assert zk.get(f"{app}/made")[0] == HIDDEN.encode()
    assert zk.get(f"{app}/merged")[0] == f'{{"user": "ann", "password": "{HIDDEN}"}}'.encode()
    assert not done["entries"]["changed"]
    for printed in (done.output, log.read_text(), repr(done.results)):
        assert HIDDEN not in printed
        assert base64.b64encode(HIDDEN.encode()).decode() not in printed
    assert '"value": "(secret)"' in done.output


def test_a_file_that_cannot_be_written_is_a_one_line_error(
    files: Path, ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    cases = {
        "none": "src: none: no such file in files/ of the role or the playbook, nor beside them",
        "/no/where": "src: /no/where: no such file",
        ".": f"src: {files}/.: is a directory; the lookup zoo.deploy.config_znodes turns its files into entries",
        "big": f"src: {files}/big: it has 1000001 bytes; a znode holds at most 1000000",
        "vaulted": "vault password",
    }
    tasks = [{"register": f"case{at}", "path": app, "src": name} for at, name in enumerate(cases)]
    done = run(files, ensemble, tasks)
    for at, said in enumerate(cases.values()):
        result = done[f"case{at}"]
        assert result["failed"]
        assert said in result["msg"]
        assert "\n" not in result["msg"]
    assert zk.exists(app) is None


def test_the_module_without_its_action_plugin_refuses_src(app: str) -> None:
    result = run_module(ROOT / "plugins/modules/zk_znode.py", hosts=["unused"], path=app, src="x")
    assert result["failed"]
    assert result["msg"] == f"{app}: src is read by the action plugin of this module, which was not run"
