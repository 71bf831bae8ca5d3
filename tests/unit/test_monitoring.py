"""The documentation of the metrics, the alert rules and the dashboard name what the agent has, and nothing else."""

from __future__ import annotations

import re

import pytest

from support.monitoring import PAGE, alert_rules, dashboard, documented, expressions, labels_in, metrics_in
from zoo_watcher.errors import RETRY_REASONS
from zoo_watcher.metrics.metric import METRICS, PREFIX

NAMES = {f"{PREFIX}_{metric.name}" for metric in METRICS}
PROMETHEUS_OWN = {"up", "ALERTS"}
LABELS = {label for metric in METRICS for label in metric.labels}
LABELS_OF_PROMETHEUS = {"job", "instance", "alertname", "alertstate"}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('up{job="zoo_watcher"} == 0', {"up"}),
        ("sum by (job, reason) (increase(a_total[5m])) > 0", {"a_total"}),
        ('(a == 1) * on (job) group_left (app) b{app=~"$app"} unless c{x="d or e"}', {"a", "b", "c"}),
        ("time() - a > b and a > 0 or vector(0)", {"a", "b"}),
    ],
)
def test_the_metrics_in_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert metrics_in(expression) == names


def test_the_table_lists_the_metrics_of_the_agent() -> None:
    kinds = {f"{PREFIX}_{metric.name}": metric for metric in METRICS}
    assert documented() == {
        name: ("counter" if name.endswith("_total") else "gauge", metric.labels) for name, metric in kinds.items()
    }


def test_each_reason_of_a_retry_is_explained() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### Reasons of a retry\n")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| \w", section, re.MULTILINE)[1:]) == RETRY_REASONS


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_an_alert_uses_metrics_that_exist_and_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert metrics_in(str(rule["expr"])) <= NAMES | PROMETHEUS_OWN
    assert rule["annotations"].keys() == {"summary", "description"}
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_dashboard_uses_metrics_that_exist() -> None:
    used = {name for expression in expressions(dashboard()) for name in metrics_in(expression)}
    assert used <= NAMES | PROMETHEUS_OWN


def test_rules_and_dashboard_use_labels_that_exist() -> None:
    texts = [
        *expressions(alert_rules(), ("expr", "summary", "description")),
        *expressions(dashboard(), ("expr", "legendFormat")),
    ]
    used = {label for text in texts for label in labels_in(text)}
    assert {"state", "service", "reason", "live_commit"} <= used, "labels are found"
    assert used <= LABELS | LABELS_OF_PROMETHEUS


def test_every_metric_in_prose_exists() -> None:
    assert set(re.findall(r"zoo_watcher_\w+", PAGE.read_text(encoding="utf-8"))) <= NAMES


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_the_dashboard_has_a_row_for_each_subject() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Fleet", "A deployment in progress", "Health checks", "ZooKeeper session", "Disk", "Files"]
