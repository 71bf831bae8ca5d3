"""The events of readings, in orders that a real ensemble produces only now and then."""

from __future__ import annotations

from typing import Any

from kazoo.protocol.states import ZnodeStat

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Registry
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.service_watch import ServiceWatch
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import Observation, Watch
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watches import SubtreeWatch

H1 = b'{"host": "h1", "port": 80}'
H1_LARGER = b'{"host": "h1", "port": 80, "weight": 2}'


def znode(created: int, *names: str, data: bytes = b"", modified: int = 0) -> Observation:
    """A znode that transaction `created` created, with children of these names."""
    stat = ZnodeStat(created, modified or created, 0, 0, 0, 0, 0, 0, len(data), len(names), created)
    return Observation(stat, data, set(names))


def changes(watch: Watch, *readings: tuple[str, Observation | None]) -> list[tuple[str, str]]:
    """The change and path of each event that these readings cause, one after the other, and of those held back."""
    events: list[dict[str, Any]] = [event for reading in readings for event in watch.update(*reading)]
    events += watch.overdue()
    watch.synced = True
    return [(event["zk"]["change"], event["zk"]["path"]) for event in events]


def subtree() -> SubtreeWatch:
    """A watch on /t that has read /t/a."""
    watch = SubtreeWatch("/t", initial=False, warn=print)
    assert changes(watch, ("/t", znode(1, "a")), ("/t/a", znode(2))) == []
    return watch


def service(settle: float = 0) -> ServiceWatch:
    """A watch on the registry /s that has read the entry m_1 of h1."""
    watch = ServiceWatch(Registry("/s", "nerve"), settle, initial=False, warn=print)
    assert changes(watch, ("/s", znode(1, "m_1")), ("/s/m_1", znode(2, data=H1))) == []
    return watch


def test_a_child_that_is_read_before_its_new_parent_is_sent_once() -> None:
    watch = subtree()
    assert changes(watch, ("/t/a", znode(9))) == [("deleted", "/t/a"), ("created", "/t/a")]
    assert changes(watch, ("/t", znode(8, "a"))) == [("deleted", "/t"), ("created", "/t")]
    assert changes(watch, ("/t/a", znode(9))) == []


def test_a_child_of_a_deleted_parent_is_deleted_before_it() -> None:
    assert changes(subtree(), ("/t", None)) == [("deleted", "/t/a"), ("deleted", "/t")]


def test_a_deleted_child_is_read_again_when_its_parent_names_it_again() -> None:
    watch = subtree()
    watch.unread.clear()
    assert changes(watch, ("/t/a", None)) == [("deleted", "/t/a")]
    assert changes(watch, ("/t", znode(1, "a"))) == []
    assert list(watch.unread) == ["/t/a"]
    assert changes(watch, ("/t/a", znode(7))) == [("created", "/t/a")]


def test_a_reading_of_what_is_no_longer_of_interest_sends_nothing() -> None:
    watch = subtree()
    assert changes(watch, ("/t", znode(1))) == [("deleted", "/t/a")]
    assert changes(watch, ("/t/a", znode(2))) == []
    assert watch.interest("/t/a") is None


def test_a_service_whose_new_entry_is_read_after_its_old_one_is_deleted_has_not_left() -> None:
    assert changes(service(), ("/s", znode(1, "m_2")), ("/s/m_2", znode(5, data=H1))) == []


def test_a_service_whose_entry_was_recreated_has_left_and_joined() -> None:
    assert changes(service(), ("/s/m_1", znode(5, data=H1))) == [("left", "/s/m_1"), ("joined", "/s/m_1")]


def test_a_service_whose_entry_was_recreated_has_not_left_if_it_may_settle() -> None:
    assert changes(service(60), ("/s/m_1", znode(5, data=H1))) == []


def test_a_service_with_other_data_when_it_returns_has_changed() -> None:
    other = b'{"host": "h1", "port": 80, "weight": 2}'
    assert changes(service(60), ("/s/m_1", znode(5, data=other))) == [("changed", "/s/m_1")]


def test_an_entry_that_moves_to_another_address_is_another_service() -> None:
    moved = znode(2, data=b'{"host": "h2", "port": 80}', modified=5)
    assert changes(service(), ("/s/m_1", moved)) == [("joined", "/s/m_1"), ("left", "/s/m_1")]


def test_an_entry_that_is_rewritten_with_the_same_data_sends_nothing() -> None:
    assert changes(service(), ("/s/m_1", znode(2, data=H1, modified=5))) == []


def test_a_service_that_registers_again_with_other_data_before_its_old_entry_is_deleted_is_changed() -> None:
    watch = service()
    assert changes(watch, ("/s", znode(1, "m_1", "m_2")), ("/s/m_2", znode(3, data=H1_LARGER))) == [
        ("changed", "/s/m_2")
    ]
    assert changes(watch, ("/s", znode(1, "m_2"))) == []


def test_a_service_whose_newer_entry_is_deleted_has_the_data_of_the_other_one() -> None:
    watch = service()
    changes(watch, ("/s", znode(1, "m_1", "m_2")), ("/s/m_2", znode(3, data=H1_LARGER)))
    assert changes(watch, ("/s", znode(1, "m_1"))) == [("changed", "/s/m_1")]


def test_a_second_entry_of_a_service_with_the_same_data_is_no_event() -> None:
    watch = service()
    assert changes(watch, ("/s", znode(1, "m_1", "m_2")), ("/s/m_2", znode(3, data=H1))) == []
    assert changes(watch, ("/s", znode(1, "m_1"))) == []


def test_a_change_of_an_older_entry_of_a_service_sends_nothing() -> None:
    watch = service()
    changes(watch, ("/s", znode(1, "m_1", "m_2")), ("/s/m_2", znode(3, data=H1_LARGER)))
    assert changes(watch, ("/s/m_1", znode(2, data=H1_LARGER, modified=4))) == []


def test_a_role_that_is_a_template_is_null() -> None:
    """A member of Patroni may write anything about itself."""
    watch = ServiceWatch(Registry("/s", "patroni"), 0, initial=True, warn=print)
    data = b'{"conn_url": "postgres://h1:5432/", "role": "{{ lookup(\'pipe\', \'id\') }}"}'
    events = [*watch.update("/s", znode(1, "m")), *watch.update("/s/m", znode(2, data=data))]
    assert [event["zk"]["role"] for event in events] == [None]


def test_two_entries_of_a_service_at_the_beginning_are_not_a_change() -> None:
    watch = ServiceWatch(Registry("/s", "nerve"), 0, initial=False, warn=print)
    both = ("/s/m_1", znode(2, data=H1)), ("/s/m_2", znode(3, data=H1_LARGER))
    assert changes(watch, ("/s", znode(1, "m_1", "m_2")), *both) == []
    assert changes(watch, ("/s", znode(1, "m_2"))) == []
