"""The man page of `zoo-watcher`, and its completion in bash."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from support.playbook import ROOT
from zoo_watcher.command_line import parser

SHARE = ROOT / "roles" / "watcher" / "files" / "share"
PAGE = SHARE / "man" / "man1" / "zoo-watcher.1"
COMPLETION = SHARE / "bash-completion" / "completions" / "zoo-watcher"
INTERNAL = {"apply"}
"""Commands that nobody types."""
ASK = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_zoo_watcher
printf '%s\\n' "${COMPREPLY[@]}"
"""


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command by its name."""
    (made,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(made.choices)


def options(one: argparse.ArgumentParser) -> set[str]:
    """The long options that a parser knows."""
    return {word for action in one._actions for word in action.option_strings if word.startswith("--")}


def offered(*words: str) -> set[str]:
    """What bash offers in place of the last word."""
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(COMPLETION), "zoo-watcher", *words],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    return set(done.stdout.split())


def test_the_man_page_has_every_command_and_option_and_no_other() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    entries = set(re.findall(r"^\.TP\n\.B ([a-z]+)$", text, re.MULTILINE))
    assert entries == set(commands())
    known = options(parser()).union(*map(options, commands().values()))
    assert set(re.findall(r"--[a-z][a-z-]+", text)) == known


def test_bash_completes_commands_and_their_options() -> None:
    assert offered("") == set(commands()) - INTERNAL
    assert offered("dr") == {"drain"}
    assert offered("-") == options(parser())
    for name, command in commands().items():
        if name not in INTERNAL:
            assert offered(name, "-") == options(command), name


def test_bash_completes_the_instances_of_a_host(tmp_path: Path) -> None:
    for name in ("shop", "search"):
        (tmp_path / f"{name}.base").symlink_to(tmp_path)
        (tmp_path / f"{name}.json").write_text("{}")
    before = ["--config-dir", str(tmp_path)]
    assert offered(*before, "status", "") == {"shop", "search"}
    assert offered(*before, "hold", "--reason", "disk swap", "sh") == {"shop"}
    assert offered(*before, "run", "") == set()
    assert offered("--config-dir", str(tmp_path / "gone"), "status", "") == set()


@pytest.mark.parametrize("words", [["hold", "--reason", ""], ["status", "--config", ""]])
def test_bash_offers_no_instance_where_an_option_takes_its_value(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "shop.base").symlink_to(tmp_path)
    assert offered("--config-dir", str(tmp_path), *words) == set()
