#!/usr/bin/env bash
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The whole of zoo.deploy on one machine, in one directory: bash playbooks/quickstart.sh [up|down]
#
# From the environment: QUICKSTART_DIR (.quickstart in the checkout), QUICKSTART_ZK_PORTS (three, "2181 2182 2183") and
# QUICKSTART_WEB_PORTS (five, "9095 9096 9097 9098 9099"); if they are not given, a free port replaces a taken one.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DIRECTORY=${QUICKSTART_DIR:-$ROOT/.quickstart}
# nginx is in /usr/sbin, which Debian leaves out of an ordinary user's PATH.
export PATH=$PATH:/usr/sbin:/sbin
PROCESSES=$ROOT/playbooks/quickstart/process.sh
BIN=$DIRECTORY/venv/bin
STEPS=9
FOUR=(server1 server2 server3 server4)
FIVE=("${FOUR[@]}" server5)

bold='' dim='' red='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'; fi

number=0
started_in=$PWD
began=$EPOCHREALTIME
step_began=$EPOCHREALTIME

seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }

step() {
    number=$((number + 1)) step_began=$EPOCHREALTIME
    printf '\n%s[%d/%d] %s%s\n' "$bold" "$number" "$STEPS" "$1" "$plain"
}

say() { printf '      %s\n' "$*"; }

report_time() { printf '      %sdone in %s%s\n' "$dim" "$(seconds_since "$step_began")" "$plain"; }

fail() {
    printf '\n%squickstart: %s%s\n' "$red" "$1" "$plain" >&2
    exit 1
}

# Run a command with its output in a file; if it fails, show the end of that and stop.
quietly() {
    local status=0
    "$@" >"$DIRECTORY/step.log" 2>&1 </dev/null || status=$?
    [ "$status" = 0 ] && return
    tail -n 40 "$DIRECTORY/step.log" >&2
    fail "step $number failed: ${1##*/} ended with status $status; its whole output is in $DIRECTORY/step.log, and that of the processes in $DIRECTORY/*/*.log"
}

# Run a playbook of ours, show the command, and of its output the rows of its tables.
play() {
    local words=${*//"$DIRECTORY"/"${DIRECTORY#"$PWD/"}"}
    say "\$ ansible-playbook $words"
    quietly "$BIN/ansible-playbook" -i "$DIRECTORY/inventory.yml" "$@"
    # What a task itself shows, and what debug shows.
    sed -nE -e '/^TASK \[Publish and wait\]/,/^(ok|changed|fatal):/{/^(TASK|ok|changed|fatal)/!s/^(.)/        \1/p}' \
        -e 's/^ {8}"(.*)",?$|^ {4}"msg": "(.*)"$/        \1\2/p' "$DIRECTORY/step.log" | sed 's/\\"/"/g' | awk '!seen[$0]++'
}

web_port() { sed -nE 's/^ *listen 127\.0\.0\.1:([0-9]+);/\1/p' "$DIRECTORY/$1/nginx.conf"; }

# Check the outcome without the collection.
prove() {
    quietly "$BIN/python" "$ROOT/playbooks/quickstart/proof.py" "$DIRECTORY" "$@"
    sed 's/^/      /' "$DIRECTORY/step.log"
}

# The inventory as found in ZooKeeper; stops if it does not have exactly the servers of the arguments.
graph() {
    say "\$ ansible-inventory -i ${DIRECTORY#"$PWD/"}/discovered.zk_services.yml --graph"
    quietly "$BIN/ansible-inventory" -i "$DIRECTORY/discovered.zk_services.yml" --graph
    sed 's/^/        /' "$DIRECTORY/step.log"
    local servers
    servers=$(grep -o 'server[0-9]' "$DIRECTORY/step.log" | sort -u | tr '\n' ' ')
    [ "$servers" = "$* " ] || fail "the inventory has ${servers:-nothing}, not $*"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
        "$candidate" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1)' 2>/dev/null && command -v "$candidate" && return
    done
    return 1
}

# One word for each Debian package that is not there.
missing_packages() {
    command -v java >/dev/null || echo default-jre-headless
    [ -e /usr/share/java/zookeeper.jar ] || echo libzookeeper-java
    [ -e /usr/share/java/slf4j-simple.jar ] || echo libslf4j-java
    command -v nginx >/dev/null || echo nginx
    local python
    if ! python=$(find_python); then
        printf '%s\n' python3 python3-venv
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    fi
}

# Debian starts what it installs. Nobody asked for an nginx on port 80, so this prevents it, now and at the next boot.
install_packages() {
    local policy=/usr/sbin/policy-rc.d ours='' missing=("$@") status=0
    command -v apt-get >/dev/null || fail "no apt-get here; install what these Debian packages hold, then run again: ${missing[*]}"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        fail "neither root nor sudo; let somebody run 'apt-get install ${missing[*]}', then run again"
    say "apt-get install ${missing[*]} (a few minutes on a fresh machine)"
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    } >"$DIRECTORY/step.log" 2>&1 </dev/null || status=$?
    [ -z "$ours" ] || as_root rm -f "$policy"
    if [ "$status" != 0 ]; then
        tail -n 20 "$DIRECTORY/step.log" >&2
        fail "apt-get ended with status $status; its whole output is in $DIRECTORY/step.log"
    fi
    case " ${missing[*]} " in *' nginx '*) as_root systemctl disable --quiet nginx 2>/dev/null || true ;; esac
}

make_environment() {
    local packages=('ansible-core>=2.17' 'kazoo>=2.9' 'GitPython>=3.1.30')
    "$BIN/python" -c 'import ansible, kazoo, git' 2>/dev/null && [ -d "$DIRECTORY/wheels" ] && return
    quietly "$1" -m venv --clear "$DIRECTORY/venv"
    quietly "$BIN/python" -m pip download --disable-pip-version-check -q -d "$DIRECTORY/wheels" "${packages[@]:1}"
    quietly "$BIN/python" -m pip install --disable-pip-version-check -q --find-links "$DIRECTORY/wheels" "${packages[@]}"
}

in_checkout() { git -c safe.directory="$ROOT" -C "$ROOT" "$@"; }
in_bare() { git -C "$DIRECTORY/repository.git" "$@"; }

# A bare repository for the servers to fetch from. `first` and `next` are its two commits to publish.
make_repository() {
    [ -d "$DIRECTORY/repository.git" ] || quietly git init -q --bare "$DIRECTORY/repository.git"
    in_bare config receive.shallowUpdate true
    in_bare config uploadpack.allowAnySHA1InWant true
    in_bare symbolic-ref HEAD refs/heads/main
    next=$(in_checkout rev-parse HEAD)
    first=$(in_checkout rev-parse -q --verify 'HEAD^' || echo "$next")
    quietly in_checkout push -q -f "$DIRECTORY/repository.git" "$next:refs/heads/next"
    if [ "$first" = "$next" ]; then
        say 'the history of this checkout has one commit; the next one is made on top of it, in the bare repository only'
        next=$(commit_on_top "$first")
    fi
    in_bare update-ref refs/heads/main "$first"
    file=$(changed_file M)
    [ -n "$file" ] || file=$(changed_file A)
    [ -n "$file" ] || file=$(in_bare ls-tree -r --name-only "$next" | head -n 1)
}

# An ordinary file that was added (A) or changed (M) from the first to the next commit.
changed_file() {
    in_bare -c core.quotePath=false diff --raw --no-renames --diff-filter="$1" "$first" "$next" | sed -nE '/^:[0-7]+ 100/{s/^[^\t]*\t//p;q}'
}

commit_on_top() {
    local blob tree
    blob=$(echo 'The next commit of the quickstart.' | in_bare hash-object -w --stdin)
    tree=$({ in_bare ls-tree "$1" | grep -v $'\tQUICKSTART.txt$' || true; printf '100644 blob %s\tQUICKSTART.txt\n' "$blob"; } | in_bare mktree)
    in_bare -c user.name=quickstart -c user.email=quickstart@localhost commit-tree -p "$1" -m 'The next commit of the quickstart' "$tree"
}

described() { in_bare show -s --format='%h %s' "$1"; }

publish() {
    in_bare update-ref refs/heads/main "$1"
    say "main is at $(described "$1")"
    play playbooks/deploy.yml -e "@$DIRECTORY/vars.yml" -e zoo_ref=main -e "zoo_min_agents=$2" -e zoo_wait_timeout=60
}

up() {
    cd "$ROOT"
    command -v git >/dev/null || fail 'no git on PATH; install it'
    in_checkout rev-parse -q --verify HEAD >/dev/null 2>&1 ||
        fail "$ROOT is no git checkout with a commit; the quickstart deploys this project's own history, so run it in a clone of it"
    mkdir -p "$DIRECTORY"
    DIRECTORY=$(cd "$DIRECTORY" && pwd) BIN=$DIRECTORY/venv/bin
    printf '%szoo.deploy on one machine%s, all of it in %s\n' "$bold" "$plain" "$DIRECTORY"

    step 'Java, ZooKeeper and nginx from Debian; ansible-core, kazoo and GitPython in an environment of their own'
    local python missing
    missing=$(missing_packages)
    # shellcheck disable=SC2086 # one word for each package
    [ -z "$missing" ] || install_packages $missing
    python=$(find_python) || fail 'no Python 3.11 or later on PATH; install one'
    make_environment "$python"
    say "$("$BIN/python" -c 'from importlib.metadata import version as v
print(", ".join(f"{name} {v(name)}" for name in ("ansible-core", "kazoo", "GitPython")))'), $(nginx -v 2>&1 | sed 's/.*: //')"
    report_time
    began=$EPOCHREALTIME

    export LC_ALL=C.UTF-8 ANSIBLE_CONFIG=$ROOT/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$ROOT/collections ANSIBLE_HOME=$DIRECTORY/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_FORCE_COLOR=0
    "$BIN/python" playbooks/quickstart/prepare.py "$DIRECTORY" || exit 1
    # shellcheck source=/dev/null
    . "$DIRECTORY/env"
    # A fifth server of an earlier run would not be a newcomer.
    end_processes "$DIRECTORY"/server5/{agent,nginx}.pid >/dev/null
    rm -rf "$DIRECTORY/server5"

    step 'An ensemble of three'
    play playbooks/quickstart/ensemble.yml
    play playbooks/ensemble.yml
    report_time

    step 'Four directories become servers: the role zoo.deploy.watcher, an nginx, an agent'
    play playbooks/quickstart/servers.yml -l servers
    prove ready "${FOUR[@]}"
    say "each is in a directory: ${DIRECTORY#"$PWD/"}/server1 ... server4"
    report_time

    step 'Publish a commit; every server fetches it, activates it and proves it'
    make_repository
    publish "$first" 4
    prove serves "$first" "$file" "${FOUR[@]}"
    report_time

    step 'Publish the next one'
    publish "$next" 4
    prove serves "$next" "$file" "${FOUR[@]}"
    report_time

    step 'The servers are an inventory, found in ZooKeeper'
    prove registered "${FOUR[@]}"
    graph "${FOUR[@]}"
    report_time

    step "Stop server4's nginx: it leaves the inventory; start it again: it is back"
    quietly sh "$PROCESSES" end "$DIRECTORY/server4/nginx"
    prove registered "${FOUR[@]:0:3}"
    graph "${FOUR[@]:0:3}"
    quietly sh "$PROCESSES" start "$DIRECTORY/server4/nginx" "$(web_port server4)" nginx -p "$DIRECTORY/server4/" -c "$DIRECTORY/server4/nginx.conf"
    prove registered "${FOUR[@]}"
    report_time

    step 'Apply the role to a fifth server: it comes up with the right commit'
    play playbooks/quickstart/servers.yml -l newcomers
    play playbooks/scale_out.yml -l newcomers
    prove serves "$next" "$file" server5
    prove registered "${FIVE[@]}"
    graph "${FIVE[@]}"
    report_time

    step 'Where everything is'
    play playbooks/status.yml
    report_time
    farewell
}

farewell() {
    local directory
    directory=$(printf %q "${DIRECTORY#"$PWD/"}")
    printf '\n%sEverything worked, in %s.%s It stays up. Some things to try:\n\n' "$bold" "$(seconds_since "$began")" "$plain"
    [ "$started_in" = "$PWD" ] || printf '    cd %q\n' "$PWD"
    printf '    %-66s # %s\n' \
        ". $directory/env" 'ansible-playbook and ZK_HOSTS for this shell' \
        'ansible-playbook playbooks/status.yml' 'who runs what' \
        "ansible-playbook playbooks/deploy.yml -e zoo_ref=$(in_bare rev-parse --short "$first")" 'any commit, an earlier one too' \
        "ansible-inventory -i $directory/discovered.zk_services.yml --list" 'the hosts with their variables' \
        "ls -l $directory/server1/www" 'the link that is swapped' \
        "kill \$(cat $directory/server2/nginx.pid)" 'a server leaves the inventory' \
        'bash playbooks/quickstart.sh' 'all of it again, over what runs' \
        'bash playbooks/quickstart.sh down' 'the end'
}

# Stop the processes of these pid files; prints how many there were.
end_processes() {
    local file ended=0
    for file in "$@"; do
        [ -e "$file" ] || continue
        [ "$(sh "$PROCESSES" end "${file%.pid}")" != ended ] || ended=$((ended + 1))
    done
    echo "$ended"
}

down() {
    [ -d "$DIRECTORY" ] || fail "nothing is in $DIRECTORY"
    DIRECTORY=$(cd "$DIRECTORY" && pwd)
    local ended
    ended=$(end_processes "$DIRECTORY"/server?/{agent,nginx}.pid "$DIRECTORY"/zk?/zookeeper.pid)
    rm -rf "$DIRECTORY"/server? "$DIRECTORY"/zk? "$DIRECTORY"/{agent,ansible,repository.git,inventory.yml,discovered.zk_services.yml,vars.yml,env,ports.json,step.log}
    printf '%s processes ended; only the downloads are left, in %s\n' "$ended" "$DIRECTORY"
}

case ${1:-up} in
up) up ;;
down) down ;;
*) fail "expected up or down, got $1" ;;
esac
