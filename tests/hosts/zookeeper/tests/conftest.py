"""The scenario's ensembles."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hosts.lab.lab import Lab
from hosts.zookeeper.member import Ensemble, Member


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab of molecule's hosts."""
    return Lab(os.environ.get("LAB", "molecule"))


@pytest.fixture(scope="session")
def old(lab: Lab) -> Ensemble:
    """The ensemble of ZooKeeper 3.8."""
    return Ensemble([Member(host) for host in lab.named(["old1", "old2", "old3"])])


@pytest.fixture(scope="session")
def new(lab: Lab) -> Ensemble:
    """The ensemble of ZooKeeper 3.9, with TLS and SASL; new3 is installed from an archive."""
    return Ensemble([Member(host) for host in lab.named(["new1", "new2", "new3"])])


@pytest.fixture(scope="session")
def replaced(lab: Lab) -> Ensemble:
    """The ensemble of ZooKeeper 3.8 after old4 has replaced old2."""
    return Ensemble([Member(host) for host in lab.named(["old1", "old4", "old3"])])


@pytest.fixture(scope="session")
def replacement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory with a group `replaced`, in which old4 takes the place of old2."""
    inventory = tmp_path_factory.mktemp("inventory") / "replaced.json"
    inventory.write_text(json.dumps({"replaced": {"hosts": {"old1": {}, "old4": {}, "old3": {}}}}))
    return inventory
