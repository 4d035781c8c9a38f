# Functions for tests/package.sh, tests/systemd.sh and tests/container.sh. A script that
# sources this file sets $log to a file, and defines finish, which calls finish_as with the
# script's name.
# shellcheck shell=bash

passed=0
failed=0

# One test: a name, and a command that must succeed. If it fails, its output is shown.
check() {
    local name=$1
    shift
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n' "$name"
        tail -n 30 "$log" | sed 's/^/    /'
        return 1
    fi
}

# Like check, for a test without which the later ones make no sense.
need() { check "$@" || finish; }

# Prints the last line and exits. $1: the name of the test.
finish_as() {
    printf '%s: %d ok, %d not\n' "$1" $passed $failed
    [ $failed -eq 0 ] && [ $passed -gt 0 ]
    exit
}

has() { grep -q -- "$2" "$1" || { echo "no '$2' in $1, which ends:"; tail -n 25 "$1"; return 1; }; }

# Makes another version of the package $1 as $2. $3: the version; $4: a sed script for
# its configuration.
repack() {
    local tree
    tree=$(mktemp -d) || return 1
    dpkg-deb -R "$1" "$tree" && sed -i "s/^Version: .*/Version: $3/" "$tree/DEBIAN/control" &&
        sed -i "${4-}" "$tree/etc/jabsocket.conf" && dpkg-deb --root-owner-group -Zgzip -b "$tree" "$2"
    rm -rf "$tree"
}

# The root for in_root is $root.
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} "$@"; }

# The instructions of conf/Containerfile, one a line. $1: the stage, counted from 1. $2: the
# name of the instructions.
instructions() {
    sed -e ':join' -e '/\\$/{N;s/\\\n */ /;b join' -e '}' conf/Containerfile |
        awk -v stage="$1" -v name="$2" '/^FROM / { at++ } at == stage && $1 == name { sub(/^[A-Z]+ +/, ""); print }'
}

# Runs the RUN instructions of a stage in the root. $1: the stage, $2: the directory there.
run_instructions() {
    local line
    instructions "$1" RUN >"$log.instructions"
    [ -s "$log.instructions" ] || { echo "stage $1 has no RUN"; return 1; }
    while IFS= read -r line <&4; do
        echo "RUN $line"
        in_root sh -c "cd $2 && $line" </dev/null || return 1
    done 4<"$log.instructions"
}

# Does a browser's opening handshake and a Ping. bash runs it in the daemon's network.
# Arguments: path, Host, Origin, port (default 5000). The key and its answer are those of
# RFC 6455.
# shellcheck disable=SC2016,SC2034
browser='
exec 3<>/dev/tcp/127.0.0.1/${4:-5000} || exit 1
printf "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Version: 13\r\n\r\n" "$1" "$2" "$3" >&3
accepted=
IFS= read -r -t 10 status <&3 || exit 1
while IFS= read -r -t 10 line <&3 && [ "$line" != $'\''\r'\'' ]; do
    [ "$line" = $'\''Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r'\'' ] && accepted=yes
done
echo "$status"
[ "$status" = $'\''HTTP/1.1 101 Switching Protocols\r'\'' ] && [ -n "$accepted" ] || exit 1
printf "\x89\x84\0\0\0\0abcd" >&3
pong=$(timeout 10 head -c 6 <&3 | od -An -tx1 | tr -d " ")
[ "$pong" = 8a0461626364 ] || { echo "instead of a Pong: $pong"; exit 1; }
'
