#!/bin/bash
# The page of metrics against promtool, Prometheus' own judge of it.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

daemon=target/release/jabsocket
[ -x $daemon ] || daemon=target/debug/jabsocket
work=$(mktemp -d) || exit 1
pid=
trap '[ -n "$pid" ] && kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

printf '%s\n' 'port: 0' 'listen: 127.0.0.1' 'status_listen: 127.0.0.1:0' \
    'domains: [example.com, "*.example.org"]' >"$work/conf"
$daemon -n -c "$work/conf" 2>"$work/log" &
pid=$!
# Waits for the line, which ends the pipe at once.
url=$(timeout 10 tail -n +1 -f --pid=$pid "$work/log" | sed -nE '/status at (http.*)/{s//\1/;s/.*(http)/\1/p;q}')
[ -n "$url" ] || { echo 'metrics: the daemon does not start:'; cat "$work/log"; exit 1; }

address=${url#http://}
address=${address%/metrics}
exec 3<>"/dev/tcp/${address%:*}/${address##*:}" || exit 1
printf 'GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n' "$address" >&3
timeout 10 cat <&3 | sed '1,/^\r$/d' >"$work/page"
exec 3>&-

lines=$(grep -c '^jabsocket_' "$work/page")
[ "$lines" -gt 100 ] || { echo "metrics: only $lines samples"; exit 1; }
promtool check metrics <"$work/page" || exit 1
echo "metrics: promtool finds nothing in $lines samples"
