"""What the role watcher's installer reports about a host, and the environments that it makes."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

INSTALL = Path(__file__).resolve().parents[3] / "roles" / "watcher" / "files" / "install.py"


def report(capsys: pytest.CaptureFixture[str], **order: Any) -> dict[str, Any]:
    """What the installer reports of an order."""
    runpy.run_path(str(INSTALL))["main"](json.dumps(order))
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_a_password_that_was_written_and_never_used_is_among_what_the_agent_reads(tmp_path: Path) -> None:
    secret = tmp_path / "web.1.credentials" / "digest_password"
    secret.parent.mkdir()
    secret.touch()
    order = {"install_dir": str(tmp_path), "config_dir": str(tmp_path), "instance": "web.1", "unit": "none.service"}
    assert runpy.run_path(str(INSTALL))["_read"](order) == [secret]


@pytest.mark.parametrize(
    ("text", "has_secret"),
    [('{"digest_password": "x"}', True), ('{"hosts": "a"}', False), ("[", True), ("5", True), (None, False)],
)
def test_a_configuration_that_may_have_a_secret_is_recognized(
    tmp_path: Path, text: str | None, has_secret: bool
) -> None:
    if text is not None:
        (tmp_path / "web.json").write_text(text)
    order = {"config_dir": str(tmp_path), "instance": "web", "secrets": ["digest_password"]}
    assert runpy.run_path(str(INSTALL))["_has_secret"](order) is has_secret


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_root_a_managed_service_is_refused_before_anything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = report(capsys, managed=True, state=state)
    assert said["problems"] == ["the service needs root on this host; apply the role with become: true"]
    assert not said["changed"]


@pytest.fixture
def other_python(tmp_path: Path) -> dict[str, Any]:
    """An order for the version that two instances run, in an environment of Python 3.8."""
    directory = tmp_path / "1.0.0"
    package = directory / "lib/python3.8/site-packages/zoo_watcher"
    package.mkdir(parents=True)
    (package / "watcher.py").write_text("")
    (directory / "pyvenv.cfg").write_text("old\n")
    stamp = {"python": [3, 8], "instances": {"shop": ["kazoo"], "blog": ["kazoo", "pure-sasl"], "gone": ["kerberos"]}}
    (directory / "zoo-watcher.json").write_text(json.dumps(stamp))
    for instance in ("shop", "blog"):
        (tmp_path / f"current-{instance}").symlink_to("1.0.0")
    order = {"check": False, "source": "index", "name": "1.0.0", "version": "1.0.0", "instance": "shop", "pip_args": []}
    return {
        **order,
        "packages": ["kazoo", "prometheus-client"],
        "install_dir": str(tmp_path),
        "config_dir": str(tmp_path),
        "files": {"watcher.py": ""},
    }


def contents(directory: Path) -> dict[str, str]:
    """The text of every file by its path."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(directory)): path.read_text() for path in files}


def install(order: dict[str, Any], ran: list[list[str]], failing: str = "nothing") -> bool:
    """Carry out the order with commands that do nothing, except the `failing` one, and record them."""
    functions = runpy.run_path(str(INSTALL))

    def run(command: list[str], advice: str) -> None:
        ran.append(command)
        if command[2] == "venv":
            Path(command[-1]).mkdir(exist_ok=True)
            (Path(command[-1]) / "pyvenv.cfg").write_text("new\n")
            (Path(command[-1]) / "bin").mkdir(exist_ok=True)
            (Path(command[-1]) / "bin/python").symlink_to(sys.executable)
        if failing in command or failing in command[-1]:
            raise functions["InstallError"](advice)

    functions["install"].__globals__["_run"] = run
    try:
        return bool(functions["install"](order))
    except functions["InstallError"]:
        return False


@pytest.mark.parametrize("failing", ["venv", "pip", "import zoo_watcher"])
def test_an_environment_that_instances_run_stays_if_one_of_another_python_cannot_be_made(
    tmp_path: Path, other_python: dict[str, Any], failing: str
) -> None:
    before = contents(tmp_path)
    assert not install(other_python, [], failing)
    assert contents(tmp_path) == before


def test_an_environment_of_another_python_has_what_all_instances_need_and_the_modules_of_those_still_running(
    tmp_path: Path, other_python: dict[str, Any]
) -> None:
    ran: list[list[str]] = []
    assert install(other_python, ran)
    found = contents(tmp_path / "1.0.0")
    python = list(sys.version_info[:2])
    site = "lib/python{}.{}/site-packages/zoo_watcher".format(*python)
    assert found["pyvenv.cfg"] == "new\n"
    assert {"lib/python3.8/site-packages/zoo_watcher/watcher.py", f"{site}/watcher.py"} <= found.keys()
    assert json.loads(found["zoo-watcher.json"]) == {
        "python": python,
        "instances": {"blog": ["kazoo", "pure-sasl"], "shop": ["kazoo", "prometheus-client"]},
    }
    installed = [command[command.index("--no-input") + 1 :] for command in ran if command[2] == "pip"]
    assert installed == [["kazoo", "pure-sasl"], ["kazoo", "prometheus-client"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.0.0", "current-blog", "current-shop"]
    assert not install(other_python, [])


@pytest.mark.parametrize("was_cut_off", [False, True])
def test_an_environment_that_instances_run_and_somebody_has_removed_is_recreated(
    tmp_path: Path, other_python: dict[str, Any], *, was_cut_off: bool
) -> None:
    """So is one that an interrupted run had moved away before another one took its place."""
    if was_cut_off:
        (tmp_path / "1.0.0").rename(tmp_path / "1.0.0.old")
    else:
        shutil.rmtree(tmp_path / "1.0.0")
    assert install(other_python, [])
    assert contents(tmp_path / "1.0.0")["pyvenv.cfg"] == "new\n"
    assert (tmp_path / "1.0.0/lib/python3.8").exists() is was_cut_off
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.0.0", "current-blog", "current-shop"]


def test_an_environment_whose_python_is_gone_is_recreated(tmp_path: Path, other_python: dict[str, Any]) -> None:
    """For example if a Python of the same version is now in another place."""
    assert install(other_python, [])
    (tmp_path / "1.0.0/bin/python").unlink()
    (tmp_path / "1.0.0/bin/python").symlink_to(tmp_path / "gone")
    assert install(other_python, [])
    assert (tmp_path / "1.0.0/bin/python").exists()
    assert not install(other_python, [])


def test_what_an_interrupted_run_has_left_is_recreated_with_what_each_instance_requires_now(
    tmp_path: Path, other_python: dict[str, Any]
) -> None:
    left = tmp_path / "1.0.0.new"
    left.mkdir()
    stamp = {
        "python": list(sys.version_info[:2]),
        "instances": {"blog": ["kazoo"], "shop": ["kazoo", "prometheus-client"]},
    }
    (left / "zoo-watcher.json").write_text(json.dumps(stamp))
    ran: list[list[str]] = []
    assert install(other_python, ran)
    assert ["kazoo", "pure-sasl"] in [command[-2:] for command in ran]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a base to another user")
@pytest.mark.parametrize("user", ["root", "daemon", "is-made-later"])
def test_a_base_of_another_user_is_refused_before_anything_is_touched(tmp_path: Path, user: str) -> None:
    found = runpy.run_path(str(INSTALL))["base_problem"]
    order = {"base": str(tmp_path), "user": user, "unit": "zoo-watcher@shop.service"}
    assert found(order) == ""
    (tmp_path / ".zoo").mkdir()
    os.chown(tmp_path / ".zoo", 1, -1)
    if user == "daemon":
        assert found(order) == ""
    else:
        assert found(order) == (
            f"{tmp_path}/.zoo is daemon's, and watcher_user is {user}; set it to daemon, or make that user, "
            f"stop zoo-watcher@shop.service, run find {tmp_path}/ -user daemon -exec chown -h {user}: {{}} +, "
            "and apply the role again"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a base to another user")
def test_the_command_gives_a_base_to_the_other_user_even_if_a_symlink_leads_to_it(tmp_path: Path) -> None:
    found = runpy.run_path(str(INSTALL))["base_problem"]
    base, disk = tmp_path / "base", tmp_path / "it's a disk"
    (disk / ".zoo").mkdir(parents=True)
    base.symlink_to(disk)
    for path in (disk, disk / ".zoo"):
        os.chown(path, 1, -1)
    order = {"base": str(base), "user": "root", "unit": "zoo-watcher@shop.service"}
    command = found(order).partition("run ")[2].partition(", and apply")[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert found(order) == ""
    assert disk.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a base to another user")
@pytest.mark.parametrize(("user", "is_refused"), [("root", True), ("is-made-later", False)])
def test_a_base_whose_owner_no_longer_exists_may_be_that_of_the_user_that_is_recreated(
    tmp_path: Path, user: str, is_refused: bool
) -> None:
    (tmp_path / ".zoo").mkdir()
    os.chown(tmp_path / ".zoo", 3_999_999, -1)
    order = {"base": str(tmp_path), "user": user, "unit": "zoo-watcher@shop.service"}
    assert ("is 3999999's" in runpy.run_path(str(INSTALL))["base_problem"](order)) is is_refused
