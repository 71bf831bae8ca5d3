#!/bin/sh
# Make a fresh debootstrap tree into a stranger's machine: runs in the tree (chroot), with its suite's mirrors reachable.
# The first word is what is installed; the other packages stay uninstalled: they are in a repository of the tree's own, which
# needs no network.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/bare
apt-get update -qq
# shellcheck disable=SC2046 # one word for each package
apt-get install -y -qq --no-install-recommends $(echo "$1" | tr , ' ')
shift
mkdir -p /srv/apt/partial
apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives=/srv/apt/ "$@"
cd /srv/apt
rm -rf partial lock
for package in *.deb; do
    dpkg-deb --field "$package"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$package" "$(stat --format=%s "$package")" "$(sha256sum "$package" | cut -d ' ' -f 1)"
done >Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*

useradd --create-home --shell /bin/bash ann
mkdir -p /etc/sudoers.d
echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann
echo bare >/etc/hostname
echo '127.0.0.1 localhost bare' >/etc/hosts
: >/etc/resolv.conf
