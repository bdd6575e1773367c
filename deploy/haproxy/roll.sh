#!/bin/sh
# Restart one server while HAProxy sends no new client to it.
#
#     roll.sh BACKEND/SERVER COMMAND...
#
# COMMAND restarts the server; it ends when the new process serves, as systemctl does.
set -eu
name=$1
shift

ask() {
    echo "$1" | socat -t 9 - "UNIX-CONNECT:${HAPROXY_SOCKET:-/run/haproxy/admin.sock}"
}

tell() {
    answer=$(ask "$1")
    [ -z "$answer" ] || { echo "$answer" >&2; exit 1; }
}

field() {
    ask "show stat" | awk -F, -v name="$name" -v field="$1" '$1 "/" $2 == name { print $field }'
}

# As long as HAProxy asks the agent, its "ready" ends any other state.
agent=$(field 63)
tell "disable agent $name"
tell "set server $name state drain"
tries=0
until [ "$(field 5)" = 0 ] || [ "$((tries += 1))" -gt 120 ]; do
    sleep 0.5  # clients that stay for more than a minute are drained by the server
done
"$@"
tell "set server $name state ready"
[ -z "$agent" ] || tell "enable agent $name"
until [ "$(field 18)" = UP ]; do
    sleep 0.5
done
