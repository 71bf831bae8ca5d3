"""The bench's session offers what the agent's part in a rollout requires of its own session."""

from __future__ import annotations

import ast
from pathlib import Path

import zoo_watcher.rollouts
from bench.raw_session import RawSession

IN_INSTANCES = {"client_id"}
NOT_IN_THE_BENCH = {"delete_below", "read_acl"}
"""What deletes old rollouts, which never happens in the bench, and what only a closed application requires."""


def _asked(path: Path) -> set[str]:
    """The attributes of a session that one of the agent's files uses."""
    uses = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
    return {use.attr for use in uses if ast.unparse(use.value) in {"session", "self._session", "self.session"}}


def test_the_session_on_a_bare_socket_has_all_that_a_rollout_requires_of_one() -> None:
    asked = set[str]().union(*map(_asked, Path(*zoo_watcher.rollouts.__path__).glob("*.py")))
    assert {"begin_read", "commit"} < asked
    assert {name for name in asked - IN_INSTANCES - NOT_IN_THE_BENCH if not hasattr(RawSession, name)} == set()
