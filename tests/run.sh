#!/usr/bin/env bash
# Run every test suite, or one: bash tests/run.sh [SUITE [words for pytest]]
#
# Makes its own environment on a Debian or Ubuntu: system packages by apt where one is missing (root or sudo), uv under
# .cache where PATH has none, everything else by `uv sync`. PYTHON names the interpreter; otherwise the oldest of 3.11 or
# newer on PATH is taken. The suites, their order and what they print are in tests/suites.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
CACHE=$PWD/.cache

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
    command -v strace >/dev/null || echo strace
    [ -x /usr/sbin/mkfs.ext4 ] || echo e2fsprogs
    [ -x /usr/sbin/mkfs.xfs ] || echo xfsprogs
    [ -x /usr/sbin/sshd ] || echo openssh-server
    command -v ss >/dev/null || echo iproute2
    command -v ssh >/dev/null || echo openssh-client
    if [ "$(id -u)" = 0 ]; then
        # Real hosts; without root there are none.
        command -v debootstrap >/dev/null || echo debootstrap
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
        command -v systemd-nspawn >/dev/null || echo systemd-container
        [ -x /usr/sbin/nft ] || echo nftables
    fi
    command -v openssl >/dev/null || echo openssl
    [ -e /usr/share/java/zookeeper.jar ] || echo libzookeeper-java
    [ -e /usr/share/java/slf4j-simple.jar ] || echo libslf4j-java
    [ -e /usr/share/java/netty-handler.jar ] || echo libnetty-java
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

# The interpreter: PYTHON, or the first of those on PATH that is new enough and really starts.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
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

main() {
    local python uv
    install_packages
    python=$(find_python) || die "no Python 3.11 or newer (${PYTHON:-on PATH}); install one, or name it in PYTHON"
    uv=$(find_uv "$python")
    "$uv" sync --quiet --no-python-downloads --python "$python"
    PYTHONPATH=$PWD/tests PATH=$PWD/.venv/bin:$PATH exec .venv/bin/python -m suites "$@"
}

main "$@"
