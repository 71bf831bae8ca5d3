"""`ansible-test sanity` over a copy of the tree at the place that it must have: `ansible_collections/zoo/deploy`.

ansible-test makes a virtual environment for each of its tests and gets pip into it with a script that it downloads
from a host of its own, in an environment from which everything but HOME and PATH has been taken. So it is given a home
of its own, which holds that script (one that asks Python's `ensurepip` instead) and the settings of pip.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ansible_test._internal.python_requirements import get_venv_packages

from suites.outcome import CACHE, ROOT, Outcome, read_junit
from suites.tool import run_tool

TREE = CACHE / "ansible_collections" / "zoo" / "deploy"
HOME = CACHE / "sanity-home"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

GET_PIP = """\
import subprocess
import sys

pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
# The version that ansible-test asked for; where it can't be had, Python's own will do.
subprocess.run([*pip, "install", *(word for word in sys.argv[1:] if "==" in word)], check=False)
"""


def run(words: list[str]) -> Outcome:
    """Run the sanity tests, with `words` for ansible-test (`--test pylint`). No report at all is one failure."""
    copy_tree()
    make_home()
    command = ["ansible-test", "sanity", "--python", PYTHON, "--junit", "--color", "no", *words]
    status = run_tool(command, cwd=TREE, env={**os.environ, "HOME": str(HOME)})
    outcome = read_junit(*(TREE / "tests" / "output" / "junit").glob("*.xml"))
    return outcome if status == 0 or outcome.failed else outcome + Outcome(failed=1)


def copy_tree() -> None:
    """Copy what git tracks, and what it would, but for what is called `collections`: the tree is in it once more."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(TREE, ignore_errors=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, TREE / name
        if "collections" not in Path(name).parts and os.path.lexists(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # A repository of its own, or ansible-test would ask the one around it, which ignores the whole copy.
    subprocess.run(["git", "init", "-q"], cwd=TREE, check=True)


def make_home() -> None:
    """Make the home: the script that brings pip, where ansible-test would have cached it, and pip's settings."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    version = get_venv_packages(SimpleNamespace(version=PYTHON))["pip"]
    (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    with settings.open("w") as file:
        _pip_settings().write(file)


def _pip_settings() -> configparser.RawConfigParser:
    """The user's own settings of pip, with those from the environment (`PIP_INDEX_URL`) put over them."""
    settings = configparser.RawConfigParser()
    home = Path.home()
    settings.read(
        [home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf", os.environ.get("PIP_CONFIG_FILE", "")]
    )
    if not settings.has_section("global"):
        settings.add_section("global")
    settings.set("global", "quiet", "1")
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            settings.set("global", name.removeprefix("PIP_").lower().replace("_", "-"), value)
    return settings
