"""The event source's options are what its documentation lists."""

from __future__ import annotations

import runpy

import yaml

from ansible_collections.zoo.deploy.plugins.doc_fragments.zookeeper import ModuleDocFragment
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import _SPEC
from eda.source import FILE
from support.documents import blocks
from support.source_table import PAGE, documented, with_table


def test_the_documentation_agrees_with_the_options() -> None:
    source = runpy.run_path(str(FILE))
    documented = yaml.safe_load(source["DOCUMENTATION"])["options"]
    shape = {
        name: {key: value for key, value in option.items() if key != "description"}
        for name, option in documented.items()
    }
    spec = {
        name: {key: value for key, value in option.items() if key not in {"no_log", "fallback"}}
        for name, option in _SPEC.items()
    }
    assert shape == spec
    for name, option in yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"].items():
        if name != "connect_timeout":
            assert documented[name] == option
    for example in yaml.safe_load(source["EXAMPLES"]):
        ((name, args),) = example.items()
        assert name == "zoo.deploy.zk_watch"
        assert args.keys() <= spec.keys()


def test_the_reference_has_every_option_and_the_examples_of_the_documentation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "PYTHONPATH=tests uv run python -m support.source_table"
    assert page.count("| `connect_timeout` |") == 1
    assert blocks(PAGE, "yaml")[0].strip() == documented()["examples"]
