"""Concurrent writers with zk_znode: their tasks report exactly the changes that happened, in one order."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any, NamedTuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import desired_znodes
from ansible_collections.zoo.deploy.plugins.modules import zk_znode
from support.client import connected
from support.ensemble import Ensemble

NAMES = ("a", "b")
Task = dict[str, str]
"""The values that a task writes in one transaction, by the names of their znodes."""


class Change(NamedTuple):
    """A change as a task reports it; a value is None if there is no znode."""

    zxid: int
    before: str | None
    after: str | None


def run(client: KazooClient, root: str, task: Task) -> dict[str, Change]:
    """Run a task, and return the changes that it reports, by name. It must report the values that it was to write."""
    given_znodes = [{"path": f"{root}/{name}", "value": value} for name, value in task.items()]
    checked = ArgumentSpecValidator(zk_znode.argument_spec()).validate({"hosts": "unused", "znodes": given_znodes})
    options = checked.validated_parameters
    refused = None
    try:
        results = znodes.converge(client, desired_znodes(options), check=False, timeout=10)
    except ZooKeeperError as exc:
        refused = exc
    if refused:
        assert "another client changed it first" in str(refused)
        assert not refused.details["changed"]
        return {}
    assert [result["value"] for result in results] == list(task.values())
    return {
        name: Change(result["zxid"], *(result["diff"][side].get("value") for side in ("before", "after")))
        for name, result in zip(task, results)
        if result["changed"]
    }


tasks = st.lists(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y", "z"]), min_size=1), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(tasks, tasks))
def test_no_change_is_lost_and_each_begins_where_the_previous_one_ended(
    zk: KazooClient, other: KazooClient, app: str, both: tuple[list[Task], list[Task]]
) -> None:
    root = f"{app}-{uuid.uuid4().hex[:8]}"
    zk.ensure_path(root)
    said: list[dict[str, Change]] = []
    failures: list[BaseException] = []

    def work(client: KazooClient, its: list[Task]) -> None:
        try:
            said.extend(run(client, root, task) for task in its)
        except BaseException as exc:  # noqa: BLE001 - a thread's errors are raised below
            failures.append(exc)

    threads = [threading.Thread(target=work, args=pair) for pair in zip((zk, other), both)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    zk.sync(root)  # the other client's server may be ahead
    for name in NAMES:
        changes = sorted(change[name] for change in said if name in change)
        assert [change.before for change in changes] == [None, *(change.after for change in changes)][: len(changes)]
        stat: Any = zk.exists(f"{root}/{name}")
        assert (stat.version + 1 if stat else 0) == len(changes)
        if changes:
            assert zk.get(f"{root}/{name}")[0].decode() == changes[-1].after


WRITERS = 12
KEYS = 5


def test_no_key_is_lost_where_many_merge_into_one_znode(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    """Each writer has keys of its own, and sets one after the other."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        with connected(ensemble.hosts) as client:
            try:
                for key in range(KEYS):
                    merge(client, app, {f"writer{number}": {f"key{key}": key}})
            except BaseException as exc:  # noqa: BLE001 - a thread's errors are raised below
                failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    data, stat = zk.get(app)
    assert json.loads(data) == {
        f"writer{number}": {f"key{key}": key for key in range(KEYS)} for number in range(WRITERS)
    }
    assert stat.version + 1 == WRITERS * KEYS


def merge(client: KazooClient, path: str, value: dict[str, Any]) -> None:
    """Merge a mapping into a znode's value."""
    task = {"hosts": "unused", "path": path, "merge": True, "value": value}
    options = ArgumentSpecValidator(zk_znode.argument_spec()).validate(task).validated_parameters
    znodes.converge(client, desired_znodes(options), check=False, timeout=10)
