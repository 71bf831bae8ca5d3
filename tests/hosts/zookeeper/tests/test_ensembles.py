"""Two ensembles that the role has set up, and what it does to them later. Each step runs once, for several tests."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from hosts.zookeeper.member import SECRET, Ensemble, Member
from hosts.zookeeper.run import Run, apply
from hosts.zookeeper.writer import Account, writing
from support.client import connected
from support.waiting import wait_for


def by_start(ensemble: Ensemble) -> list[str]:
    """The names of the hosts, in the order in which their services were started."""
    return [member.host.name for member in sorted(ensemble.members, key=lambda member: member.started)]


def starts(ensemble: Ensemble) -> dict[str, float]:
    """When each service was started."""
    return {member.host.name: member.started for member in ensemble.members}


def leader(ensemble: Ensemble) -> str:
    """The name of the leader's host, once the ensemble is whole."""
    modes = wait_for(lambda: (told := ensemble.status())["whole"] and told["modes"], "the ensemble is whole")
    return next(str(name) for name, mode in modes.items() if mode == "leader")


def test_each_ensemble_is_whole_and_of_the_distributions_version(old: Ensemble, new: Ensemble) -> None:
    told = [ensemble.status() for ensemble in (old, new)]
    assert [one["problem"] for one in told] == ["", ""]
    assert [one["versions"] for one in told] == [{"3.8.0"}, {"3.9.3"}]


def test_an_id_is_the_place_in_the_group_or_the_one_that_is_given(old: Ensemble, new: Ensemble) -> None:
    members = old.members + new.members
    ids = [member.run("cat", "/var/lib/zookeeper/data/myid") for member in members]
    assert ids == ["1", "2", "3", "1", "2", "33"]


def test_the_service_starts_at_boot_and_is_sandboxed(old: Ensemble, new: Ensemble) -> None:
    for member in (old.members[0], new.members[0]):
        assert member.run("systemctl", "is-enabled", "zookeeper") == "enabled"
        exposure = member.run("systemd-analyze", "security", "--no-pager", "zookeeper").splitlines()[-1]
        assert float(exposure.split()[-3]) < 2, exposure


def test_no_word_but_srvr_is_answered_and_there_is_no_admin_server(old: Ensemble) -> None:
    address = old.members[0].host.address
    with socket.create_connection((address, 2181), timeout=5) as connection:
        connection.sendall(b"conf")
        assert connection.recv(100).startswith(b"conf is not executed because it is not in the whitelist")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 8080), timeout=5)


def test_the_archive_is_what_runs_if_one_is_given(new: Ensemble) -> None:
    lines = [member.run("pgrep", "--full", "--list-full", "QuorumPeerMain") for member in new.members]
    assert ["/opt/zookeeper/apache-zookeeper-3.9.3-bin/lib/*" in line for line in lines] == [False, False, True]


def is_served(hosts: str, options: dict[str, Any]) -> bool:
    """Whether a client with these options can read."""
    client = KazooClient(hosts, **options)
    try:
        client.start(timeout=5)
        return bool(client.get_children("/"))
    except (KazooException, KazooTimeoutError):
        return False
    finally:
        client.stop()
        client.close()


def test_nobody_is_served_without_a_certificate_or_without_a_password(new: Ensemble) -> None:
    whole = new.client_options
    assert is_served(new.hosts, whole)
    for lacking in ({"certfile", "keyfile"}, {"sasl_options"}, {"use_ssl"}):
        assert not is_served(new.hosts, {name: value for name, value in whole.items() if name not in lacking}), lacking


def test_the_password_is_in_one_file_that_the_service_alone_reads(new: Ensemble) -> None:
    member = new.members[0]
    assert member.run("stat", "--format=%U %a", "/etc/zookeeper/jaas.conf") == "zookeeper 600"
    assert member.run("grep", "-rl", SECRET, "/etc", "/run", "/opt", "/var") == "/etc/zookeeper/jaas.conf"
    assert SECRET not in member.run("ps", "axww")


@pytest.fixture(scope="module")
def checked() -> Run:
    """A run in check mode on what has just been set up, where the role had the most to do."""
    return apply("--limit", "new", "--check", "--diff", "-vvv")


def test_check_mode_on_hosts_that_are_as_they_should_be_announces_nothing(checked: Run) -> None:
    assert (checked.status, checked.changed) == (0, {}), checked.output


def test_the_password_is_not_in_the_output_of_a_run(checked: Run) -> None:
    assert SECRET not in checked.output


@dataclass(frozen=True)
class Rolled:
    """A changed setting on both ensembles: the previous leaders and start times, and what a client saw."""

    run: Run
    led: dict[str, str]
    before: dict[str, float]
    accounts: dict[str, Account]


@pytest.fixture(scope="module")
def rolled(checked: Run, old: Ensemble, new: Ensemble) -> Rolled:
    """Change a setting while a client writes to each."""
    assert checked.status == 0
    led = {"old": leader(old), "new": leader(new)}
    before = {**starts(old), **starts(new)}
    with writing(old, "/rolled") as of_old, writing(new, "/rolled") as of_new:
        run = apply(zookeeper_sync_limit=6)
    assert run.status == 0, run.output
    return Rolled(run, led, before, {"old": of_old, "new": of_new})


def test_a_changed_setting_restarts_every_member_once_and_the_leader_last(
    rolled: Rolled, old: Ensemble, new: Ensemble
) -> None:
    for name, ensemble in (("old", old), ("new", new)):
        assert all(at > rolled.before[host] for host, at in starts(ensemble).items()), rolled.run.output
        assert by_start(ensemble)[-1] == rolled.led[name]
        assert rolled.run.output.count("changed: [") == 2 * 6
        assert ensemble.members[0].run("grep", "syncLimit", "/etc/zookeeper/zoo.cfg") == "syncLimit=6"


def test_no_acknowledged_write_is_lost_and_two_members_are_never_down(rolled: Rolled) -> None:
    for account in rolled.accounts.values():
        assert len(account.acknowledged) > 50
        assert account.lost == set()
        assert account.fewest_up == 2
        # An election, on a busy machine; the session timeout is 10 s.
        assert account.longest_gap < 10


@pytest.fixture(scope="module")
def refused(rolled: Rolled, old: Ensemble) -> tuple[Run, dict[str, float]]:
    """Change a setting while a member is dead; the run, and the previous start times of the others."""
    assert rolled.run.status == 0
    old.members[1].host.crash()
    others = Ensemble([old.members[0], old.members[2]])
    wait_for(lambda: "leader" in others.status()["modes"].values(), "the others have a leader")
    before = starts(others)
    return apply("--limit", "old1,old3", zookeeper_sync_limit=7, zookeeper_wait_timeout=3), before


def test_nothing_is_restarted_while_a_member_is_dead(refused: tuple[Run, dict[str, float]], old: Ensemble) -> None:
    run, before = refused
    assert run.status != 0
    assert f"the ensemble is not whole: {old.members[1].address}: no answer" in run.output
    assert starts(Ensemble([old.members[0], old.members[2]])) == before


@pytest.fixture(scope="module")
def renewed(refused: tuple[Run, dict[str, float]], replaced: Ensemble, replacement: Path) -> tuple[Run, Account]:
    """Let a new host replace the dead member, while a client writes to the others."""
    assert refused[0].status != 0
    others = Ensemble([replaced.members[0], replaced.members[2]])
    with writing(others, "/renewed") as account:
        run = apply(
            "-i", str(replacement), zoo_target="replaced", zookeeper_ensemble="replaced", zookeeper_sync_limit=7
        )
    return run, account


def test_a_new_host_takes_a_dead_members_place_and_its_data(
    renewed: tuple[Run, Account], rolled: Rolled, replaced: Ensemble
) -> None:
    run, account = renewed
    assert run.status == 0, run.output
    assert replaced.status()["problem"] == ""
    newcomer: Member = replaced.members[1]
    assert newcomer.run("cat", "/var/lib/zookeeper/data/myid") == "2"
    assert account.lost == set()
    with connected(newcomer.address) as client:
        assert set(client.get_children("/rolled")) >= set(rolled.accounts["old"].acknowledged)
        assert set(client.get_children("/renewed")) >= set(account.acknowledged)


def test_a_refused_restart_is_done_in_the_next_run(
    renewed: tuple[Run, Account], refused: tuple[Run, dict[str, float]], replaced: Ensemble
) -> None:
    assert renewed[0].status == 0
    assert all(replaced_at > refused[1].get(host, 0) for host, replaced_at in starts(replaced).items())
