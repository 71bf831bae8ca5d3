"""`ansible-test sanity` over a copy of the tree at the place that it must have: `ansible_collections/zoo/deploy`.

ansible-test makes a virtual environment for each of its tests and installs pip into it with a script that it downloads
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

from suites.outcome import CACHE, ROOT, Outcome, read_junit
from suites.tool import run_tool

GET_PIP = """\
import subprocess
import sys

pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
# The version that ansible-test asked for; where it can't be had, Python's own will do.
subprocess.run([*pip, "install", *(word for word in sys.argv[1:] if "==" in word)], check=False)
"""


PIP_OF_ANSIBLE_TEST = """\
import sys
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version="%d.%d" % sys.version_info[:2]))["pip"])
"""
"""Prints the version of pip that ansible-test puts into its environments."""


def run(words: list[str]) -> Outcome:
    """Run the sanity tests with this environment's ansible-test."""
    return run_with(Path(sys.executable).parent, CACHE / "sanity", words)


def run_with(programs: Path, place: Path, words: list[str]) -> Outcome:
    """Run the sanity tests with an environment's ansible-test, in its own place, with `words` for it.

    Examples of such words are `--test pylint`. No report at all is one failure.
    """
    tree, home = place / "ansible_collections" / "zoo" / "deploy", place / "home"
    copy_tree(tree)
    make_home(home, programs / "python")
    command = [str(programs / "ansible-test"), "sanity", "--python", _version(programs / "python")]
    environment = {**os.environ, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}
    status = run_tool([*command, "--junit", "--color", "no", *words], cwd=tree, env=environment)
    outcome = read_junit(*(tree / "tests" / "output" / "junit").glob("*.xml"))
    return outcome if status == 0 or outcome.failed else outcome + Outcome(failed=1)


def copy_tree(tree: Path) -> None:
    """Copy what git tracks or would track, except what is named `collections`, which contains the tree once more."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree, ignore_errors=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, tree / name
        if "collections" not in Path(name).parts and os.path.lexists(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # A repository of its own, or ansible-test would ask the one around it, which ignores the entire copy.
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)


def make_home(home: Path, python: Path) -> None:
    """Create the home: the script that installs pip, where ansible-test would have cached it, and pip's settings."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    version = _printed(python, PIP_OF_ANSIBLE_TEST)
    (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    settings = home / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    with settings.open("w") as file:
        _pip_settings().write(file)


def _version(python: Path) -> str:
    return _printed(python, "import sys; print('%d.%d' % sys.version_info[:2])")


def _printed(python: Path, program: str) -> str:
    command = [str(python), "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _pip_settings() -> configparser.RawConfigParser:
    """The user's own settings of pip, overridden by those from the environment (`PIP_INDEX_URL`)."""
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
