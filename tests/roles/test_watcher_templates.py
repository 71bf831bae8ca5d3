"""The templates of the role watcher: the unit and the polkit rule let the agent do what it must, and no more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.playbook import ROOT
from support.tasks import run_tasks

ROLE = ROOT / "roles" / "watcher"
EXPOSURE = re.compile(r"Overall exposure level for \S+: (\d+\.\d)")
HOOKS = {"watcher_hooks": {"after_activate": ["/usr/local/bin/warm-up"]}}
COMMAND = {"watcher_services": [{"path": "/s", "port": 1, "check": {"type": "command", "command": ["/root/ask"]}}]}
LANDLOCK = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]
STRICTNESS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"MemoryDenyWriteExecute=true", "ProcSubset=pid"}),
    # If the kernel or a limit ends git or a hook, the agent goes on, and nothing keeps it from being started.
    ({}, {"OOMPolicy=continue", "TasksMax=4096", "LimitNOFILE=65536", "MemoryMax=50%"}),
    # No secret gets into a core file, and the apply process may give up rights.
    ({}, {"LimitCORE=0", f"SystemCallFilter={' '.join(LANDLOCK)}"}),
    ({"watcher_memory_max": "512M"}, {"MemoryMax=512M"}),
    # What a hook or a check runs may compile code at run time, and inspect the machine.
    (HOOKS, {"MemoryDenyWriteExecute=false", "ProcSubset=all"}),
    ({**COMMAND, "watcher_base": '/home/web/100% "ours"'}, {"MemoryDenyWriteExecute=false", "ProcSubset=all"}),
]
GIVEN = {"znode": "/x", "dest": "/etc/app/x.conf", "owner": "root"}
OWN = {"znode": "/x", "dest": "/srv/conf/x.conf", "owner": "zoo-watcher", "group": "", "validate": ["/bin/true", "%s"]}
TREE = {"znode": "/x", "dest": "/etc/app.d", "format": "directory", "group": "adm"}
FILES: list[tuple[list[Any], list[str], str, list[str]]] = [
    ([OWN], [], "", ["/srv/conf"]),
    ([OWN], ["/srv/conf"], "CAP_DAC_OVERRIDE", ["/srv/conf"]),
    ([GIVEN, OWN], ["/etc/app"], "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE", ["/etc/app", "/srv/conf"]),
    ([TREE], [], "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE", ["/etc/app.d"]),
]
SYSTEMDS = [(252, False), (254, True)]
HOMES: list[tuple[dict[str, Any], str]] = [
    ({}, "ProtectHome=true"),
    ({"watcher_base": "/home/web/site"}, "ProtectHome=read-only"),
    ({"watcher_tls_key": "/root/agent.key"}, "ProtectHome=read-only"),
    ({"watcher_ssh_key": "/home/git/.ssh/id"}, "ProtectHome=read-only"),
    ({"watcher_git_credentials": "/home/git/credentials"}, "ProtectHome=read-only"),
    (COMMAND, "ProtectHome=read-only"),
    (HOOKS, "ProtectHome=true"),
    ({"watcher_base": "/homestead"}, "ProtectHome=true"),
]


def _surveyed(foreign: list[str], systemd: int) -> dict[str, Any]:
    """The variable with what the installer has reported about the host."""
    return {"_watcher_installed": {"stdout": json.dumps({"foreign": foreign, "systemd": systemd})}}


def _of_files(files: list[Any], foreign: list[str]) -> dict[str, Any]:
    return {"watcher_files": files, **_surveyed(foreign, 252)}


UNIT = "zoo-watcher@.service.j2"
RULE = "polkit.rules.j2"
UNITS = ["nginx.service", "app@1.service"]
STRANGE = {"watcher_restart_units": ['a";evil();//.service'], "watcher_user": 'u"v'}
RENDERED: list[tuple[str, dict[str, Any]]] = [
    *((UNIT, variables) for variables, _seen in [*STRICTNESS, *HOMES]),
    *((UNIT, _of_files(files, foreign)) for files, foreign, *_seen in FILES),
    *((UNIT, _surveyed([], systemd)) for systemd, _grows in SYSTEMDS),
    (RULE, {"watcher_restart_units": UNITS}),
    (RULE, STRANGE),
]
"""The templates of the role, and the variables that they are rendered with below."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], Path]:
    """A function that finds the file rendered from one of `RENDERED`. The environment that a unit names exists."""
    root = tmp_path_factory.mktemp("rendered")
    python = root / "opt/current-business/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    common = {
        "watcher_base": "/srv/business",
        "watcher_hosts": "zk1:2181",
        "watcher_install_dir": f"{root}/opt",
        "role_path": str(ROLE),
    }
    tasks = []
    for number, (template, variables) in enumerate(RENDERED):
        text = f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{template}') }}}}"
        values = {**common, **variables}
        tasks.append({"ansible.builtin.set_fact": {"text": text}, "vars": values, "register": f"made{number}"})
    run = run_tasks(root, tasks, vars_files=[str(ROLE / part / "main.yml") for part in ("defaults", "vars")])
    assert not [one for one in run.results.values() if one["failed"]], run.output

    def find(template: str, variables: dict[str, Any]) -> Path:
        number = RENDERED.index((template, variables))
        made = root / str(number) / ("zoo-watcher@business.service" if template == UNIT else "50.rules")
        made.parent.mkdir(exist_ok=True)
        made.write_text(run[f"made{number}"]["ansible_facts"]["text"])
        return made

    return find


def exposure_of(unit: Path) -> float:
    """The unit's exposure as rated by systemd, at most 10; a unit that it would complain about is a failure."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = EXPOSURE.search(said)
    assert found, said
    return float(found[1])


@pytest.mark.parametrize(("variables", "seen"), STRICTNESS)
def test_systemd_accepts_the_unit_and_rates_its_exposure_as_low(
    rendered: Callable[[str, dict[str, Any]], Path], variables: dict[str, Any], seen: set[str]
) -> None:
    unit = rendered(UNIT, variables)
    assert seen <= set(unit.read_text().splitlines())
    assert exposure_of(unit) <= 1.5


@pytest.mark.parametrize(("files", "foreign", "capabilities", "directories"), FILES)
def test_the_unit_may_do_what_its_files_require_and_no_more(
    rendered: Callable[[str, dict[str, Any]], Path],
    files: list[Any],
    foreign: list[str],
    capabilities: str,
    directories: list[str],
) -> None:
    unit = rendered(UNIT, _of_files(files, foreign))
    lines = unit.read_text().splitlines()
    assert {f"CapabilityBoundingSet={capabilities}", f"AmbientCapabilities={capabilities}"} <= set(lines)
    assert f"PrivateUsers={'false' if capabilities else 'true'}" in lines
    writable = [line for line in lines if line.startswith("ReadWritePaths=")]
    # The base must exist; the directory of a file may be missing.
    assert writable == [f'ReadWritePaths="{path}"' for path in ["/srv/business", *(f"-{path}" for path in directories)]]
    assert ("ProcSubset=all" in lines) == (OWN in files)
    assert exposure_of(unit) <= (1.9 if capabilities else 1.5)


@pytest.mark.parametrize(("systemd", "grows"), SYSTEMDS)
def test_whatever_ends_the_agent_it_is_restarted_with_growing_delays_where_systemd_has_them(
    rendered: Callable[[str, dict[str, Any]], Path], systemd: int, grows: bool
) -> None:
    """No exit status is final, and the number of starts is not limited."""
    lines = rendered(UNIT, _surveyed([], systemd)).read_text().splitlines()
    expected = ["RestartKillSignal=SIGUSR2", "Restart=on-failure", "RestartSec=1"]
    expected += ["RestartSteps=4", "RestartMaxDelaySec=5"] if grows else []
    assert [line for line in lines if line.startswith("Restart")] == expected
    assert {"StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=restart"} <= set(lines)
    assert not [line for line in lines if line.startswith(("SuccessExitStatus", "StartLimitBurst", "StartLimitAction"))]


@pytest.mark.parametrize(("variables", "seen"), HOMES)
def test_homes_are_hidden_from_the_agent_unless_its_files_are_there(
    rendered: Callable[[str, dict[str, Any]], Path], variables: dict[str, Any], seen: str
) -> None:
    assert seen in rendered(UNIT, variables).read_text().splitlines()


POLKIT = """\
var rules = [], polkit = {
    Result: {YES: "yes", NOT_HANDLED: "not handled"},
    addRule: function (rule) { rules.push(rule); }
};
"""
ASK = """
function answer(asked) {
    var action = {id: asked.action, lookup: function (key) { return asked[key]; }};
    return rules.map(function (rule) { return rule(action, {user: asked.user, system_unit: asked.system_unit}); });
}
"""
"""What polkit provides to a rule, and what it asks the rule."""
MAY = {
    "action": "org.freedesktop.systemd1.manage-units",
    "user": "zoo-watcher",
    "verb": "restart",
    "unit": "nginx.service",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript here")
def test_the_polkit_rule_lets_the_agents_user_restart_those_units_and_nothing_else(
    rendered: Callable[[str, dict[str, Any]], Path],
) -> None:
    rule = rendered(RULE, {"watcher_restart_units": UNITS}).read_text()
    allowed = [
        MAY,
        {**MAY, "unit": "app@1.service"},
        {**MAY, "system_unit": "zoo-watcher@business.service"},
        # A caller outside of a unit, and a D-Bus that does not report the caller's unit.
        {**MAY, "system_unit": ""},
    ]
    refused = [
        {**MAY, "unit": "ssh.service"},
        {**MAY, "unit": "app@1.servic"},
        {**MAY, "verb": "stop"},
        {**MAY, "user": "nobody"},
        {**MAY, "system_unit": "zoo-watcher@shop.service"},
        {**MAY, "action": "org.freedesktop.systemd1.manage-unit-files"},
        {"action": MAY["action"], "user": MAY["user"]},
    ]
    script = f"{POLKIT}{rule}{ASK}console.log(JSON.stringify({json.dumps(allowed + refused)}.map(answer)))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["yes"]] * len(allowed) + [["not handled"]] * len(refused)


def test_the_units_and_the_user_in_the_polkit_rule_are_quoted_and_nothing_else_is_let_through(
    rendered: Callable[[str, dict[str, Any]], Path],
) -> None:
    rule = rendered(RULE, STRANGE).read_text()
    assert r'var units = ["a\";evil();//.service"];' in rule
    assert r'subject.user === "u\"v"' in rule
    assert rule.count("polkit.Result.YES") == 1
