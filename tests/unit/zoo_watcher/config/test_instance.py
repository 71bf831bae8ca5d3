"""Which of a host's agents a command is about, even for a user who may not read its configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from zoo_watcher.config.instance import Instance
from zoo_watcher.errors import ConfigError


def configure(directory: Path, instance: str, **keys: object) -> Path:
    """Write a configuration."""
    path = directory / f"{instance}.json"
    path.write_text(json.dumps({"base": f"/srv/{instance}", **keys}))
    return path


def test_a_configuration_is_found_by_its_name_and_the_only_one_without_a_name(tmp_path: Path) -> None:
    configure(tmp_path, "shop", app="/app/shop", name="web1", digest_password="secret")
    (tmp_path / "shop.json.12.2026-11-22@01:02:03~").touch()
    (tmp_path / "shop.base").symlink_to("/srv/shop")
    shop = Instance("shop", Path("/srv/shop"), "web1", "/app/shop")
    assert Instance.named(str(tmp_path), None) == Instance.named(str(tmp_path), "shop") == shop
    configure(tmp_path, "mail")
    with pytest.raises(ConfigError, match=r"^this host has several agents, say which: mail, shop$"):
        Instance.named(str(tmp_path), None)
    assert Instance.named(str(tmp_path), "mail").app == "/app/business"


@pytest.mark.parametrize("name", ["blog", "../shop", "", "shop.json"])
def test_an_unknown_name_is_answered_with_the_names_there_are(tmp_path: Path, name: str) -> None:
    configure(tmp_path, "shop")
    with pytest.raises(ConfigError, match=r"^no agent .* on this host, only shop$"):
        Instance.named(str(tmp_path), name)


def test_the_error_without_a_configuration_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}: no configuration; name one with --config FILE$"):
        Instance.named(str(tmp_path), None)
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none: No such file or directory; name a configuration with"):
        Instance.named(f"{tmp_path}/none", "shop")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON: "),
        ("[]", r"expected a JSON object, got \[\]"),
        ("{}", "base: expected an absolute path, got null"),
        ('{"base": "srv"}', 'base: expected an absolute path, got "srv"'),
        ('{"base": "/a\\u0000b"}', "base: expected an absolute path, got "),
        ('{"base": "//."}', "base: expected a directory for the releases alone, got the root directory"),
    ],
)
def test_a_configuration_without_a_valid_base_gives_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "shop.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: {words}") as raised:
        Instance.of_file(str(path))
    assert len(raised.value.mistakes) == 1


def test_a_mistake_elsewhere_in_a_configuration_does_not_hide_its_base(tmp_path: Path) -> None:
    path = configure(tmp_path, "shop", keep_releases="many", app=7, name=None)
    assert Instance.of_file(str(path)).app == "/app/business"


def test_where_a_configuration_may_not_be_read_the_link_beside_it_names_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configure(tmp_path, "shop")

    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match=f"^{path}: Permission denied, and {tmp_path}/shop.base: No such file"):
        Instance.of_file(str(path))
    (tmp_path / "shop.base").symlink_to("/srv/shop")
    expected = Instance("shop", Path("/srv/shop"), unread=f"{path}: Permission denied")
    assert Instance.of_file(str(path)) == expected
