"""Where the lines between Ansible's own lines are printed."""

from __future__ import annotations

import pytest
from ansible import constants

from ansible_collections.zoo.deploy.plugins.plugin_utils.terminal import say


@pytest.mark.parametrize(
    ("callback", "output"),
    [
        ("default", True),
        ("minimal", True),
        ("community.general.yaml", True),
        ("json", False),
        ("ansible.posix.json", False),
        ("ansible.posix.jsonl", False),
    ],
)
def test_output_that_is_read_as_json_has_nothing_in_between(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], callback: str, output: bool
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_STDOUT_CALLBACK", callback)
    say("3 of 5 have proved it")
    said = capsys.readouterr()
    assert (said.out, said.err) == (("3 of 5 have proved it\n", "") if output else ("", "3 of 5 have proved it\n"))


def test_no_line_does_anything_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("web1\x1b[2J\u202e\nlocked")
    assert capsys.readouterr().out == "web1?[2J?\nlocked\n"
