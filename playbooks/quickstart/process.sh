#!/bin/sh
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A process of its own, by its pid file: NAME is a path, NAME.pid and NAME.log are made.
#   process.sh start NAME COMMAND...   start it, unless it runs; says "started" or "runs"
#   process.sh end NAME                end it where it runs, by TERM and after 15 s by KILL; says "ended" or "was not running"
set -u
verb=$1 name=$2
shift 2

# A number in a file may be another process's by now: ours has the directory of its pid file in its command line.
runs() {
    pid=$(cat "$name.pid" 2>/dev/null) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$(dirname "$name")/" &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

case $verb in
start)
    if runs; then
        echo runs
        exit 0
    fi
    setsid nohup "$@" >>"$name.log" 2>&1 </dev/null &
    echo $! >"$name.pid"
    echo started
    ;;
end)
    if runs; then
        kill "$pid"
        tries=0
        while runs && [ "$tries" -lt 150 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
        if runs; then kill -KILL "$pid"; fi
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
