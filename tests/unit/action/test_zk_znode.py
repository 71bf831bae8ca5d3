"""What the controller's part of zk_znode does with the files that a task names."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.action.zk_znode import with_contents
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord
from ansible_collections.zoo.deploy.plugins.plugin_utils.content import Content


def read(name: str) -> Content:
    """A file's content, which is its name here; that of a vault is secret."""
    if name == "none":
        raise InvalidRecord("none: no such file")
    return Content(name.encode(), secret=name == "vaulted")


def test_a_files_content_replaces_its_name() -> None:
    options = {"path": "/a", "src": "colour", "parents": False}
    assert with_contents(options, read) == {
        "path": "/a",
        "parents": False,
        "value": "Y29sb3Vy",
        "encoding": "base64",
    }
    assert options["src"] == "colour"


def test_the_content_of_a_vault_is_a_secret_value() -> None:
    given = with_contents({"path": "/a", "src": "vaulted"}, read)
    assert given == {"path": "/a", "secret_value": "dmF1bHRlZA==", "encoding": "base64"}


@pytest.mark.parametrize(("key", "named"), [(1, "1"), (True, "true"), (None, "null"), (2.1, "2.1")])
def test_a_key_that_is_not_a_string_is_refused_because_it_could_be_another_one_in_json(key: Any, named: str) -> None:
    value = {"ports": [{key: "a", "1": "b"}]}
    for options in ({"path": "/a", "value": value}, {"znodes": [{"path": "/b"}, {"path": "/a", "value": value}]}):
        with pytest.raises(InvalidRecord) as caught:
            with_contents(options, read)
        assert str(caught.value) == f"/a: value: the key {named} is not a string; quote it"


def test_each_entry_has_its_own_file_and_others_stay_as_they_are() -> None:
    entries = [{"path": "/a", "src": "colour"}, {"path": "/b", "value": "x"}, "no entry"]
    given = with_contents({"znodes": entries, "encoding": "text"}, read)
    assert given == {
        "encoding": "text",
        "znodes": [{"path": "/a", "value": "Y29sb3Vy", "encoding": "base64"}, {"path": "/b", "value": "x"}, "no entry"],
    }


@pytest.mark.parametrize("options", [{"path": "/a", "src": None}, {"path": "/a"}, {"znodes": "{{ no_list }}"}])
def test_a_task_without_files_is_left_as_it_is(options: dict[str, Any]) -> None:
    given = with_contents(options, read)
    assert given == {name: value for name, value in options.items() if value is not None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"src": "none"}, "src: none: no such file"),
        ({"src": ""}, 'src: expected the path of a file, got ""'),
        ({"src": ["a"]}, 'src: expected the path of a file, got ["a"]'),
        ({"src": "a", "value": "x"}, "src: a is written as it is; leave out value, secret_value, encoding"),
        ({"src": "a", "encoding": "text"}, "src: a is written as it is; leave out value, secret_value, encoding"),
        ({"znodes": [{"path": "/a", "src": "none"}]}, "src: none: no such file"),
        ({"znodes": [], "src": "a"}, "src: belongs to one znode; give each entry of znodes its own"),
    ],
)
def test_an_impossible_task_is_refused_in_one_clear_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        with_contents(options, read)
    assert str(caught.value) == said
