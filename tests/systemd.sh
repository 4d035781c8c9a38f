#!/bin/bash
# Boots a Debian with its own systemd, in namespaces and without a container tool, and
# tests the package's unit there: reload, watchdog, socket activation, restart
# under load, workers, upgrade in place, upgrade of the package, purge.
#
#   tests/systemd.sh ROOT PACKAGE
#
# ROOT is a directory with a Debian from debootstrap, without jabsocket. The script
# installs systemd there if it is missing. It needs root, namespaces and cgroup2. Without
# them it says so and exits with status 77. Otherwise the last line is "systemd: N ok, M
# not". No process and no mount remains.

set -u
root=$(cd "$1" && pwd) && package=$(realpath "$2") || exit 1
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

work=$(mktemp -d) || exit 1
log=$work/log
namespaces=
init=
cgroup=
. tests/checks.sh

finish() { finish_as systemd; }

end() {
    trap '' INT TERM HUP
    local tries
    # The end of its first process ends a PID namespace, its mounts and its network.
    [ -z "$init" ] || kill -KILL "$init" 2>/dev/null
    [ -z "$namespaces" ] || { kill -KILL "$namespaces"; wait "$namespaces"; } 2>/dev/null
    for ((tries = 0; tries < 100; tries++)); do
        [ -n "$cgroup" ] && [ -d "$cgroup" ] || break
        find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || sleep 0.05
    done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- The machine ---------------------------------------------------------------

# The first process in the namespaces, until systemd replaces it. $1: the root. /sys is
# read-only and some capabilities are dropped. systemd then leaves devices, modules and
# the clock to the host.
boot='
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
ip link set lo up
hostname jabsocket-test
pivot_root . mnt
exec chroot . /usr/bin/env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c "umount -l /mnt && exec setpriv --bounding-set -sys_module,-sys_time,-sys_rawio /lib/systemd/systemd"
'

# Makes a cgroup for systemd, below the cgroup of this script.
make_cgroup() {
    local hierarchy own
    hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    [ -n "$hierarchy" ] && [ -n "$own" ] || { echo 'no cgroup2 is mounted'; return 1; }
    mkdir "$hierarchy$own/jabsocket-test.$$" && cgroup=$hierarchy$own/jabsocket-test.$$
}

# Enters the cgroup $1 and new namespaces, and runs the other arguments as first process.
enter='
echo $$ >"$0/cgroup.procs" && exec unshare --cgroup --pid --mount --uts --ipc --net \
    --fork --kill-child --propagation private "$@"
'

# Whether this machine permits everything in $boot.
can_boot() {
    [ "$(id -u)" = 0 ] || { echo 'this script needs root'; return 1; }
    make_cgroup && timeout 20 sh -c "$enter" "$cgroup" sh -ec \
        'mount -t proc proc /proc; mount -t tmpfs tmpfs /mnt; mkdir /mnt/cgroup; mount -t cgroup2 cgroup2 /mnt/cgroup; ip link set lo up'
}

boots() {
    local tries state
    setpriv --pdeathsig KILL sh -c "$enter" "$cgroup" bash -c "$boot" boot "$root" >"$work/boot" 2>&1 &
    namespaces=$!
    for ((tries = 0; tries < 200; tries++)); do
        init=$(cat "/proc/$namespaces/task/$namespaces/children" 2>/dev/null) && init=${init% }
        [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && break
        kill -0 "$namespaces" 2>/dev/null || break
        sleep 0.05
    done
    # Only processes of systemd remain in its cgroup.
    echo "$namespaces" >"${cgroup%/*}/cgroup.procs"
    for ((tries = 0; tries < 200; tries++)); do
        inside systemctl is-system-running >"$work/state" 2>&1
        state=$(cat "$work/state")
        case $state in running) return 0 ;; degraded) break ;; esac
        sleep 0.1
    done
    cat "$work/boot"
    echo "state: $state"
    inside systemctl --failed --no-pager
    return 1
}

# Runs a command in the booted system, with a time limit.
inside() {
    nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup \
        /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER= \
        timeout --kill-after=5 90 "$@"
}

# Also installs the package's dependencies, because the booted system has no network.
install_systemd() {
    rm -rf "$root/usr/sbin/policy-rc.d" "$root/run/systemd"
    # shellcheck disable=SC2154
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} \
        apt-get -q -y --no-install-recommends satisfy systemd-sysv "$(dpkg-deb -f "$package" Depends)"
}

# --- The service ---------------------------------------------------------------

property() { inside systemctl show --property "$1" --value jabsocket.service; }
main_pid() { property MainPID; }
# A minimal Debian has no kill program. The shell has one.
signal() { inside sh -c "kill -$1 $2"; }

# Waits for the command to succeed.
await() {
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        "$@" && return
        sleep 0.1
    done
    echo "waited in vain for: $*"
    inside systemctl status --no-pager jabsocket.service
    return 1
}

# Whether the service is up with a main process other than $1.
is_up_anew() {
    local pid
    [ "$(property ActiveState)" = active ] && pid=$(main_pid) && [ "$pid" != 0 ] && [ "$pid" != "$1" ]
}

configure() { printf '%s\n' 'listen: 127.0.0.1' 'domains: [example.com]' 'log_level: LOG_INFO' "$@" >"$root/etc/jabsocket.conf"; }

# Writes the settings to a drop-in for this test.
set_up_unit() {
    mkdir -p "$root/etc/systemd/system/jabsocket.service.d" &&
        printf '%s\n' '[Service]' "$@" >"$root/etc/systemd/system/jabsocket.service.d/test.conf" && inside systemctl daemon-reload
}

# Resets systemd's limit on starts first.
restart() { inside systemctl reset-failed jabsocket.service; inside systemctl restart jabsocket.service; }

# Does a browser's opening handshake and a Ping. Arguments: path and port.
browse() { timeout 30 nsenter --target "$init" --net bash -c "$browser" browser "$1" localhost:5000 http://example.com "${2:-5000}"; }

installs() {
    inside dpkg -i /root/jabsocket.deb && inside systemctl is-active jabsocket.service &&
        inside systemctl is-enabled jabsocket.service && browse /
}

is_confined() {
    local pid
    pid=$(main_pid)
    inside cat "/proc/$pid/status" >"$work/status" || return 1
    [ "$(inside stat -c %U "/proc/$pid")" = jabsocket ] && has "$work/status" '^CapEff:[[:space:]]*0*$' &&
        has "$work/status" '^CapBnd:[[:space:]]*0*$' && has "$work/status" '^NoNewPrivs:[[:space:]]*1$' &&
        has "$work/status" '^Seccomp:[[:space:]]*2$'
}

logs() {
    inside journalctl --sync && inside journalctl --quiet --unit jabsocket.service >"$work/journal" &&
        has "$work/journal" 'listening on 127.0.0.1:5000'
}

reloads() {
    local pid
    configure 'resource: /chat'
    restart && pid=$(main_pid) && browse /chat && ! browse /talk || return 1
    configure 'resource: /talk'
    inside systemctl reload jabsocket.service && await browse /talk && ! browse /chat && [ "$(main_pid)" = "$pid" ]
}

refuses_bad_reload() {
    local pid
    pid=$(main_pid)
    configure 'resource: /chat' 'write_timeout: nonsense'
    ! inside systemctl reload jabsocket.service && [ "$(main_pid)" = "$pid" ] && browse /talk && ! browse /chat &&
        inside journalctl --sync && inside journalctl --quiet --unit jabsocket.service >"$work/journal" && has "$work/journal" nonsense
}

refuses_bad_start() {
    ! restart && [ "$(property ActiveState)" != active ] || return 1
    configure
    restart && browse /
}

dies_of_watchdog() {
    local pid
    set_up_unit WatchdogSec=2 && restart && pid=$(main_pid) && signal STOP "$pid" && await is_up_anew "$pid" && browse / || return 1
    inside journalctl --sync && inside journalctl --quiet --unit jabsocket.service >"$work/journal" && has "$work/journal" 'Watchdog timeout'
}

workers_of_main() { inside cat "/proc/$(main_pid)/task/$(main_pid)/children"; }
last_worker() { workers_of_main | awk '{ print $NF }'; }

has_workers() {
    local pid worker
    configure 'workers: 2'
    restart && [ "$(workers_of_main | wc -w)" = 2 ] && browse / && pid=$(main_pid) && worker=$(last_worker) || return 1
    # The master replaces a worker that dies.
    signal KILL "$worker" && await has_other_worker "$worker" && browse / && [ "$(main_pid)" = "$pid" ] &&
        [ "$(property ActiveState)" = active ]
}
# The master notices a worker that hangs, before systemd does.
replaces_hung_worker() {
    local pid worker
    pid=$(main_pid) && worker=$(last_worker) && signal STOP "$worker" && await has_other_worker "$worker" && browse / &&
        [ "$(main_pid)" = "$pid" ] && [ "$(property ActiveState)" = active ] || return 1
    inside journalctl --sync && inside journalctl --quiet --unit jabsocket.service >"$work/journal" && has "$work/journal" 'sent no heartbeat for 2 s'
}
has_other_worker() { [ "$(workers_of_main | wc -w)" = 2 ] && ! workers_of_main | grep -qw "$1"; }

# --- Socket activation ---------------------------------------------------------

activates() {
    configure 'open_timeout: 600' 'listeners:' '  - port: 5000' '    resource: /first' '  - port: 5001' '    resource: /second'
    set_up_unit && inside systemctl stop jabsocket.service || return 1
    # Without the socket a connect is refused, so the next checks are meaningful.
    ! knock || return 1
    sed 's/^ListenStream=.*/ListenStream=127.0.0.1:5000\nListenStream=127.0.0.1:5001/' conf/jabsocket.socket >"$root/etc/systemd/system/jabsocket.socket"
    inside systemctl daemon-reload && inside systemctl enable --now jabsocket.socket && [ "$(property ActiveState)" = inactive ] &&
        serves_both && [ "$(property ActiveState)" = active ] && ! browse /first 5001
}

serves_both() { browse /second 5001 && browse /first; }

knock() { nsenter --target "$init" --net bash -c 'exec 3<>/dev/tcp/127.0.0.1/5000' 2>/dev/null; }

# Connects repeatedly until the file $1 exists, for at most a minute. Prints how often it
# connected and how often it was refused.
knocking='
tried=0 refused=0
while [ ! -e "$1" ] && [ $SECONDS -lt 60 ]; do
    tried=$((tried + 1))
    { exec 3<>/dev/tcp/127.0.0.1/5000; } 2>/dev/null || refused=$((refused + 1))
    exec 3>&-
done
echo "$tried $refused"
'

# Runs a command while clients connect. Fails if a client is refused, or if the service
# does not work after it.
under_load() {
    local clients status tried refused
    rm -f "$work/enough"
    nsenter --target "$init" --net bash -c "$knocking" knocking "$work/enough" >"$work/knocked" &
    clients=$!
    "$@"
    status=$?
    : >"$work/enough"
    wait $clients
    read -r tried refused <"$work/knocked"
    echo "$tried connects, $refused refused"
    [ $status = 0 ] && [ "$tried" -gt 20 ] && [ "$refused" = 0 ] && serves_both
}

# A browser that is silent after its opening handshake for resource $1 until the file
# $2.enough exists, for at most two minutes. It succeeds if its Ping is then answered.
# shellcheck disable=SC2016
silent_browser='
exec 3<>/dev/tcp/127.0.0.1/5000 || exit 1
printf "GET %s HTTP/1.1\r\nHost: localhost:5000\r\nOrigin: http://example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Version: 13\r\n\r\n" "$1" >&3
while IFS= read -r -t 10 line <&3 && [ "$line" != $'\''\r'\'' ]; do
    [[ $line != HTTP* || $line == *101* ]] || exit 1
done
: >"$2.open"
while [ ! -e "$2.enough" ] && [ $SECONDS -lt 120 ]; do sleep 0.1; done
printf "\x89\x84\0\0\0\0abcd" >&3
[ "$(timeout 10 head -c 6 <&3 | od -A n -t x1 | tr -d " ")" = 8a0461626364 ]
'

# Runs a command during a session for resource $1. Fails if the session is lost.
during_session() {
    local client status
    rm -f "$work"/session.*
    nsenter --target "$init" --net bash -c "$silent_browser" browser "$1" "$work/session" &
    client=$!
    await [ -e "$work/session.open" ] || return 1
    "${@:2}"
    status=$?
    : >"$work/session.enough"
    wait $client || { echo 'the session was lost'; return 1; }
    return $status
}

upgrade_in_place() {
    local pid
    pid=$(main_pid)
    inside systemctl kill --signal=USR2 --kill-who=main jabsocket.service && await is_up_anew "$pid" && browse /
}
is_old() { [[ $(inside cat "/proc/$1/comm") == jabsocket-old* ]]; }

# With its own sockets and workers: two upgrades, with one session through both. Stopping
# the service ends all its processes in time.
upgrades_in_place() {
    local pid
    inside systemctl disable --now jabsocket.socket && rm "$root/etc/systemd/system/jabsocket.socket" && set_up_unit WatchdogSec=10 || return 1
    configure 'workers: 2' 'open_timeout: 600'
    restart && pid=$(main_pid) && during_session / upgrade_twice || return 1
    # The new process sends heartbeats for longer than the watchdog waits.
    for _ in 1 2 3; do await heard_after "$(property WatchdogTimestampMonotonic)" || return 1; done
    [ "$(property ActiveState)" = active ] && browse / && upgrade_in_place_during_session_and_stop
}
heard_after() { [ "$(property WatchdogTimestampMonotonic)" != "$1" ]; }
# The first process keeps the session. The second process has none.
upgrade_twice() {
    local pid
    pid=$(main_pid)
    upgrade_in_place && upgrade_in_place && is_old "$pid"
}
upgrade_in_place_during_session_and_stop() {
    nsenter --target "$init" --net bash -c "$silent_browser" browser / "$work/other" &
    await [ -e "$work/other.open" ] && upgrade_in_place && inside systemctl stop jabsocket.service && : >"$work/other.enough" || return 1
    [ "$(property Result)" = success ] || { echo "the service ended with $(property Result)"; inside journalctl --quiet --lines 30; return 1; }
    await none_runs
}
none_runs() { ! inside sh -c 'cat /proc/[0-9]*/comm' | grep '^jabsocket'; }

# With an invalid file, the old process continues as main process.
survives_bad_upgrade() {
    local pid
    configure
    restart && pid=$(main_pid) || return 1
    configure 'write_timeout: nonsense'
    inside systemctl kill --signal=USR2 --kill-who=main jabsocket.service && await logs_failure &&
        [ "$(main_pid)" = "$pid" ] && browse / && configure
}
logs_failure() { inside journalctl --sync && inside journalctl --quiet --unit jabsocket.service | grep -q 'upgrade failed, this process continues'; }

restarts() {
    local pid
    for _ in 1 2 3; do
        pid=$(main_pid)
        restart && await is_up_anew "$pid" || return 1
    done
    # systemd restarts the killed process.
    inside systemctl kill --signal=KILL jabsocket.service && await is_up_anew "$(main_pid)"
}

# --- Upgrade and the end -------------------------------------------------------

upgrades() {
    local pid
    pid=$(main_pid)
    inside systemctl reset-failed jabsocket.service
    inside dpkg -i /root/jabsocket-99.deb && await is_up_anew "$pid" && is_old "$pid" && [ "$(inside dpkg-query -W -f '${Version}' jabsocket)" = 99-1 ]
}

# With a service that the administrator has disabled.
leaves_off() {
    configure
    inside systemctl disable --now jabsocket.service && inside dpkg -i /root/jabsocket-100.deb &&
        [ "$(property ActiveState)" = inactive ] && ! inside systemctl is-enabled jabsocket.service
}

removes() {
    inside systemctl enable --now jabsocket.service && browse / && inside dpkg -r jabsocket &&
        ! inside systemctl is-active jabsocket.service && ! knock
}

purges() {
    inside dpkg -P jabsocket && ! inside getent passwd jabsocket || return 1
    rm -rf "$root/etc/systemd/system/jabsocket.service.d"
    inside systemctl daemon-reload
    ! inside systemctl list-units --all --no-legend 'jabsocket*' | grep . &&
        ! inside systemctl list-unit-files --no-legend 'jabsocket*' | grep . &&
        ! inside find /etc /run /usr /var/lib -name '*jabsocket*' | grep .
}

# -------------------------------------------------------------------------------

if ! can_boot >"$log" 2>&1; then
    echo "systemd: skipped, this machine does not permit it: $(tail -n 1 "$log")"
    exit 77
fi
need 'apt-get installs systemd and the dependencies of the package' install_systemd
cp "$package" "$root/root/jabsocket.deb"
repack "$package" "$root/root/jabsocket-99.deb" 99-1 >/dev/null
repack "$package" "$root/root/jabsocket-100.deb" 100-1 >/dev/null

need 'the system boots' boots
inside systemctl --version | sed -n '1s/^/   /p'
need 'the installation starts and enables the service, which serves a browser' installs
check 'the service has its own user, no capabilities and a system call filter' is_confined
check 'the journal has the log of the service' logs
check 'systemctl reload applies the new rules in the same process' reloads
check 'a reload with an invalid file fails visibly and changes nothing' refuses_bad_reload
check 'a start with an invalid file fails, a start with a valid file succeeds' refuses_bad_start
check 'the watchdog restarts a hanging process' dies_of_watchdog
check 'with two workers, a killed worker is replaced' has_workers
check 'a hanging worker is replaced, and the service stays' replaces_hung_worker
check 'with two sockets from systemd, the first connect starts the service' activates
check 'no connect is refused during a restart' under_load restarts
check 'no connect is refused and a session continues during an upgrade of the package' under_load during_session /first upgrades
check 'SIGUSR2 with workers: a session continues through two upgrades, the watchdog does not fire, and stop ends all processes' upgrades_in_place
check 'an upgrade with an invalid file fails visibly and changes nothing' survives_bad_upgrade
check 'an upgrade does not start a disabled service' leaves_off
check 'remove stops the service' removes
check 'purge leaves nothing behind, also in systemd' purges
finish
