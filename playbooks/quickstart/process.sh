#!/bin/sh
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A background process, by its pid file: NAME is a path, NAME.pid and NAME.log are created.
#   process.sh start NAME PORT COMMAND...   start it, unless it runs, and wait until it listens on PORT (`-`: until COMMAND runs);
#                                           prints "started" or "runs", or fails with the end of NAME.log
#   process.sh end NAME                     stop it if it runs, by TERM and after 15 s by KILL; prints "ended" or "was not running"
set -u
verb=$1 name=$2
shift 2

# By now, a pid in a file may belong to another process: ours has the directory of its pid file in its command line.
runs() {
    pid=$(cat "$name.pid" 2>/dev/null) && [ -n "$pid" ] && lives && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$(dirname "$name")/"
}

# A process that becomes another program has no command line for a moment, so this does not look at it.
lives() { [ -r "/proc/$pid/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; }

# Whether the process itself has a socket that listens on the port, which another process may have taken.
listens() {
    inodes=$(awk -v port="$(printf '%04X' "$1")" '$4 == "0A" && $2 ~ ":" port "$" { print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    for socket in "/proc/$pid/fd/"*; do
        for inode in $inodes; do
            [ "$(readlink "$socket")" = "socket:[$inode]" ] && return
        done
    done
    return 1
}

# Whether it is no longer the shell that is to become the command.
is_the_command() { [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | head -n 1)" = "$1" ]; }

is_up() { if [ "$1" = - ]; then is_the_command "$2"; else listens "$1"; fi; }

# Wait up to so many seconds until a command succeeds, as long as the process lives.
wait_while_it_lives() {
    tries=$(($1 * 10))
    shift
    while lives; do
        "$@" && return
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
        tries=$((tries - 1))
    done
    return 1
}

case $verb in
start)
    port=$1 answer=runs
    shift
    if ! runs; then
        setsid nohup "$@" >>"$name.log" 2>&1 </dev/null &
        pid=$! answer=started
        echo "$pid" >"$name.pid"
    fi
    if ! wait_while_it_lives 60 is_up "$port" "$1"; then
        if lives; then echo "$name does not listen on port $port; the end of $name.log:"; else echo "$name did not start; the end of $name.log:"; fi >&2
        tail -n 10 "$name.log" >&2
        exit 1
    fi
    echo "$answer"
    ;;
end)
    if runs; then
        kill "$pid"
        wait_while_it_lives 15 false
        if lives; then kill -KILL "$pid"; fi
        echo ended
    else
        echo was not running
    fi
    rm -f "$name.pid"
    ;;
*)
    echo "process.sh: expected start or end, got $verb" >&2
    exit 2
    ;;
esac
