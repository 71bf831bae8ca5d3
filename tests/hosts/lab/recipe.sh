#!/bin/sh
# Make a fresh debootstrap tree into a host's: runs in the tree (chroot), with its suite's mirrors reachable.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# What the roles install themselves stays out of the tree: it is in a repository of the host's own, which needs no network.
INSTALLED="acl curl dbus default-jre-headless git iproute2 nginx-light openssh-server openssl polkitd procps python3
    python3-apt python3-venv sudo systemd-sysv"
OFFERED="haproxy nftables python3-kazoo python3-prometheus-client python3-pure-sasl zookeeper zookeeperd"

echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/lab
printf '%s\n' 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/man/*' >>/etc/dpkg/dpkg.cfg.d/lab
apt-get update -qq
# shellcheck disable=SC2086 # one word for each package
apt-get install -y -qq --no-install-recommends $INSTALLED
apt-get clean

mkdir -p /srv/apt/partial
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives=/srv/apt/ $OFFERED
cd /srv/apt
rm -rf partial lock
for package in *.deb; do
    dpkg-deb --field "$package"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$package" "$(stat --format=%s "$package")" "$(sha256sum "$package" | cut -d ' ' -f 1)"
done >Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*
apt-get update -qq

# What a host would do of its own accord, and what each host is given when it is made.
ln -sf /dev/null /etc/systemd/system/apt-daily.timer
ln -sf /dev/null /etc/systemd/system/apt-daily-upgrade.timer
rm -f /etc/systemd/system/multi-user.target.wants/nginx.service
# systemd runs them all whenever a unit is written. Two have something to do here: the boot's words mask units, and packages
# may have scripts in /etc/init.d.
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    case $generator in *-debug-generator | *-sysv-generator) continue ;; esac
    ln -s /dev/null "/etc/systemd/system-generators/${generator##*/}"
done
rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /etc/resolv.conf
touch /etc/machine-id /etc/resolv.conf
