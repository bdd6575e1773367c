#!/bin/sh
# Restart one server while HAProxy sends no new client to it.
#
#     roll.sh BACKEND/SERVER COMMAND...
#
# COMMAND restarts the server; it ends when the new process serves, as systemctl does.
set -eu
backend=${1%/*} server=${1#*/}
shift

ask() {
    echo "$1" | socat -t 9 - "UNIX-CONNECT:${HAPROXY_SOCKET:-/run/haproxy/admin.sock}"
}

field() {
    ask "show stat" | awk -F, -v b="$backend" -v s="$server" -v f="$1" '$1 == b && $2 == s { print $f }'
}

# As long as the agent is asked, its "ready" ends any other state.
ask "disable agent $backend/$server"
ask "set server $backend/$server state drain"
tries=0
until [ "$(field 5)" = 0 ] || [ "$((tries += 1))" -gt 120 ]; do
    sleep 0.5  # clients that stay for more than a minute are drained by the server
done
"$@"
ask "set server $backend/$server state ready"
ask "enable agent $backend/$server"
until [ "$(field 18)" = UP ]; do
    sleep 0.5
done
