"""A real Prometheus with given scrapes, which can be queried."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from support.monitoring import ALERTS
from support.ports import free_ports
from support.waiting import wait_for

OFTEN = "250ms"
"""The interval of scrapes and of the evaluation of rules."""


ServerType = TypeVar("ServerType", bound="Prometheus")


class Prometheus:
    """A server with its data below `root`, configured with the documented `scrapes` and the alert rules."""

    def __init__(self, root: Path, *scrapes: dict[str, Any]) -> None:
        (self.port,) = free_ports(1)
        self._root = root
        self._scrapes = [{**scrape, "scrape_interval": OFTEN, "scrape_timeout": OFTEN} for scrape in scrapes]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self: ServerType) -> ServerType:
        """Start it, and wait until it answers."""
        self._root.mkdir()
        config = self._root / "prometheus.yml"
        content = {
            "global": {"evaluation_interval": OFTEN},
            "rule_files": [str(ALERTS)],
            "scrape_configs": self._scrapes,
        }
        config.write_text(yaml.safe_dump(content))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self._root / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(self._is_ready, "Prometheus is ready")
        except AssertionError as exc:
            self._end()
            raise AssertionError(f"{exc}\n{(self._root / 'log').read_text()}") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The current result of an expression. Raises AssertionError if Prometheus does not accept it."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            return list(self._get(f"query?{query}")["result"])
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{expression}: {exc.read().decode()}") from exc

    def targets(self) -> list[dict[str, Any]]:
        """Its active targets, each with `discoveredLabels`, `labels` and `health`."""
        return list(self._get("targets?state=active")["activeTargets"])

    def _get(self, what: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", timeout=5) as answer:
            return dict(json.load(answer)["data"])
