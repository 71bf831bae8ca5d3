"""An agent's status file and its metrics on its own host."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from support.agent import Agent


def shown(agent: Agent) -> dict[str, Any]:
    """The content of the status file; empty while there is none."""
    path = agent.base / ".zoo" / "status.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def exposition(port: int) -> str:
    """The text that an agent serves to Prometheus."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def scraped(port: int) -> dict[str, float]:
    """The samples that an agent serves, by name and labels."""
    lines = exposition(port).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
