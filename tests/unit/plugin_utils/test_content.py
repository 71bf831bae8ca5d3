"""The bytes of a file on the controller."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.zoo.deploy.plugins.plugin_utils.content import Content, read_content


@pytest.mark.parametrize("path", ["text", "below/../text", "./text", ".//text", "link"])
def test_a_file_is_not_secret_by_whatever_path_it_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "text").write_bytes(b"green")
    (tmp_path / "link").symlink_to("text")
    assert read_content(DataLoader(), f"{tmp_path}/{path}") == Content(b"green", secret=False)
    assert (tmp_path / "text").exists()
