#!/usr/bin/env bash
# Usage: bash tests/run.sh                          every suite, under 40 minutes on two cores
#        bash tests/run.sh --quick                  lint, unit, a smoke test of agent and quickstart: under four minutes
#        bash tests/run.sh --all                    every suite, then the gates: other versions of everything, the tarball
#        bash tests/run.sh --coverage [SUITE ...]   which lines and branches of plugins and agent the suites run
#        bash tests/run.sh SUITE [words for pytest] one suite: bash tests/run.sh agent -k rollback
#        bash tests/run.sh --help
#
# Makes its own environment on a Debian or Ubuntu: system packages by apt where one is missing (root or sudo), uv under
# .cache where PATH has none, everything else by `uv sync`. PYTHON names the interpreter; otherwise the distribution's is
# taken where it is 3.11 or newer, or else the oldest such on PATH. tests/README.md has the suites, what each needs, and how
# to run a single test.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
CACHE=$PWD/.cache
# Servers are in /usr/sbin, which an ordinary user's PATH lacks on a Debian.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "$1 needs root or sudo; run it as root, or install by hand what it was to install: $*"
    fi
}

# One line for each system package that is not there.
missing_packages() {
    command -v git >/dev/null || echo git
    command -v java >/dev/null || echo default-jre-headless
    command -v nginx >/dev/null || echo nginx-light
    command -v haproxy >/dev/null || echo haproxy
    command -v promtool >/dev/null || echo prometheus
    command -v strace >/dev/null || echo strace
    command -v mkfs.ext4 >/dev/null || echo e2fsprogs
    command -v mkfs.xfs >/dev/null || echo xfsprogs
    command -v sshd >/dev/null || echo openssh-server
    command -v ss >/dev/null || echo iproute2
    command -v ssh >/dev/null || echo openssh-client
    command -v gpg >/dev/null || echo gpg
    command -v gpg-agent >/dev/null || echo gpg-agent
    if [ "$(id -u)" = 0 ]; then
        # Real hosts; without root there are none.
        command -v debootstrap >/dev/null || echo debootstrap
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
        command -v systemd-nspawn >/dev/null || echo systemd-container
        command -v nft >/dev/null || echo nftables
    fi
    command -v openssl >/dev/null || echo openssl
    [ -e /usr/share/java/zookeeper.jar ] || echo libzookeeper-java
    [ -e /usr/share/java/slf4j-simple.jar ] || echo libslf4j-java
    [ -e /usr/share/java/netty-handler.jar ] || echo libnetty-java
    if [ -n "${CI:-}" ]; then
        # Other projects, for five files of tests, which are skipped without and say so: some hundred megabytes.
        command -v chromium >/dev/null || echo chromium
        command -v chromedriver >/dev/null || echo chromium-driver
        [ -e /usr/share/java/curator-x-discovery.jar ] || echo libcurator-discovery-java
        command -v javac >/dev/null || echo default-jdk-headless
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
        command -v patroni >/dev/null || echo patroni
        command -v krb5kdc >/dev/null || echo krb5-kdc
        command -v kadmin.local >/dev/null || echo krb5-admin-server
        compgen -G '/usr/lib/python3/dist-packages/kerberos.*.so' >/dev/null || echo python3-kerberos
        [ -e /usr/lib/python3/dist-packages/kazoo ] || echo python3-kazoo
        command -v podman >/dev/null || printf '%s\n' podman runc netavark aardvark-dns
        command -v podman-compose >/dev/null || echo podman-compose
        command -v iptables >/dev/null || echo iptables
    fi
    local python
    if ! python=$(find_python); then
        [ -n "${PYTHON:-}" ] || printf '%s\n' python3 python3-venv
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    fi
}

install_packages() {
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "no apt-get here; install what these Debian packages hold: ${missing//$'\n'/ }"
    echo "Installing ${missing//$'\n'/ }"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086 # one word for each package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# The interpreter: PYTHON, or the first of these that is new enough and really starts. The distribution's is built with the
# optimisations that one built by hand often lacks: it takes a tenth to a fifth less of the processor.
find_python() {
    local candidate
    for candidate in ${PYTHON:-/usr/bin/python3 python3.11 python3.12 python3.13 python3.14 python3}; do
        "$candidate" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys.executable)' 2>/dev/null && return
    done
    return 1
}

# uv itself: the one on PATH, or one of our own.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if [ ! -x "$CACHE/uv/bin/uv" ]; then
        "$1" -m venv "$CACHE/uv"
        "$CACHE/uv/bin/pip" install --quiet --disable-pip-version-check uv
    fi
    echo "$CACHE/uv/bin/uv"
}

# The comment at the top of this file.
usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' tests/run.sh
}

main() {
    local python uv
    case ${1:-} in -h | --help)
        usage
        return
        ;;
    esac
    install_packages
    python=$(find_python) || die "no Python 3.11 or newer (${PYTHON:-on PATH}); install one, or name it in PYTHON"
    uv=$(find_uv "$python")
    # Hundreds of processes import the same packages: none of them is to compile anew what another has compiled.
    unset PYTHONDONTWRITEBYTECODE
    # Nor to read a program from a pipe byte by byte, which is how Ansible sends modules.
    unset PYTHONUNBUFFERED
    "$uv" sync --quiet --no-python-downloads --compile-bytecode --python "$python"
    mkdir -p "$CACHE/bytecode"
    export PYTHONPATH=$PWD/tests ZOO_TESTS_BYTECODE=$CACHE/bytecode
    if [ -n "${CI:-}" ]; then
        PATH=${uv%/*}:$PATH .venv/bin/python -m support.community_general ||
            echo "run.sh: community.general could not be fetched; the tests that compare with it are skipped" >&2
    fi
    # The gates have uv make environments of other versions.
    PATH=$PWD/.venv/bin:$PATH:${uv%/*} exec .venv/bin/python -m suites "$@"
}

main "$@"
