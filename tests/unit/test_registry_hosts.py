"""No file names the host of a package registry: the machine's own settings choose which one is used."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = (
    "(deb|ftp|httpredir|security|snapshot)[.]debian[.]org",
    "(archive|ports|security)[.]ubuntu[.]com",
    "(test[.])?pypi[.]org",
    "pythonhosted[.]org",
    "registry[.](npmjs[.]org|yarnpkg[.]com)",
    "proxy[.]golang[.]org",
    "crates[.]io",
    "rubygems[.]org",
    "repo1?[.]maven[.]",
    "dl-cdn[.]alpinelinux[.]org",
)


def test_no_file_names_the_host_of_a_package_registry() -> None:
    command = ["git", "grep", "--untracked", "-nIE", "|".join(REGISTRIES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
