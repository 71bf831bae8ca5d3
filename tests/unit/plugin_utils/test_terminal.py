"""Where what is said between Ansible's own lines is printed."""

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
def test_what_is_read_as_json_has_nothing_between(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], callback: str, output: bool
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_STDOUT_CALLBACK", callback)
    say("3 of 5 have proved it")
    said = capsys.readouterr()
    assert (said.out, said.err) == (("3 of 5 have proved it\n", "") if output else ("", "3 of 5 have proved it\n"))
