"""Environments below `.cache` that the gates create for other versions of Python and of the collection's requirements.

An interpreter is found on PATH or in pyenv. uv creates the environments, from the package index that it is configured
for; one that exists for the same requirements is reused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from suites.outcome import CACHE, ROOT

PLACE = CACHE / "gates"
"""The directory of the environments."""


class UnavailableError(Exception):
    """Raised if such an environment can't be created here; its message says why."""


def interpreter(version: str) -> str:
    """The path of a Python of a version such as 3.9. Raises `UnavailableError` if there is none that starts."""
    for candidate in candidates(version, Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")):
        if subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    raise UnavailableError(f"there is no Python {version} on PATH, nor with pyenv")


def candidates(version: str, pyenv: Path) -> Iterable[str]:
    """The paths of such a Python: those of pyenv, newest first, then the one on PATH, which may be a shim of pyenv."""
    found = pyenv.glob(f"versions/{version}.*/bin/python{version}")
    yield from map(str, sorted(found, key=lambda path: release_of(path.parts[-3]), reverse=True))
    if on_path := shutil.which(f"python{version}"):
        yield on_path


def release_of(version: str) -> list[int]:
    """The numbers of a version, for ordering versions."""
    return [int(part) for part in version.split(".") if part.isdigit()]


def environment(name: str, version: str, *requirements: str) -> Path:
    """The directory of the programs of an environment with these requirements, in uv's words (`--group test` is two).

    Raises `UnavailableError` if there is no such interpreter or no uv; `CalledProcessError` if uv fails.
    """
    directory = PLACE / name
    made, wanted = directory / "requirements", _text(version, requirements)
    if made.is_file() and made.read_text() == wanted:
        return directory / "bin"
    if shutil.which("uv") is None:
        raise UnavailableError("there is no uv on PATH")
    python = interpreter(version)
    _uv("venv", "--clear", "--quiet", "--no-python-downloads", "--python", python, str(directory))
    _uv("pip", "install", "--quiet", "--python", str(directory / "bin" / "python"), *requirements)
    made.write_text(wanted)
    return directory / "bin"


def _text(version: str, requirements: Iterable[str]) -> str:
    """All that an environment is made from; the groups in pyproject.toml may change while their names stay."""
    return "\n".join([version, *requirements, hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()])


def _uv(*words: str) -> None:
    subprocess.run(["uv", *words], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
