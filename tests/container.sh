#!/bin/bash
# Makes the image of conf/Containerfile without a container tool, and runs it as a container
# would: as its user, without capabilities, with a read-only root, in namespaces of its own
# where the daemon is process 1.
#
#   tests/container.sh ROOT PACKAGE
#
# ROOT is a directory with a Debian from debootstrap, which becomes the image. PACKAGE is
# what the first stage builds; tests/package.sh builds it by the same file. The script needs
# root and namespaces. Without them it says so and exits with status 77. Otherwise the last
# line is "container: N ok, M not".

set -u
root=$(cd "$1" && pwd) && package=$(realpath "$2") || exit 1
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

work=$(mktemp -d) || exit 1
log=$work/log
container=
daemon=
. tests/checks.sh

finish() { finish_as container; }

end() {
    trap '' INT TERM HUP
    # Its end ends the PID namespace, its mounts and its network.
    [ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null
    [ -z "$container" ] || { kill -KILL "$container"; wait "$container"; } 2>/dev/null
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- The image -----------------------------------------------------------------

# The package is copied before the RUN instructions, everything else after them.
makes_image() {
    local from to count=0
    cp "$package" "$root/tmp/jabsocket.deb" && run_instructions 2 / || return 1
    while read -r from to; do
        case $from in
            --from=build) [ "$to" = '/source/jabsocket.deb /tmp/jabsocket.deb' ] || return 1 ;;
            *) cp "$from" "$root$to" || return 1 ;;
        esac
        count=$((count + 1))
    done < <(instructions 2 COPY)
    [ $count = 2 ] && [ ! -e "$root/tmp/jabsocket.deb" ] && ! in_root sh -c 'command -v cargo || command -v gcc'
}

is_checked() { in_root jabsocket --check-config; }

# --- The container -------------------------------------------------------------

# The first process in the namespaces, which becomes the entry point. $1: the root, $2 and
# $3: user and group, then the entry point.
# shellcheck disable=SC2016
start='
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t proc proc "$1/proc"
ip link set lo up
root=$1 user=$2 group=$3
shift 3
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --reuid "$user" --regid "$group" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
'

# Whether this machine permits everything in $start.
can_run() {
    [ "$(id -u)" = 0 ] || { echo 'this script needs root'; return 1; }
    timeout 20 unshare --pid --mount --net --ipc --uts --fork --kill-child --propagation private \
        sh -ec 'mount -t proc proc /proc; mount -t tmpfs tmpfs /mnt; ip link set lo up'
}

starts() {
    local tries entry user
    user=$(instructions 2 USER)
    [[ $user == [1-9]*:[1-9]* ]] || { echo "the user is not a number: $user"; return 1; }
    read -r -a entry < <(instructions 2 ENTRYPOINT | tr -d '[]",')
    : >"$work/output"
    setpriv --pdeathsig KILL unshare --pid --mount --net --ipc --uts --fork --kill-child --propagation private \
        sh -c "$start" start "$root" "${user%:*}" "${user#*:}" "${entry[@]}" >"$work/output" 2>&1 &
    container=$!
    for ((tries = 0; tries < 600; tries++)); do
        if grep -q 'listening on' "$work/output"; then
            daemon=$(cat "/proc/$container/task/$container/children") && daemon=${daemon% } && [ -n "$daemon" ]
            return
        fi
        kill -0 $container 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/output"
    return 1
}

# Runs a command in the container, as its user.
inside() {
    local user
    user=$(instructions 2 USER)
    nsenter --target "$daemon" --pid --mount --net --ipc --uts chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs timeout 30 "$@"
}

is_process_one() {
    local status=/proc/$daemon/status
    grep -E '^(Name|NSpid|Uid|Cap|NoNew)' "$status"
    has "$status" '^Name:[[:space:]]*jabsocket$' && has "$status" '^NSpid:[[:space:]].*[[:space:]]1$' &&
        has "$status" "^Uid:[[:space:]]*$(instructions 2 USER | cut -d : -f 1)[[:space:]]" &&
        has "$status" '^CapEff:[[:space:]]*0*$' && has "$status" '^CapBnd:[[:space:]]*0*$'
}

is_read_only() {
    ! touch "/proc/$daemon/root/tmp/x" && ! inside touch /tmp/x && ! inside touch /etc/jabsocket.conf
}

serves() { nsenter --target "$daemon" --net bash -c "$browser" browser / localhost:5000 http://example.com; }

health() { instructions 2 HEALTHCHECK | sed -n 's/^.* CMD //p'; }
is_healthy() { [ -n "$(health)" ] && inside sh -c "$(health)"; }
# Where nothing listens, and where something else answers.
is_not_healthy_elsewhere() {
    local command
    command=$(health)
    ! unshare --net sh -c 'ip link set lo up; exec sh -c "$0"' "$command" && ! inside sh -c "${command/healthz/nothing}"
}

# Health checks leave orphans, for example when their time is over.
reaps_orphans() {
    local tries
    inside sh -c 'sleep 0.1 & sleep 0.2 & sleep 0.3 &'
    for ((tries = 0; tries < 600; tries++)); do
        [ -z "$(cat "/proc/$daemon/task/$daemon/children")" ] && return 0
        sleep 0.05
    done
    echo 'there are children left'
    return 1
}

# A session that is open gets a Close frame with code 1001, and answers it.
# shellcheck disable=SC2016
open_browser='
exec 3<>/dev/tcp/127.0.0.1/5000 || exit 1
printf "GET / HTTP/1.1\r\nHost: localhost:5000\r\nOrigin: http://example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Version: 13\r\n\r\n" >&3
while IFS= read -r -t 30 line <&3 && [ "$line" != $'\''\r'\'' ]; do
    [[ $line != HTTP* || $line == *101* ]] || exit 1
done
: >"$1"
bytes=$(timeout 60 head -c 4 <&3 | od -A n -t x1 | tr -d " ")
printf "\x88\x82\0\0\0\0\x03\xe9" >&3
[[ $bytes == 88??03e9 ]]
'

stops() {
    local tries status client
    nsenter --target "$daemon" --net bash -c "$open_browser" browser "$work/open" &
    client=$!
    for ((tries = 0; tries < 600; tries++)); do
        [ ! -e "$work/open" ] || break
        sleep 0.05
    done
    kill -s "$(instructions 2 STOPSIGNAL)" "$daemon"
    wait $client || { echo 'the session got no Close frame with 1001'; return 1; }
    wait $container
    status=$?
    container= daemon=
    cat "$work/output"
    [ $status = 0 ] && has "$work/output" 'SIGTERM: stopping, 1 sessions to drain'
}

# -------------------------------------------------------------------------------

if ! can_run >"$log" 2>&1; then
    echo "container: skipped, this machine does not permit it: $(tail -n 1 "$log")"
    exit 77
fi
need 'the instructions of the Containerfile make the image' makes_image
check 'its configuration is valid' is_checked
need 'the entry point serves, with a read-only root' starts
check 'it is process 1, as a user without capabilities' is_process_one
check 'it cannot write anywhere' is_read_only
check 'it serves a browser' serves
check 'the health check finds it healthy' is_healthy
check 'the health check fails where it is not' is_not_healthy_elsewhere
check 'it waits for orphans' reaps_orphans
check 'SIGTERM drains: a session gets Close 1001, and the exit status is 0' stops
finish
