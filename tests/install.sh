#!/bin/bash
# Installs what the build, the demo and the tests need, as far as it is missing.
#
#   tests/install.sh build   C compiler and libraries, rustfmt and clippy
#   tests/install.sh demo    that, Prosody, Node.js and the packages from npm
#   tests/install.sh package the first, and what makes and tries the Debian package
#   tests/install.sh proxies the demo's, nginx, HAProxy and openssl
#   tests/install.sh all     all of that, ejabberd, jabberd2, fail2ban, Prometheus, g++,
#                            Chromium, Firefox and what they are driven with (the default)
#
# Made for Debian 12; a Rust toolchain is taken for granted. It asks nothing, is
# quick when nothing is missing, and starts no service.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
what=${1:-all}

say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

case $what in
    build|demo|package|proxies|all) ;;
    *) die "usage: $0 [build|demo|package|proxies|all]" ;;
esac
[ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

# --- Debian packages --------------------------------------------------------

installed() { dpkg-query -W -f '${Status} ${Version}\n' "$1" 2>/dev/null | awk '$3 == "installed" { print $4 }'; }
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" { print $2 }'; }

missing=()
services=()
want() { [ -n "$(installed "$1")" ] || missing+=("$1"); }
want_service() { [ -n "$(installed "$1")" ] || { missing+=("$1"); services+=("$1"); }; }

for package in gcc libc6-dev pkg-config libssl-dev libc-ares-dev procps util-linux; do want "$package"; done
# Expat parses what strangers send: only the newest will do.
expat=$(installed libexpat1-dev)
[ -n "$expat" ] && [ "$expat" = "$(candidate libexpat1-dev)" ] || missing+=(libexpat1-dev)
case $what in demo|proxies|all) javascript=yes ;; *) javascript= ;; esac
if [ -n "$javascript" ]; then
    want_service prosody
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
fi
if [ "$what" = all ]; then
    want_service ejabberd
    want_service jabberd2
    want_service fail2ban
    # libFuzzer is C++.
    want g++
    # For promtool.
    want_service prometheus
    # certutil tells Firefox of the tests' authority; fonts for the pages, emoji among them.
    for package in chromium firefox-esr libnss3-tools fonts-dejavu-core fonts-noto-color-emoji; do want "$package"; done
fi
case $what in proxies|all) want_service nginx; want_service haproxy; want openssl ;; esac
case $what in package|all)
    for package in cmake make binutils dpkg-dev lintian debootstrap systemd man-db iproute2 util-linux; do want "$package"; done ;;
esac

sudo=()
policy=/usr/sbin/policy-rc.d
own_policy=

forbids_start() {
    [ -x $policy ] || return 1
    $policy ejabberd start </dev/null >/dev/null 2>&1
    [ $? = 101 ]
}

restore_policy() {
    trap - EXIT INT TERM
    [ -n "$own_policy" ] || return 0
    own_policy=
    "${sudo[@]}" rm -f $policy
    [ -e $policy.aside ] && "${sudo[@]}" mv $policy.aside $policy
}

install_packages() {
    local epmd_before pid
    epmd_before=$(pgrep -x epmd 2>/dev/null | tr '\n' ' ')
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "as root: apt-get install ${missing[*]}"
        sudo=(sudo -n --preserve-env=DEBIAN_FRONTEND)
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "apt-get install ${missing[*]}"
    # No package may start its service. A policy that forbids it stays; any other
    # is put aside for the while.
    if [ ${#services[@]} -gt 0 ] && ! forbids_start; then
        [ -e $policy ] && "${sudo[@]}" mv $policy $policy.aside
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
        "${sudo[@]}" chmod 755 $policy
        own_policy=yes
        trap restore_policy EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
    fi
    "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null || say 'apt-get update failed, going on'
    "${sudo[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold --no-install-recommends \
        install "${missing[@]}" </dev/null || die 'apt-get install failed'
    restore_policy
    # The tests start servers of their own; the packages' services stay off.
    for service in "${services[@]}"; do
        command -v systemctl >/dev/null && "${sudo[@]}" systemctl disable "$service" >/dev/null 2>&1
        [ -d /run/systemd/system ] && "${sudo[@]}" systemctl stop "$service" >/dev/null 2>&1
    done
    # ejabberdctl, which its package's scripts call, leaves Erlang's port mapper behind.
    for pid in $(pgrep -x epmd); do
        case " $epmd_before " in *" $pid "*) ;; *) "${sudo[@]}" kill "$pid" ;; esac
    done
    return 0
}

[ ${#missing[@]} -eq 0 ] || install_packages >&2

# --- Rust -------------------------------------------------------------------

command -v cargo >/dev/null || die 'there is no cargo: install a Rust toolchain (https://rustup.rs)'
if [ "$what" = build ] || [ "$what" = all ]; then
    for component in rustfmt clippy; do
        binary=$component
        [ $component = clippy ] && binary=cargo-clippy
        "$binary" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || die "there is no $component and no rustup to add it"
        say "rustup component add $component"
        rustup component add "$component" </dev/null >&2 || die "rustup component add $component failed"
    done
fi

# --- npm --------------------------------------------------------------------

if [ -n "$javascript" ]; then
    # Packages for tests in a browser alone are the "devDependencies".
    #
    # In the lock file converse.js depends on nothing: what its package lists is
    # already in its dist/, and one entry, a link into itself, stops npm 9. After
    # `npm install` of another version, take its "dependencies" and "workspaces" out
    # of the lock file and run `npm install` again. puppeteer-core is there without what
    # would start or download a browser: keep "chromium-bidi" and "debug" of its
    # "dependencies". No entry has an address ("--omit-lockfile-registry-resolved").
    omit=--omit=dev
    stamp=real/node_modules/.installed
    [ "$what" = all ] && { omit=; stamp=$stamp-all; }
    # The stamp is the lock file that node_modules was made from.
    if ! cmp -s real/package-lock.json "$stamp"; then
        say "npm ci${omit:+ $omit} (in tests/real)"
        (cd real && npm ci $omit --ignore-scripts --no-audit --no-fund --no-progress --loglevel=error </dev/null >&2) || die 'npm ci failed'
        cp real/package-lock.json real/node_modules/.installed
        cp real/package-lock.json "$stamp"
    fi
fi
exit 0
