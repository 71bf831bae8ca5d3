"""The last good answers as they are cached: a cache outlives an update of the collection."""

from __future__ import annotations

import json

from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.last_good import LastGood, from_cache, to_cache
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry

HOSTS = "zk1:2181,zk2:2181"
REGISTRY = Registry("/service/web", "seed")
ANSWER = LastGood(
    Reading(
        {"/service/web": 7}, [Child("/service/web/a", (), b'["10.0.0.1", "80"]\xff', 1000, 2000, 5)], ["a problem"]
    ),
    1,
    5000.0,
)
CACHED = {
    "version": 1,
    "hosts": HOSTS,
    "registries": {
        "/service/web seed": {
            "live": 1,
            "at": 5000.0,
            "folders": {"/service/web": 7},
            "children": [["/service/web/a", [], '["10.0.0.1", "80"]\xff', 1000, 2000, 5]],
            "problems": ["a problem"],
        }
    },
}
"""The form that is written; the first version wrote no time."""


def test_an_answer_is_cached_in_a_form_that_earlier_versions_read() -> None:
    assert to_cache(HOSTS, [REGISTRY], [ANSWER]) == CACHED


def test_what_is_cached_is_the_last_good_answer_of_this_ensemble_and_registry_only() -> None:
    cached = json.loads(json.dumps(CACHED))
    assert from_cache(HOSTS, [REGISTRY], cached) == [ANSWER]
    assert from_cache("zk9:2181", [REGISTRY], cached) == [None]
    assert from_cache(HOSTS, [Registry("/service/api", "seed"), REGISTRY], cached) == [None, ANSWER]


def test_an_answer_is_of_one_choice_of_a_listener_only() -> None:
    internal, external = (Registry("/brokers/ids", "kafka", listener=name) for name in ("INTERNAL", "EXTERNAL"))
    cached = json.loads(json.dumps(to_cache(HOSTS, [internal], [ANSWER])))
    assert from_cache(HOSTS, [external, internal], cached) == [None, ANSWER]


def test_an_answer_is_good_for_as_long_as_requested_and_one_without_a_time_as_long_as_the_cache() -> None:
    cached = json.loads(json.dumps(CACHED))
    assert from_cache(HOSTS, [REGISTRY], cached, since=5000.0) == [ANSWER]
    assert from_cache(HOSTS, [REGISTRY], cached, since=5000.1) == [None]
    del cached["registries"]["/service/web seed"]["at"]
    assert from_cache(HOSTS, [REGISTRY], cached, since=9000.0) == [ANSWER._replace(at=0.0)]
