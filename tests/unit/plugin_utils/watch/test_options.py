"""The event source's options are what its documentation lists."""

from __future__ import annotations

import runpy

import yaml

from ansible_collections.zoo.deploy.plugins.doc_fragments.zookeeper import ModuleDocFragment
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import _SPEC
from eda.source import FILE


def test_the_documentation_is_what_the_options_are() -> None:
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
