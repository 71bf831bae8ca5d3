#!/usr/bin/env bash
# Process 1 of both images: the agent, and next to it the command of the image (nginx), if there is one.
#
# SIGTERM stops the agent first, which withdraws the registration, and then the command. If one of the two ends on its own,
# the other is stopped too, and the container's exit status is that of the first. Bash reaps orphaned processes.
set -uo pipefail

CONFIG=/etc/zoo-watcher/business.json
SCHEMES='["https", "ssh"]'

fail() {
    echo "run.sh: $*" >&2
    exit 2
}

# Your own configuration, mounted in its place, counts instead.
write_config() {
    [[ ${URL:-} =~ ^[[:alnum:].:_-]+$ ]] || fail "URL: expected the address to register, as 127.0.0.1, got '${URL:-}'"
    [[ ${PORT:-} =~ ^[1-9][0-9]*$ ]] || fail "PORT: expected the port to register, as 9099, got '${PORT:-}'"
    [[ ${CHECK_PORT:=80} =~ ^[1-9][0-9]*$ ]] || fail "CHECK_PORT: expected a port in this container, got '$CHECK_PORT'"
    cat >"$CONFIG" <<END
{
  "app": "${APP:-/app/business}",
  "base": "/srv/business",
  "name": "$URL-$PORT",
  "allowed_schemes": ${ALLOWED_SCHEMES:-$SCHEMES},
  "services": [
    {
      "path": "${REGISTRY:-/service/business/what}",
      "address": "$URL",
      "port": $PORT,
      "check": {"type": "http", "port": $CHECK_PORT, "path": "${CHECK_PATH:-/health}"}
    }
  ]
}
END
}

agent='' command='' stopped=''
trap 'stopped=yes; [ -z "$agent" ] || kill "$agent"' TERM INT

[ -s "$CONFIG" ] || write_config
as_agent=()
[ "$EUID" != 0 ] || as_agent=(setpriv --reuid=zoo-watcher --regid=zoo-watcher --init-groups --no-new-privs)

if [ $# != 0 ]; then
    "$@" &
    command=$!
fi
"${as_agent[@]}" zoo-watcher run --config "$CONFIG" &
agent=$!
[ -z "$stopped" ] || kill "$agent"

# Until one of them ends, or the container is stopped.
# shellcheck disable=SC2086 # no word where there is no command
wait -n "$agent" $command
status=$?

trap '' TERM INT
kill "$agent" 2>/dev/null
wait "$agent"
if [ -n "$command" ]; then
    # Readers of the registry stop sending requests here.
    [ -z "$stopped" ] || sleep "${DRAIN_SECONDS:-1}"
    kill -s "${COMMAND_STOP_SIGNAL:-TERM}" "$command" 2>/dev/null
    wait "$command"
fi
[ -z "$stopped" ] || exit 0
# Nobody has asked either of them to stop.
exit $((status ? status : 1))
