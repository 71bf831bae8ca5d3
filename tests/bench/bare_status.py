"""The least that shows a fleet: `python bare_status.py PORT APP TEMPLATE MOST`, a bare socket and one template.

The table has at most MOST agents.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jinja2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.raw_client import RawClient

port, app, template, most = sys.argv[1:]
client = RawClient("127.0.0.1", int(port))
((release, _stat),) = client.read([f"{app}/config"])
statuses = client.read([f"{app}/agents/{name}" for name in client.children(f"{app}/agents")])
names = client.children(f"{app}/roster")
client.close()
found = [json.loads(status) for status, _stat in statuses]
made = jinja2.Environment(autoescape=True).from_string(Path(template).read_text())
sys.stdout.write(made.render(most=int(most), release=json.loads(release), names=names, statuses=found))
