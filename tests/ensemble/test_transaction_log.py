"""The transaction log of a member of the ensemble, as tests of rollouts read it."""

from __future__ import annotations

from kazoo.client import KazooClient

from support.client import connected
from support.ensemble import Ensemble
from support.transaction_log import read_changes


def test_every_change_of_a_znode_is_read_in_its_order(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    zk.create(f"{app}/x", b"1", makepath=True)
    zk.set(f"{app}/x", b"2")
    zk.set(f"{app}/x", b"")
    transaction = zk.transaction()
    transaction.check(f"{app}/x", 2)
    transaction.create(f"{app}/y-", b"3", sequence=True)
    transaction.set_data(f"{app}/x", b"4")
    transaction.delete(f"{app}/x")
    assert transaction.commit()[1] == f"{app}/y-0000000001"
    with connected(ensemble.hosts) as client:
        client.create(f"{app}/z", b"5", ephemeral=True)
    changes = read_changes(ensemble.leader.directory / "data", app)
    assert [(change.path.removeprefix(f"{app}/"), change.data) for change in changes] == [
        ("x", b"1"), ("x", b"2"), ("x", b""), ("y-0000000001", b"3"), ("x", b"4"), ("x", None), ("z", b"5"), ("z", None)
    ]  # fmt: skip
    assert sorted(change.zxid for change in changes) == [change.zxid for change in changes]
    assert len({change.zxid for change in changes}) == 6
