"""Commands as they are typed in a checkout, with its own settings and nothing in the environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.playbook import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
README_PLAYBOOKS = re.findall(r"^\$ ansible-playbook (zoo\.deploy\.\w+)", README, re.MULTILINE)


def typed(home: Path, command: str, *words: str) -> str:
    """What one of Ansible's commands prints in the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "ZK_"))}
    surroundings = {**kept, "HOME": str(home), "ANSIBLE_NOCOLOR": "true"}
    program = str(Path(sys.executable).with_name(command))
    done = subprocess.run([program, *words], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


SHIPPED = {
    *("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "LICENSES", "README.md", "REUSE.toml"),
    *("SECURITY.md", "ansible.cfg", "bindep.txt", "requirements.txt"),
    *("changelogs", "docs", "extensions", "meta", "playbooks", "plugins", "roles"),
}
"""What a tarball has of the checkout: no tests, and nothing that is needed only for development."""


def test_a_tarball_is_installed_where_the_user_has_collections(tmp_path: Path) -> None:
    built = typed(tmp_path, "ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    tarballs = list(tmp_path.glob("*.tar.gz"))
    assert len(tarballs) == 1, built
    said = typed(tmp_path, "ansible-galaxy", "collection", "install", "--offline", str(tarballs[0]))
    installed = tmp_path / ".ansible" / "collections" / "ansible_collections" / "zoo" / "deploy"
    assert (installed / "MANIFEST.json").exists(), said
    assert not (installed / "playbooks" / "collections").exists()
    assert {path.name for path in installed.iterdir()} == {*SHIPPED, "FILES.json", "MANIFEST.json"}


def test_the_collection_is_installed_from_a_git_repository(tmp_path: Path) -> None:
    said = typed(tmp_path, "ansible-galaxy", "collection", "install", "--no-deps", f"git+file://{ROOT}")
    installed = tmp_path / ".ansible" / "collections" / "ansible_collections" / "zoo" / "deploy"
    assert (installed / "MANIFEST.json").exists(), said
    said = typed(tmp_path, "ansible-playbook", "--list-tasks", *README_PLAYBOOKS)
    assert said.count("playbook: ") == len(README_PLAYBOOKS), said


def test_a_copy_of_the_playbooks_that_follows_their_symlinks_terminates_and_can_be_run(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copied" / "playbooks"
    shutil.copytree(ROOT / "playbooks", copy, ignore=shutil.ignore_patterns("__pycache__"))
    said = typed(tmp_path, "ansible-playbook", str(copy / "status.yml"), "-e", "zoo_hosts=")
    assert "hosts: none given; set the option, or ZK_HOSTS in the environment" in said


def test_a_playbook_finds_the_modules_of_the_checkout_and_warns_of_nothing(tmp_path: Path) -> None:
    said = typed(tmp_path, "ansible-playbook", "playbooks/status.yml", "-e", "zoo_hosts=")
    assert "hosts: none given; set the option, or ZK_HOSTS in the environment" in said
    assert "WARNING" not in said
    assert "zk_services" in typed(tmp_path, "ansible-doc", "-t", "inventory", "-l", "zoo.deploy")


def test_a_role_that_is_found_beside_the_playbooks_finds_its_version_two_directories_above() -> None:
    beside = ROOT / "playbooks" / "collections" / "ansible_collections" / "zoo" / "deploy"
    assert (beside / "roles" / "watcher").is_dir()
    assert (beside / "galaxy.yml").samefile(ROOT / "galaxy.yml")
