#!/bin/bash
# Tests the fail2ban filter in conf/ with log lines from jabsocket. It must match the
# lines with the address of a client that exceeded a limit, and no others. fail2ban must
# read the jail in the filter's head as it is meant.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
cp -r /etc/fail2ban/{fail2ban.conf,jail.conf,paths-*.conf,filter.d,action.d} "$directory" || exit 1
filter=$directory/filter.d/jabsocket.conf
cp conf/fail2ban.conf "$filter" || exit 1
sed -n 's/^#     //p' "$filter" >"$directory/jail.local"

matched() {
    fail2ban-regex "$1" "$filter" 2>/dev/null |
        sed -nE 's/^Lines: .* ([0-9]+) matched.*/\1/p'
}

check() {
    local expected=$1 line=$2 found
    found=$(matched "Nov 24 00:00:00 host $line")
    [ "$found" = "$expected" ] && return
    printf 'matched %s times instead of %s: %s\n' "${found:-no}" "$expected" "$line"
    failed=1
}

failed=0
check 1 'jabsocket[7]: limit: 192.0.2.7 exceeded max_connections_per_address'
check 1 'jabsocket[7]: limit: 2001:db8::7 exceeded max_message_size: message of 9 bytes or more is too big'
check 1 'jabsocket[7]: warning: limit: 192.0.2.7 exceeded handshake_timeout'
check 0 'jabsocket[7]: limit: max_connections reached, 192.0.2.7 turned away'
check 0 'jabsocket[7]: limit: 12 more lines were suppressed'
check 0 'jabsocket[7]: session 192.0.2.7:1 origin=limit:\x20192.0.2.8\x20exceeded\x20x ended'
if ! fail2ban-client -c "$directory" -d 2>&1 | grep -qxF "['add', 'jabsocket', 'systemd']"; then
    echo 'the jail has another backend'
    failed=1
fi
[ $failed = 0 ] && echo 'fail2ban: the filter matches as expected, and the jail is read'
exit $failed
