"""`playbooks/config.yml` with real agents: each test is something that a person does with a configuration."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.many_hosts import run_on_hosts
from support.playbook import ROOT, Run, run_playbook

CONFIG = ROOT / "playbooks" / "config.yml"
HIDDEN = "the-hidden-word"
BY_NAME = {"scheme": "digest", "id": "bob", "password": HIDDEN, "perms": ["all"]}


class Shop:
    """A configuration in a directory, and the path where it is published."""

    def __init__(self, hosts: str, app: str, directory: Path) -> None:
        self.hosts = hosts
        self.app = app
        self.path = f"{app}-config/shop"
        self.directory = directory
        self.write("colour", "green\n")
        self.write("db/host", "db1\nsecond\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def play(
        self, *words: str, playbook: Path = CONFIG, source: bool = True, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the playbook with these extra variables, named without `zoo_`, and those that never change."""
        return run_playbook(playbook, "-e", json.dumps(self.variables(source=source, **variables)), *words)

    def variables(self, *, source: bool = True, **variables: Any) -> dict[str, Any]:
        """The playbook's variables: these, named without `zoo_`, and those that never change."""
        common = {"hosts": self.hosts, "app": self.app, "config_path": self.path, "wait_timeout": 60}
        directory = {"config_from": str(self.directory)} if source else {}
        return {f"zoo_{name}": value for name, value in {**common, **directory, **variables}.items()}

    def publish(self, *words: str, **variables: Any) -> str:
        """Run the playbook, which has to succeed, and return its output."""
        done = self.play(*words, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def shop(ensemble: Ensemble, app: str, tmp_path: Path) -> Shop:
    """The configuration, and where to publish it."""
    return Shop(ensemble.hosts, app, tmp_path / "shop")


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The directory where agents keep their files."""
    path = tmp_path / "etc"
    path.mkdir()
    return path


@pytest.fixture
def fleet(agents: Callable[..., Agent], shop: Shop, etc: Path) -> list[Agent]:
    """Two live agents: `server1` has the colour as a file, `server2` the entire configuration as a directory."""
    colour = {"znode": f"{shop.path}/colour", "dest": str(etc / "colour"), "on_delete": "remove"}
    whole = {"znode": shop.path, "dest": str(etc / "shop"), "format": "directory", "on_delete": "remove"}
    made = [agents("server1", files=[colour]), agents("server2", files=[whole])]
    return [agent.start().wait_live() for agent in made]


def files(directory: Path) -> dict[str, str]:
    """The contents of the files in a directory, by their paths."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_text() for path in found}


def changes(output: str) -> int:
    """The number of tasks that have changed something."""
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def transactions(client: KazooClient, *paths: str) -> set[int]:
    """The transactions that last set these znodes."""
    return {client.exists(path).mzxid for path in paths}


@pytest.mark.usefixtures("fleet")
def test_a_directory_is_published_once_with_its_diff_and_proved_by_every_server(
    shop: Shop, etc: Path, zk: KazooClient
) -> None:
    foretold = shop.publish("--check", "--diff")
    assert zk.exists(shop.path) is None
    said = shop.publish("--diff", min_agents=2)
    assert files(etc) == {"colour": "green\n", "shop/colour": "green\n", "shop/db/host": "db1\nsecond\n"}
    for printed in (foretold, said):
        assert changes(printed) == 1
        assert re.search(r'\+ +"value": "green\\n"', printed), printed
        assert re.search(r'\+ +"second\\n"', printed), "a text of several lines is shown by lines"
    assert re.search(rf"server1 +current +{etc}/colour", said), said
    assert re.search(rf"server2 +current +{etc}/shop", said), said
    assert "2 of 2 servers have it" in said
    assert len(transactions(zk, shop.path, f"{shop.path}/colour", f"{shop.path}/db/host")) == 1
    again = shop.publish("--diff", min_agents=2)
    assert changes(again) == 0
    assert "2 of 2 servers have it" in again
    assert "+++" not in again


def test_publishing_what_anybody_may_change_is_warned_of_once_unless_requested(shop: Shop) -> None:
    told = []
    asked: dict[str, Any] = {"config_acl": [{"scheme": "world", "perms": ["all"]}]}
    for given in ({}, asked):
        done = shop.play("--check", **given)
        told.append(" ".join((done.stdout + done.stderr).split()).count("reaches the ensemble can change"))
    assert told == [1, 0]


@pytest.mark.usefixtures("fleet")
def test_changes_are_written_and_missing_files_are_pruned_only_where_requested(
    shop: Shop, etc: Path, zk: KazooClient
) -> None:
    shop.publish(min_agents=2)
    shop.write("db/host", "db2\nsecond\n")
    (shop.directory / "colour").unlink()
    said = shop.publish("--diff", min_agents=1)
    assert files(etc) == {"colour": "green\n", "shop/colour": "green\n", "shop/db/host": "db2\nsecond\n"}
    assert re.findall(r'([+-]) +"(db\d)\\n"', said) == [("-", "db1"), ("+", "db2")]
    assert "server1" not in said, "its file has nothing to do with it"
    before = zk.exists(f"{shop.path}/db/host").mzxid
    shop.write("db/host", "db3\n")
    shop.publish("--check", prune=True)
    assert zk.exists(f"{shop.path}/colour")
    # By the collection's name, as the playbook is called where the collection is installed.
    said = shop.publish("--diff", playbook=Path("zoo.deploy.config"), prune="true", min_agents=2)
    assert files(etc) == {"shop/db/host": "db3\n"}
    assert re.search(rf"server1 +missing +{etc}/colour", said), said
    gone, written = zk.exists(shop.path).pzxid, zk.exists(f"{shop.path}/db/host").mzxid
    assert gone == written > before, "it is one transaction"
    assert changes(shop.publish(prune=True)) == 0


def test_variables_are_published_and_a_server_that_joins_later_has_them_too(
    shop: Shop, agents: Callable[..., Agent], etc: Path, zk: KazooClient
) -> None:
    values = {"limits": {"orders": 100, "kinds": ["a", "b"]}, "empty": None, "note": "{{ 'tem' ~ 'plate' }}"}
    values["was"] = "a value"
    said = shop.publish(source=False, config_values=values, min_agents=0)
    assert "0 of 0 servers have it" in said
    found = {name: zk.get(f"{shop.path}/{name}")[0] for name in ("limits", "limits/orders", "empty", "note")}
    assert found == {"limits": b"", "limits/orders": b"100", "empty": b"", "note": b"template"}
    assert json.loads(zk.get(f"{shop.path}/limits/kinds")[0]) == ["a", "b"]
    agents(files=[{"znode": f"{shop.path}/limits/orders", "dest": str(etc / "orders")}]).start()
    again = shop.publish(source=False, config_values=values)
    assert changes(again) == 0
    assert files(etc) == {"orders": "100"}
    values.update(note={"text": "another"}, was={})
    shop.publish(source=False, config_values=values, prune=True)
    assert zk.get(f"{shop.path}/was")[0] == b""
    assert (zk.get(f"{shop.path}/note")[0], zk.get(f"{shop.path}/note/text")[0]) == (b"", b"another")
    assert changes(shop.publish(source=False, config_values=values, prune=True)) == 0


def test_a_server_whose_validation_fails_is_shown_with_its_reason(
    shop: Shop, agents: Callable[..., Agent], etc: Path
) -> None:
    never = {"dest": str(etc / "colour"), "validate": ["sh", "-c", "echo no such colour; exit 4", "%s"]}
    agents(files=[{"znode": f"{shop.path}/colour", **never}]).start().wait_live()
    done = shop.play()
    assert done.returncode != 0
    assert f"not in place on 1 of 1: {etc}/colour on server1 is failed" in done.stdout
    assert re.search(rf"server1 +failed +{etc}/colour: .*no such colour", done.stdout), done.stdout
    assert "0 of 1 servers have it" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.usefixtures("fleet")
def test_secret_values_are_in_no_output_and_in_no_log(
    shop: Shop, etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ansible.log"
    shop.write("colour", HIDDEN)
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    said = [
        shop.play("-vvv", "--diff", secret=True, min_agents=2, prune=True),
        shop.play("-vvv", "--diff", secret=True, wait_timeout=0.1, min_agents=3),
    ]
    assert files(etc)["colour"] == HIDDEN
    assert [done.returncode for done in said] == [0, 2]
    assert "timed out waiting for agents with a file from there: 2 live, at least 3 required" in said[1].stdout
    for printed in (log.read_text(), *(done.stdout + done.stderr for done in said)):
        assert HIDDEN not in printed
        assert "server2" in printed


def test_more_than_a_transaction_holds_is_refused_before_anything_is_written(shop: Shop, zk: KazooClient) -> None:
    for number in range(3):
        shop.write(f"big{number}", "x" * 348_000)
    for words in ((), ("--check",)):
        done = shop.play(*words, min_agents=0)
        assert done.returncode != 0
        assert "one transaction holds 1040000" in done.stdout, done.stdout
    shop.write("big3", "x" * 348_000)
    done = shop.play(min_agents=0)
    assert "over the 1 MB of one transaction; publish its directories each below a path of its own" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert zk.exists(shop.path) is None


def test_a_file_of_ansible_vault_is_published_decrypted_and_shown_nowhere(
    shop: Shop, zk: KazooClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ansible.log"
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    shop.write("colour", HIDDEN)
    zk.create(f"{shop.path}/former", HIDDEN.encode(), makepath=True)
    password = tmp_path / "password"
    password.write_text("open sesame")
    vault = Path(sys.executable).with_name("ansible-vault")
    command = [str(vault), "encrypt", "--vault-password-file", str(password), str(shop.directory / "colour")]
    subprocess.run(command, check=True, capture_output=True)
    done = shop.play(min_agents=0)
    assert done.returncode != 0
    assert "vault password" in done.stdout
    assert zk.exists(f"{shop.path}/colour") is None
    said = shop.publish("--vault-password-file", str(password), "-vvv", "--diff", min_agents=0, prune=True)
    assert zk.get(f"{shop.path}/colour")[0] == HIDDEN.encode()
    assert zk.exists(f"{shop.path}/former") is None
    for printed in (said, log.read_text()):
        assert HIDDEN not in printed
        assert base64.b64encode(HIDDEN.encode()).decode() not in printed
        assert re.search(r'"value": "\(secret\)"', printed)
        assert "db1" in printed, "what is not secret is shown"


def test_a_value_of_ansible_vault_is_published_decrypted_and_shown_nowhere(
    shop: Shop, zk: KazooClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ansible.log"
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    password = tmp_path / "password"
    password.write_text("open sesame")
    vault = str(Path(sys.executable).with_name("ansible-vault"))
    command = [vault, "encrypt_string", "--vault-password-file", str(password), HIDDEN]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    text = done.stdout[done.stdout.index("!vault") :]
    variables = tmp_path / "values.yml"
    listed = "[first, '{{ word }}']"
    pairs = "\"{{ ['first'] | zip([word]) | list }}\""  # of tuples
    values = f"colour: green\n  db:\n    password: {text}\n  list: {listed}\n  pairs: {pairs}"
    variables.write_text(f"zoo_config_values:\n  {values}\nword: {text}\n")
    words = ("--vault-password-file", str(password), "-e", f"@{variables}")
    said = shop.publish(*words, "-vvv", "--diff", source=False, min_agents=0)
    assert zk.get(f"{shop.path}/db/password")[0] == HIDDEN.encode()
    assert json.loads(zk.get(f"{shop.path}/list")[0]) == ["first", HIDDEN]
    assert json.loads(zk.get(f"{shop.path}/pairs")[0]) == [["first", HIDDEN]]
    assert changes(shop.publish(*words, source=False, min_agents=0)) == 0
    for printed in (said, log.read_text()):
        assert HIDDEN not in printed
        assert re.search(r'"value": "\(secret\)"', printed)
        assert "green" in printed, "what is not secret is shown"


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {},
        "expected zoo_config_path, as in -e zoo_config_path=/config/shop, and one of zoo_config_from (a directory)",
    ),
    ({"config_from": "/x", "config_values": {}}, "and one of zoo_config_from (a directory) and zoo_config_values"),
    ({"config_from": "/no/where"}, "zoo_config_from: /no/where is not a directory here"),
    ({"config_values": "a=b"}, "zoo_config_values: expected a dictionary; on the command line, name a file"),
    ({"config_values": {}}, "there is nothing in it to publish"),
    ({"config_values": {"a/b": 1}}, "can't name a znode"),
    ({"config_values": {"a": 1}, "config_path": "config"}, "path: expected one that begins with /"),
    ({"config_values": {"a": 1}, "config_path": "/app"}, "path: /app is above /"),
    ({"config_values": {"a": 1}, "config_path": "/"}, "expected a znode below the root, such as /config/shop"),
    ({"config_values": {"a": 1}, "min_agents": "many"}, "min_agents: expected a whole number of agents"),
    ({"config_values": {"a": HIDDEN}, "secret": "ture"}, 'zoo_secret (got "ture")'),
    ({"config_values": {"a": HIDDEN}, "secret": ""}, 'zoo_secret (got "")'),
    ({"config_values": {"a": 1}, "prune": "ture"}, 'zoo_prune (got "ture")'),
    ({"config_from": None}, "zoo_config_from: nothing is not a directory here"),
    ({"config_values": {"a": 1}, "config_acl": BY_NAME}, "zoo_config_acl: expected a list of dictionaries"),
    ({"config_values": {"a": 1}, "config_acl": [HIDDEN]}, "zoo_config_acl: expected a list of dictionaries"),
    ({"config_values": {"a": 1}, "config_acl": 5}, "zoo_config_acl: expected a list of dictionaries"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, ensemble: Ensemble) -> dict[str, Run]:
    """The results of the playbook on hosts with the variables of one of `REFUSED` each, all in one run."""
    root = tmp_path_factory.mktemp("refused")
    for name in ("tasks", "templates"):
        (root / name).symlink_to(CONFIG.parent / name)
    hosts = {}
    for number, (variables, _words) in enumerate(REFUSED):
        shop = Shop(ensemble.hosts, f"/app/refused-{number}", root / f"shop{number}")
        hosts[f"h{number}"] = shop.variables(source=False, **{"min_agents": 0, **variables})
    (play,) = yaml.safe_load(CONFIG.read_text())
    return run_on_hosts(root, {**play, "hosts": "all", "diff": True}, hosts, hidden=HIDDEN)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[words for _variables, words in REFUSED])
def test_what_cannot_be_published_is_refused_in_one_line(refused: dict[str, Run], zk: KazooClient, number: int) -> None:
    run = refused[f"h{number}"]
    assert (run.failed, run.changed) == (1, 0)
    assert zk.exists(f"/app/refused-{number}-config/shop/a") is None
    assert REFUSED[number][1] in run.output.replace('\\"', '"')
