"""The configuration file: it may be a symlink, and anything else in its place is not waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo_watcher.config.document import read_document
from zoo_watcher.errors import ConfigError


def test_a_symlink_to_a_configuration_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"hosts": "zk1"}')
    (tmp_path / "agent.json").symlink_to("real.json")
    assert read_document(str(tmp_path / "agent.json")) == {"hosts": "zk1"}


@pytest.mark.parametrize(
    ("make", "why"), [(os.mkfifo, "not a regular file"), (os.mkdir, "(not a regular file|Is a directory)")]
)
def test_anything_but_a_file_is_named_and_not_waited_for(tmp_path: Path, make: object, why: str) -> None:
    path = tmp_path / "agent.json"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=f"^{path}: {why}$"):
        read_document(str(path))


@pytest.mark.parametrize(
    ("text", "key"),
    [('{"base": "/srv/a", "base": "/srv/b"}', "base"), ('{"services": [{"check": {"port": 1, "port": 2}}]}', "port")],
)
def test_a_duplicate_key_is_refused_by_its_name(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_document(str(path))
    assert refused.value.mistakes == [f'{path}: the key "{key}" is twice in one object; remove one of them']
