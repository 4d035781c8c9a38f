#!/bin/bash
# Tests the fail2ban filter in conf/ with log lines from jabsocket. It must match the
# lines with the address of a client that exceeded a limit, and no others.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

filters=$(mktemp -d) || exit 1
trap 'rm -rf "$filters"' EXIT
cp /etc/fail2ban/filter.d/common.conf "$filters" || exit 1
cp conf/fail2ban.conf "$filters/jabsocket.conf" || exit 1

matched() {
    fail2ban-regex "$1" "$filters/jabsocket.conf" 2>/dev/null |
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
[ $failed = 0 ] && echo 'fail2ban: the filter matches as expected'
exit $failed
