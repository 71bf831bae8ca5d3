"""Curator's own ServiceDiscovery, from the distribution's jars, as a service written in Java uses it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ensemble import JVM

PROGRAM = Path(__file__).parent / "CuratorDiscovery.java"
JARS = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in (
        *("curator-x-discovery", "curator-framework", "curator-client", "zookeeper", "guava"),
        *("jackson-annotations", "jackson-core", "jackson-databind", "slf4j-simple"),
    )
)


def lacking() -> str:
    """Why the program cannot run here, in one line; empty if it can."""
    missing = [jar for jar in JARS.split(":") if not Path(jar).exists()]
    return "needs a JDK and Debian's libcurator-discovery-java" if missing or not shutil.which("javac") else ""


@contextmanager
def curator_instance(hosts: str, path: str, name: str, identity: str, address: str, port: int) -> Iterator[list[str]]:
    """Register an instance while the block lasts; yields lines about the instances that Curator finds below `path`."""
    command = ["java", *JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", JARS, str(PROGRAM)]
    words = [hosts, path, name, identity, address, str(port)]
    with subprocess.Popen([*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield list(itertools.takewhile(lambda line: line != "\n", process.stdout))
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
