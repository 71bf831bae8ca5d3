#!/usr/bin/env bash
# Run molecule on the scenarios of this directory, in the network of the lab that LAB names:
# bash tests/hosts/molecule.sh test -s watcher
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONPATH=$PWD/tests PATH=$PWD/.venv/bin:$PATH LAB=${LAB:-molecule} MOLECULE_GLOB="tests/hosts/*/molecule.yml"
# What molecule remembers of a scenario is kept here, for each lab.
export ANSIBLE_HOME=$PWD/.cache/hosts/ansible/$LAB
# The modules that a run of Ansible has packed are there for the next (support/callbacks/kept_modules.py).
ZOO_TESTS_MODULES=$(mktemp -d)
export ZOO_TESTS_MODULES

# The lab itself stays while hosts of it do.
trap 'rm -r "$ZOO_TESTS_MODULES"; python -m hosts.lab close "$LAB"' EXIT
python -m hosts.lab exec "$LAB" -- molecule "$@"
