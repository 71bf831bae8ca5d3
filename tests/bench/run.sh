#!/usr/bin/env bash
# Measures goals side by side with their yardsticks, or curves, or what a fleet takes of an ensemble:
#   bash tests/bench/run.sh [--check] [--quick] [--report] [--pairs N] [GOAL ...]
#   bash tests/bench/run.sh --curves [CURVE ...] [--quick] [--report]
#   bash tests/bench/run.sh --sizing [--quick] [--report]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

need() {
    command -v "$1" > /dev/null || { echo "tests/bench/run.sh: $1 is not installed; $2" >&2; exit 2; }
}
need java "install default-jre-headless and libzookeeper-java"

need uv "install it with: python3 -m pip install uv"
# As pip would have: compiling is what neither side is measured for.
unset PYTHONDONTWRITEBYTECODE
uv sync --quiet --compile-bytecode
exec env PYTHONPATH=tests .venv/bin/python -m bench "$@"
