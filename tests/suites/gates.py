"""The long-running gates: other versions of ansible-core, Python and kazoo, and what Galaxy does with the tarball.

Each is one test. One whose interpreter is missing here is skipped with a message. The result of each and its day are
kept for the table in `tests/README.md` (`.cache/results/gates.md`), even if only others run later.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import ansible

from suites import sanity
from suites.environments import PLACE, UnavailableError, environment
from suites.outcome import RESULTS, ROOT, Outcome, read_junit
from suites.tool import run_tool

CORES = {"2.17": "3.11", "2.19": "3.12", "2.21": "3.13"}
"""The oldest ansible-core of meta/runtime.yml, one in between, and the newest, each with a Python that it runs on."""
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
"""The versions on hosts."""
KAZOOS = ("2.9", "2.10", "2.11")
OF_PLUGINS = [
    f"tests/unit/{name}" for name in ("action", "filter", "inventory", "module_utils", "modules", "plugin_utils")
]
OF_MODULES = ["tests/integration/test_targets_znode.py", "tests/ensemble/test_lock.py"]
COMPLAINT = re.compile(r"^(?:WARNING|ERROR|CRITICAL)\b.*", re.MULTILINE)

Check = Callable[[], Outcome]


@dataclass(frozen=True)
class Record:
    """The result of a gate, and its day."""

    result: str
    tests: int
    seconds: int
    day: str


def run(words: list[str]) -> Outcome:
    """Run every gate, or those whose names contain one of `words`; all of them run, whatever fails."""
    chosen = {name: check for name, check in gates() if not words or any(word in name for word in words)}
    outcome = sum((_run(name, check) for name, check in chosen.items()), Outcome())
    print(table(_records()), flush=True)
    return outcome


def gates() -> Iterator[tuple[str, Check]]:
    """Each gate with its name, the shortest first."""
    yield "galaxy-importer, of the tarball", galaxy_importer
    yield "ansible-builder, with the tarball", execution_environment
    for core, python in CORES.items():
        on = f"ansible-core {core}, Python {python}"
        yield f"unit tests of the plugins, {on}", partial(with_core, core, python, OF_PLUGINS)
        yield f"targets of the znode plugins, {on}", partial(with_core, core, python, OF_MODULES[:1])
        yield f"ansible-test sanity, {on}", partial(sanity_of, core, python)
    for python, kazoo in itertools.product(PYTHONS, KAZOOS):
        yield f"modules, Python {python}, kazoo {kazoo}", partial(on_host, python, kazoo, OF_MODULES)
    for python, kazoo in itertools.product((PYTHONS[0], PYTHONS[-1]), (KAZOOS[0], KAZOOS[-1])):
        yield f"agent, Python {python}, kazoo {kazoo}", partial(on_host, python, kazoo, ["tests/agent"])


def _run(name: str, check: Check) -> Outcome:
    """Run a gate, and keep its result: one test, whatever it consists of."""
    print(f"--- {name}", flush=True)
    began = time.monotonic()
    try:
        inner = check()
    except UnavailableError as exc:
        print(f"skipped: {exc}", flush=True)
        return Outcome(skipped=1)
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"failed: {exc}", flush=True)
        inner = Outcome(failed=1)
    passed = inner.passed > 0 and not inner.failed
    record = Record(
        "passed" if passed else f"{inner.failed} failed" if inner.failed else "nothing was run",
        inner.passed,
        round(time.monotonic() - began),
        datetime.now(timezone.utc).date().isoformat(),
    )
    _keep({**_records(), name: record})
    print(f"{record.result}: {inner.passed} passed, {inner.skipped} skipped in {record.seconds} s", flush=True)
    return Outcome(passed=int(passed), failed=int(not passed))


def sanity_of(core: str, python: str) -> Outcome:
    """`ansible-test sanity` of a version of ansible-core."""
    return sanity.run_with(_with_core(core, python), PLACE / f"sanity-{core}", [])


def with_core(core: str, python: str, tests: list[str]) -> Outcome:
    """Run tests with a version of ansible-core, by pytest: `ansible-test units` has no place for what they share.

    It runs `tests/unit` alone, in environments of its own; `tests/conftest.py` and `tests/support` are above that.
    """
    return _pytest(_with_core(core, python) / "python", f"core-{core}", tests, {})


def on_host(python: str, kazoo: str, tests: list[str]) -> Outcome:
    """Run tests whose modules and agents use this Python and this kazoo; everything else uses this environment."""
    requirements = (f"kazoo=={kazoo}.*", "GitPython>=3.1.30", "pure-sasl>=0.6", "prometheus-client>=0.14")
    programs = environment(f"host-{python}-{kazoo}", python, *requirements)
    variables = {
        "ZOO_TESTS_PYTHON": str(programs / "python"),
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(_ansible_alone())]),
    }
    return _pytest(Path(sys.executable), f"host-{python}-{kazoo}", tests, variables)


def _ansible_alone() -> Path:
    """A directory with this environment's Ansible and nothing else, for modules that no playbook sends."""
    directory = PLACE / "ansible"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "ansible"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(ansible.__file__).parent)
    return directory


def _with_core(core: str, python: str) -> Path:
    groups = ("--group", "controller", "--group", "test")
    return environment(f"core-{core}", python, *groups, f"ansible-core=={core}.*", "kazoo>=2.9,<3")


def _pytest(python: Path, name: str, tests: list[str], variables: Mapping[str, str]) -> Outcome:
    report = RESULTS / f"gate-{name}.xml"
    report.unlink(missing_ok=True)
    path = f"{python.parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "ZOO_TESTS_BYTECODE": "", **variables}
    status = run_tool([str(python), "-m", "pytest", "-q", f"--junitxml={report}", *tests], env=environ)
    outcome = read_junit(report) if report.exists() else Outcome()
    return outcome if status == 0 or outcome.failed else outcome + Outcome(failed=1)


def galaxy_importer() -> Outcome:
    """Run what Galaxy itself runs on an uploaded tarball, which must be accepted without a complaint."""
    programs = environment("galaxy", "3.12", "galaxy-importer")
    with tempfile.TemporaryDirectory() as directory:
        built = _tarball(Path(directory))
        done = subprocess.run(
            [str(programs / "python"), "-m", "galaxy_importer.main", str(built)],
            cwd=directory,
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true",
            },
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    print(done.stdout, flush=True)
    return Outcome(failed=1) if done.returncode or complaints(done.stdout) else Outcome(passed=1)


def complaints(output: str) -> list[str]:
    """The warnings and errors in what galaxy-importer has printed."""
    return COMPLAINT.findall(output)


def execution_environment() -> Outcome:
    """`ansible-builder` finds what the installed collection needs, and accepts the definition in the guide."""
    programs = environment("galaxy", "3.12", "galaxy-importer")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "ansible_collections", "zoo", "deploy")
        place.mkdir(parents=True)
        subprocess.run(["tar", "xzf", str(_tarball(Path(directory))), "-C", str(place)], check=True)
        definition = Path(directory, "execution-environment.yml")
        definition.write_text(first_definition((ROOT / "docs" / "guides" / "automation-controller.md").read_text()))
        builder = str(programs / "ansible-builder")
        introspected = run_tool([builder, "introspect", "--sanitize", directory], cwd=directory)
        context = str(Path(directory, "context"))
        created = run_tool([builder, "create", "-f", str(definition), "-c", context], cwd=directory)
    return Outcome(failed=1) if introspected or created else Outcome(passed=1)


def first_definition(page: str) -> str:
    """The first block of YAML of a page."""
    return page.partition("```yaml\n")[2].partition("```")[0]


def _tarball(directory: Path) -> Path:
    """Build the collection there, and return the path of its tarball. Raises `CalledProcessError`."""
    command = [str(Path(sys.executable).with_name("ansible-galaxy")), "collection", "build", "--output-path"]
    subprocess.run([*command, str(directory)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next(directory.glob("*.tar.gz"))


def table(records: Mapping[str, Record]) -> str:
    """The result of each gate, as a Markdown table."""
    rows = [f"| {name} | {row.result} | {row.tests} | {row.seconds} | {row.day} |" for name, row in records.items()]
    return "\n".join(["| Gate | Result | Tests | Seconds | Day |", "|---|---|---:|---:|---|", *rows])


def _records() -> dict[str, Record]:
    try:
        return {name: Record(**row) for name, row in json.loads((RESULTS / "gates-kept.json").read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def _keep(records: Mapping[str, Record]) -> None:
    ordered = {name: records[name] for name, _check in gates() if name in records}
    (RESULTS / "gates-kept.json").write_text(json.dumps({name: asdict(row) for name, row in ordered.items()}))
    (RESULTS / "gates.md").write_text(table(ordered) + "\n")
