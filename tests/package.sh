#!/bin/bash
# Builds the Debian package and tests it in a temporary Debian 12 and Debian 13: install,
# run, upgrade, remove, purge. If the machine can boot systemd in namespaces, also under a
# real systemd (tests/systemd.sh). For the release that differs from the host's, the
# package is built there, with Debian's Rust. Also tests the other ways to install, and
# the unit. Needs root (chroot, a network namespace) and Debian's archive. The last line
# is "package: N ok, M not". The script removes everything that it creates.
#
#   tests/package.sh [DIRECTORY]    DIRECTORY gets a copy of the package

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$top" || exit 1
keep=${1-}
exec </dev/null
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
unset MAKEFLAGS MFLAGS DESTDIR

daemon=
declare -A builders=()
work=$(mktemp -d) || exit 1
build=$work/build
log=$work/log
releases=(bookworm trixie)
own_release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
. tests/checks.sh

finish() { finish_as package; }

# A root has no mounts from the host, except those of debootstrap, which may remain when
# it is interrupted.
end() {
    trap '' INT TERM HUP
    local builder place
    stop_daemon
    for builder in "${builders[@]}"; do kill -TERM -- "-$builder" 2>/dev/null && wait "$builder"; done
    awk -v root="$work/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r place; do umount "$place"; done
    rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# $root is the Debian for the current test or build.

# --- Debian, and the package built in it ---------------------------------------

# The archive from which this host gets a distribution. $1: its name.
archive() { apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | awk -v name="$1" '$1 == name { print $2; exit }'; }

find_proxy() {
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || [ "$proxy" = DIRECT ] || export http_proxy=$proxy
}

# Makes a minimal Debian in $root. $1: release.
make_root() {
    local main security
    main=$(archive "$own_release")
    security=$(archive "$own_release-security")
    # In two stages, to configure dpkg in between: it need not sync the disk, which would
    # take most of the time.
    debootstrap --foreign --variant=minbase --merged-usr "$1" "$root" ${main:+"$main"} &&
        mkdir -p "$root/etc/dpkg/dpkg.cfg.d" && echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/quick" &&
        chroot "$root" /debootstrap/debootstrap --second-stage || { tail -n 20 "$root/debootstrap/debootstrap.log"; return 1; }
    [ -z "$security" ] || echo "deb $security $1-security main" >>"$root/etc/apt/sources.list"
    in_root apt-get -q update
}

# Builds the package in a copy of the Debian that has an old Rust, by the instructions of
# conf/Containerfile. Copies the crates that cargo has downloaded, and the certification
# authorities of this host. $1: release, $2: version.
build_in_root() {
    local registry=${CARGO_HOME:-$HOME/.cargo}/registry program
    root=$work/$1
    make_root "$1" && cp -a "$root" "$root-build" && cp -a "$root" "$root-image" || return 1
    root=$root-build
    mkdir -p "$root/usr/local/share/ca-certificates" "$root/root/.cargo/registry" "$root/source" "$work/archive"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null
    cp -a "$registry/index" "$registry/cache" "$root/root/.cargo/registry/" 2>/dev/null
    for program in cargo rustc; do printf '#!/bin/sh\necho %s 1.65.0\n' $program >"$root/usr/bin/$program" && chmod 755 "$root/usr/bin/$program"; done
    log=$work/$1.build
    sh conf/build/source.sh "$2" "$work/archive" &&
        tar -x -z -f "$work/archive/jabsocket-$2.tar.gz" -C "$root/source" --strip-components=1 &&
        run_instructions 1 "$(instructions 1 WORKDIR)" && mv "$root/source/jabsocket.deb" "$work/$1.deb"
}

# Starts a build early, because it takes long. $1: release, $2: version.
begin_build() {
    set -m
    build_in_root "$@" >"$work/$1.log" 2>&1 &
    builders[$1]=$!
    set +m
}

# $1: release.
has_built() {
    wait "${builders[$1]}" && unset "builders[$1]" && rm -rf --one-file-system "$work/$1-build" || { tail -n 30 "$work/$1.log"; return 1; }
}

# --- From the source -----------------------------------------------------------

configure() {
    # Uses an existing build, for example from tests/run.sh.
    mkdir -p "$build" "$top/target" && ln -s "$top/target" "$build/target" && cmake -S "$top" -B "$build"
}

again_fresh() {
    make -C "$build" VERBOSE=1 >"$work/again" 2>&1
    has "$work/again" 'Fresh jabsocket v'
}

targets() {
    local target
    make -C "$build" help >"$work/help" || return 1
    for target in all check install package package_source; do has "$work/help" "^\.\.\. $target\b" || return 1; done
}

bad_kind() {
    ! cmake -D CMAKE_BUILD_TYPE=fast -S "$top" -B "$work/kind" >"$work/kind.log" 2>&1 &&
        has "$work/kind.log" "'fast'; allowed: RELEASE or DEBUG"
}

missing_library() {
    ! PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH= cmake -S "$top" -B "$work/missing" >"$work/missing.log" 2>&1 &&
        has "$work/missing.log" 'expat: the library with its headers' &&
        has "$work/missing.log" 'apt-get install libexpat1-dev libssl-dev'
}

# Runs cmake without the programs of the system, among which Debian's cargo is, and expects
# it to fail. $work/bin has the other programs that it needs.
fails_without_cargo() {
    ! env CARGO_HOME=/nonexistent HOME=/nonexistent PATH="$work/bin" cmake -D CMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF \
        -S "$top" -B "$work/missing" >"$work/missing.log" 2>&1
}

missing_cargo() {
    local program
    mkdir "$work/bin"
    for program in sh cc pkg-config make cmake; do ln -s "$(command -v $program)" "$work/bin/" || return 1; done
    fails_without_cargo &&
        has "$work/missing.log" 'cargo: a Rust toolchain, 1.88 or newer' && has "$work/missing.log" 'apt-get install rustc-web cargo-web'
}

old_cargo() {
    printf '#!/bin/sh\necho cargo 1.65.0\n' >"$work/bin/cargo" && chmod 755 "$work/bin/cargo" || return 1
    fails_without_cargo &&
        has "$work/missing.log" 'cargo: 1.88 or newer; /.*/cargo is 1.65.0' && has "$work/missing.log" 'apt-get install rustc-web cargo-web'
}

installs() {
    local file to=$work/to
    DESTDIR=$to make -C "$build" install || return 1
    [ -x "$to/usr/local/bin/jabsocket" ] && sed s,/usr/share,/usr/local/share, conf/installed.conf | cmp - "$to/etc/jabsocket.conf" || return 1
    for file in README.md guide/operating.md guide/overview.svg examples/nginx.conf \
        examples/grafana-dashboard.json; do
        [ -f "$to/usr/local/share/doc/jabsocket/$file" ] || { echo "no $file"; return 1; }
    done
    has "$to/usr/local/lib/systemd/system/jabsocket.service" '^ExecStart=/usr/local/bin/jabsocket -n -c /etc/jabsocket.conf$' || return 1
    echo '# mine' >>"$to/etc/jabsocket.conf"
    DESTDIR=$to make -C "$build" install && has "$to/etc/jabsocket.conf" '^# mine$'
}

installs_elsewhere() {
    cmake --install "$build" --prefix "$work/prefix" &&
        [ -x "$work/prefix/bin/jabsocket" ] && [ -f "$work/prefix/etc/jabsocket.conf" ] &&
        "$work/prefix/bin/jabsocket" --check-config -c "$work/prefix/etc/jabsocket.conf"
}

unit_verifies() {
    # The unit has the paths of the prefix, so its programs and manual pages exist.
    MANPATH=$work/prefix/share/man systemd-analyze verify --man=yes \
        "$work/prefix/lib/systemd/system/jabsocket.service" conf/jabsocket.socket >"$work/verify" 2>&1 || { cat "$work/verify"; return 1; }
    # These keys need systemd 254 or newer.
    ! grep -E -v "Unknown key '(RestartSteps|RestartMaxDelaySec)'" "$work/verify" | grep jabsocket
}

# systemd reports tenths.
unit_is_tight() { systemd-analyze security --offline=true --threshold=20 conf/jabsocket.service; }

source_package() {
    make -C "$build" package_source && mkdir "$work/source" &&
        tar -x -z -f "$build/jabsocket-$version.tar.gz" -C "$work/source" || return 1
    ! find "$work/source" -name node_modules -o -name .git | grep . || return 1
    # Every file that git knows, if the source is in git.
    git ls-files ':!.ci' 2>/dev/null | sort >"$work/tracked"
    find "$work/source/jabsocket-$version" -type f -printf '%P\n' | sort >"$work/packed"
    ! comm -23 "$work/tracked" "$work/packed" | grep . || return 1
    # In its own directory, as in the manual of the C daemon.
    (cd "$work/source/jabsocket-$version" && cmake -D CMAKE_BUILD_TYPE=debug . && make help >/dev/null &&
        cargo metadata --offline --locked --no-deps --format-version 1 >/dev/null)
}

# --- The package ---------------------------------------------------------------

lintian_clean() {
    TMPDIR=$work lintian --allow-root --fail-on error,warning "$1" >"$work/lintian" 2>&1 || { cat "$work/lintian"; return 1; }
    ! grep '^[EW]:' "$work/lintian"
}

is_installed() {
    local file
    in_root dpkg --audit | grep . && return 1
    [ "$(in_root dpkg-query -W -f '${Status}' jabsocket)" = 'install ok installed' ] || return 1
    for file in usr/share/man/man8/jabsocket.8.gz usr/share/man/man5/jabsocket.conf.5.gz \
        usr/share/doc/jabsocket/copyright usr/share/doc/jabsocket/changelog.Debian.gz \
        usr/share/doc/jabsocket/README.md.gz usr/share/doc/jabsocket/guide/operating.md.gz \
        usr/share/doc/jabsocket/guide/overview.svg; do
        # A minimal root may omit documentation. Existing files must be complete.
        in_root dpkg -L jabsocket | grep -qx "/$file" || { echo "no /$file"; return 1; }
    done
    in_root dpkg --verify jabsocket | grep -v '^.* /usr/share/' | grep . && return 1
    in_root dpkg-query -W -f '${Conffiles}' jabsocket | grep -q '^ /etc/jabsocket.conf ' || return 1
    in_root jabsocket --version | grep -q "version $version\$" || return 1
    in_root jabsocket --check-config
}

has_user() {
    local entry
    entry=$(in_root getent passwd jabsocket) && in_root getent group jabsocket && echo "$entry" || return 1
    [[ $entry == jabsocket:*:/nonexistent:/usr/sbin/nologin ]] && [ "$(echo "$entry" | cut -d : -f 3)" -lt 1000 ]
}

# --- Running it ----------------------------------------------------------------

# In the root, as the daemon's user, in a network namespace where every port is free.
start_daemon() {
    local tries
    : >"$work/daemon.log"
    setpriv --pdeathsig KILL unshare --net sh -c 'ip link set lo up && exec chroot --userspec=jabsocket:jabsocket "$0" jabsocket -n' "$root" \
        >"$work/daemon.log" 2>&1 &
    daemon=$!
    for ((tries = 0; tries < 200; tries++)); do
        grep -q 'listening on' "$work/daemon.log" && return 0
        kill -0 $daemon 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/daemon.log"
    return 1
}

stop_daemon() {
    local status
    [ -n "$daemon" ] || return 0
    kill -TERM $daemon 2>/dev/null
    wait $daemon
    status=$?
    daemon=
    [ $status -eq 0 ] || { echo "the daemon exited with status $status"; return 1; }
}

browse() { nsenter --net="/proc/$daemon/ns/net" bash -c "$browser" browser "$@"; }

serves() {
    start_daemon && [ "$(stat -c %u "/proc/$daemon")" = "$(in_root id -u jabsocket)" ] && browse / localhost:5000 http://example.com || { cat "$work/daemon.log"; return 1; }
    stop_daemon
}

# The sample from the C daemon's manual.
original='# jabsocket configuration

# Listening port for WebSocket connection
port: 5000

# CIDR to listen on (0.0.0.0 for all)
listen: 0.0.0.0

# Host - the value of the Host key in the request must match
# this parameter
host: example.com:5000

# Resource that is expected in the first line
# e.g. in the line GET /mychat HTTP/1.1 the resource is /mychat
resource: /mychat

# Acceptable origin
origin:
  - http://firstdomain.com
  - http://seconddomain.com

# Minimum log level
log_level: LOG_DEBUG'

serves_original() {
    printf '%s\n' "$original" >"$root/etc/jabsocket.conf"
    start_daemon && browse /mychat example.com:5000 http://seconddomain.com || { cat "$work/daemon.log"; return 1; }
    # The daemon applies the rules in the file.
    ! browse /other example.com:5000 http://seconddomain.com && ! browse /mychat example.com:5000 http://thirddomain.com && stop_daemon
}

# Without systemd: started by root, the daemon goes into the background as its user.
serves_in_background() {
    local file=$root/run/jabsocket.pid tries status=0
    printf '%s\n' 'port: 5000' 'listen: 127.0.0.1' 'user: jabsocket' 'workers: 2' 'pid_file: /run/jabsocket.pid' >"$root/etc/background.conf"
    timeout 20 unshare --net sh -c 'ip link set lo up && exec chroot "$0" jabsocket -c /etc/background.conf' "$root" || return 1
    # When the command exits, the daemon is ready.
    daemon=$(cat "$file") || return 1
    browse / localhost:5000 http://example.com &&
        [ "$(stat -c %u "/proc/$daemon")" = "$(in_root id -u jabsocket)" ] || status=1
    kill -TERM "$daemon"
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$daemon" 2>/dev/null || { daemon= && return $status; }
        sleep 0.05
    done
    echo 'the daemon does not exit'
    return 1
}

# --- Upgrade, remove, purge ----------------------------------------------------

upgrades() {
    # $1: version. Without a question, and without a change to the edited file.
    in_root dpkg "${@:2}" -i "/tmp/jabsocket-$1.deb" || return 1
    [ "$(in_root dpkg-query -W -f '${Version}' jabsocket)" = "$1" ] && printf '%s\n' "$original" | cmp - "$root/etc/jabsocket.conf"
}

removes() {
    in_root apt-get -q -y remove jabsocket || return 1
    [ ! -e "$root/usr/bin/jabsocket" ] && [ ! -e "$root/lib/systemd/system/jabsocket.service" ] &&
        printf '%s\n' "$original" | cmp - "$root/etc/jabsocket.conf"
}

purges() {
    mkdir -p "$root/run/jabsocket" && : >"$root/run/jabsocket/jabsocket.pid"
    in_root apt-get -q -y purge jabsocket || return 1
    ! in_root getent passwd jabsocket && ! in_root getent group jabsocket || return 1
    # Except for logs and caches of dpkg and apt, and files of this test in /tmp.
    ! find "$root" -xdev -path "$root/tmp" -prune -o -path "$root/var/log" -prune -o -path "$root/var/cache" -prune -o -name '*jabsocket*' -print | grep .
}

# Checks the systemctl calls of the package's scripts, with a systemctl that only records
# them. $1: the command for dpkg or apt-get; $2: the call that must be recorded, or, after
# a !, must not be.
asks_systemd() {
    : >"$root/tmp/asked"
    # shellcheck disable=SC2086
    in_root $1 || return 1
    case $2 in
        !*) ! grep -E -- "${2#!}" "$root/tmp/asked" ;;
        *) grep -E -q -- "$2" "$root/tmp/asked" || { echo "asked:"; cat "$root/tmp/asked"; return 1; } ;;
    esac
}

fake_systemd() {
    mkdir -p "$root/run/systemd/system"
    cat >"$root/bin/systemctl" <<'END'
#!/bin/sh
echo "$*" >>/tmp/asked
case " $* " in *' is-active '*) echo active ;; *' is-enabled '*) echo enabled ;; *' show '*) echo LoadState=loaded ;; esac
END
    chmod 755 "$root/bin/systemctl"
}

forbid_start() { printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 755 "$root/usr/sbin/policy-rc.d"; }

# Tests the package $3 in the root $2 with another script; adds its numbers to this
# script's. $1: its name.
try_in() {
    local status count
    bash "tests/$1.sh" "$2" "$3" | tee "$work/output"
    status=${PIPESTATUS[0]}
    # Skipped. The script has printed the reason.
    [ $status != 77 ] || return 0
    count=$(sed -nE "s/^$1: ([0-9]+) ok, ([0-9]+) not\$/\1 \2/p" "$work/output")
    [ -n "$count" ] || count='0 1'
    passed=$((passed + ${count% *}))
    failed=$((failed + ${count#* }))
}

# In $root. $1: the package.
try_package() {
    cp "$1" "$root/tmp/jabsocket.deb"
    need 'apt-get install, without systemd' in_root apt-get -q -y --no-install-recommends install /tmp/jabsocket.deb
    check 'all files are installed and the configuration is valid' is_installed
    check 'the system user' has_user
    check 'the daemon serves a browser as that user' serves
    stop_daemon
    check 'started by root, the daemon goes into the background as its user' serves_in_background
    stop_daemon
    check "the C daemon's sample file works as it is" serves_original
    stop_daemon

    repack "$1" "$root/tmp/jabsocket-99.1-1.deb" 99.1-1 >/dev/null
    repack "$1" "$root/tmp/jabsocket-99.2-1.deb" 99.2-1 '$ a # Another default' >/dev/null
    check 'an upgrade keeps the edited file without a question' upgrades 99.1-1
    check 'an upgrade with a different file keeps the edited file on request' upgrades 99.2-1 --force-confdef --force-confold
    check 'remove keeps the configuration' removes
    check 'purge leaves nothing' purges

    fake_systemd
    check 'under systemd, the installation starts the service' asks_systemd 'dpkg -i /tmp/jabsocket.deb' '(^| )start .*jabsocket\.service'
    check 'an upgrade restarts the service' asks_systemd 'dpkg -i /tmp/jabsocket-99.1-1.deb' '(^| )restart .*jabsocket\.service'
    check 'remove stops the service' asks_systemd 'dpkg -r jabsocket' '(^| )stop .*jabsocket\.service'
    check 'purge succeeds under systemd' asks_systemd 'dpkg -P jabsocket' 'daemon-reload'
    forbid_start
    check 'policy-rc.d prevents the start' asks_systemd 'dpkg -i /tmp/jabsocket.deb' '!(^| )start .*jabsocket'
    check 'then purge leaves nothing either' purges
    try_in systemd "$root" "$1"
    try_in container "$root-image" "$1"
}

# -------------------------------------------------------------------------------

if [ "$(id -u)" != 0 ]; then
    echo 'FAIL this script needs root to make a Debian root'
    failed=1
    finish
fi
need 'install the requirements' bash tests/install.sh package
version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
find_proxy
for release in "${releases[@]}"; do
    [ "$release" = "$own_release" ] || begin_build "$release" "$version"
done

need 'cmake finds all requirements' configure
need 'make' make -C "$build"
check 'a second make has nothing to do' again_fresh
check 'make help has the targets of the C daemon' targets
check 'an unknown build type is refused' bad_kind
check 'cmake names missing libraries' missing_library
check 'cmake reports a missing cargo' missing_cargo
check 'cmake reports a cargo that is too old' old_cargo
check 'make install keeps an existing configuration' installs
check 'an installation under a prefix writes only there' installs_elsewhere
check 'systemd-analyze verify' unit_verifies
check 'systemd-analyze security: exposure at most 2.0' unit_is_tight
sed -n 's/^.*Overall exposure level/   exposure/p' "$log"
check 'make package_source makes a tar file that builds' source_package

need 'make package' make -C "$build" package
package=$(echo "$build"/jabsocket_*.deb)
[ -f "$package" ] || { failed=$((failed + 1)); finish; }
printf '   %s, %d KiB\n' "$(basename "$package")" $(($(stat -c %s "$package") / 1024))
[ -z "$keep" ] || cp "$package" "$keep/"
check 'lintian has no error and no warning' lintian_clean "$package"

for release in "${releases[@]}"; do
    printf '== Debian %s\n' "$release"
    root=$work/$release
    if [ "$release" = "$own_release" ]; then
        need 'make a Debian root' make_root "$release"
        need 'copy it for the container' cp -a "$root" "$root-image"
        try_package "$package"
    else
        need 'build the package there with the Rust of Debian, after tests/install.sh' has_built "$release"
        check 'lintian has no error and no warning' lintian_clean "$work/$release.deb"
        try_package "$work/$release.deb"
    fi
    rm -rf --one-file-system "$root" "$root-image"
done
finish

