#!/bin/bash
# Installs missing packages for the build, the demo and the tests.
#
#   tests/install.sh build   Rust, a C compiler, libraries, rustfmt and clippy
#   tests/install.sh demo    also Prosody, Node.js and packages from npm
#   tests/install.sh package as build, and programs to build and test the Debian package
#   tests/install.sh proxies as demo, and nginx, HAProxy and openssl
#   tests/install.sh all     all of these, ejabberd, jabberd2, nbxmpp, fail2ban, Prometheus,
#                            g++, mandoc, Chromium, Firefox and their drivers (the default)
#
# For Debian 12 and 13. Uses an existing Rust toolchain if it is new enough, and otherwise
# installs Debian's newest. The script asks no questions, is quick if nothing is missing,
# and starts no service.

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

# cargo and npm need the certificates.
for package in gcc libc6-dev pkg-config libssl-dev libc-ares-dev ca-certificates procps util-linux; do want "$package"; done
# Expat parses untrusted input, so the newest version is required.
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
    # Checks the manual pages.
    want mandoc
    # The library of Gajim.
    want python3-nbxmpp
    # Has promtool.
    want_service prometheus
    # certutil installs the tests' authority in Firefox. The pages need fonts with emoji.
    for package in chromium firefox-esr libnss3-tools fonts-dejavu-core fonts-noto-color-emoji; do want "$package"; done
fi
case $what in proxies|all) want_service nginx; want_service haproxy; want openssl ;; esac
case $what in package|all)
    for package in cmake make binutils dpkg-dev lintian debootstrap systemd man-db iproute2 util-linux; do want "$package"; done ;;
esac

# --- Rust -------------------------------------------------------------------

# Debian releases have an old Rust, and this newer one to build browsers.
debian_rust=(rustc-web cargo-web rustfmt-web rust-web-clippy)
needed=$(sed -nE 's/^rust-version = "(.*)"/\1/p' ../Cargo.toml)

new_enough() {
    local program version
    for program in cargo rustc; do
        version=$("$program" --version 2>/dev/null | awk 'NR == 1 { print $2 }')
        [ -n "$version" ] && dpkg --compare-versions "$version" ge "$needed" || return 1
    done
}

# Whether another cargo would be found before Debian's, or Debian's would remove rustup.
other_rust() {
    local directory
    [ -z "$(installed rustup)" ] || return 0
    while read -r -d : directory; do
        [ "$directory" != /usr/bin ] || return 1
        [ ! -x "$directory/cargo" ] || return 0
    done <<<"$PATH:"
    return 1
}

# A component of the installed toolchain: its name, its program, Debian's package.
want_component() {
    "$2" --version >/dev/null 2>&1 && return
    if [ "$(command -v cargo)" = /usr/bin/cargo ] && [ -n "$(installed cargo-web)" ]; then
        want "$3"
    else
        command -v rustup >/dev/null || die "there is no $1 and no rustup to add it"
        say "rustup component add $1"
        rustup component add "$1" </dev/null >&2 || die "rustup component add $1 failed"
    fi
}

# After apt-get update.
check_debian_rust() {
    local version
    version=$(candidate cargo-web)
    dpkg --compare-versions "${version%%[+~-]*}" ge "$needed" 2>/dev/null ||
        die "Rust $needed or newer is needed, and apt has no such cargo-web (${version:-none}). Debian 12 has it in the security updates; otherwise install Rust from https://rustup.rs"
}

install_rust=
if ! new_enough; then
    ! other_rust || die "Rust $needed or newer is needed; $(command -v cargo) is older or does not work: rustup update stable && rustup default stable"
    install_rust=yes
    missing+=("${debian_rust[@]}")
elif [ "$what" = build ] || [ "$what" = all ]; then
    want_component rustfmt rustfmt rustfmt-web
    want_component clippy cargo-clippy rust-web-clippy
fi

# --- apt ----------------------------------------------------------------------

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
    # No package may start its service. An existing policy that forbids this is kept; any
    # other policy is moved aside meanwhile.
    if [ ${#services[@]} -gt 0 ] && ! forbids_start; then
        [ -e $policy ] && "${sudo[@]}" mv $policy $policy.aside
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
        "${sudo[@]}" chmod 755 $policy
        own_policy=yes
        trap restore_policy EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
    fi
    "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null || say 'apt-get update failed, continuing'
    [ -z "$install_rust" ] || check_debian_rust
    "${sudo[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold --no-install-recommends \
        install "${missing[@]}" </dev/null || die 'apt-get install failed'
    restore_policy
    # The tests start their own servers. The services of the packages stay disabled.
    for service in "${services[@]}"; do
        command -v systemctl >/dev/null && "${sudo[@]}" systemctl disable "$service" >/dev/null 2>&1
        [ -d /run/systemd/system ] && "${sudo[@]}" systemctl stop "$service" >/dev/null 2>&1
    done
    # The scripts of ejabberd's package call ejabberdctl, which leaves epmd running.
    for pid in $(pgrep -x epmd); do
        case " $epmd_before " in *" $pid "*) ;; *) "${sudo[@]}" kill "$pid" ;; esac
    done
    return 0
}

[ ${#missing[@]} -eq 0 ] || install_packages >&2

hash -r
new_enough || die "Rust $needed or newer is needed; $(command -v cargo) is not"

# --- npm --------------------------------------------------------------------

if [ -n "$javascript" ]; then
    # Packages that only the browser tests need are "devDependencies".
    #
    # In the lock file converse.js has no dependencies: its dist/ contains them, and one
    # entry, a link to itself, breaks npm 9. After `npm install` of another version, remove
    # its "dependencies" and "workspaces" from the lock file and run `npm install` again.
    # puppeteer-core is listed without the packages that start or download a browser: keep
    # only "chromium-bidi" and "debug" of its "dependencies". No entry has an address
    # ("--omit-lockfile-registry-resolved").
    omit=--omit=dev
    stamp=real/node_modules/.installed
    [ "$what" = all ] && { omit=; stamp=$stamp-all; }
    # The stamp is a copy of the lock file for node_modules.
    if ! cmp -s real/package-lock.json "$stamp"; then
        say "npm ci${omit:+ $omit} (in tests/real)"
        (cd real && npm ci $omit --ignore-scripts --no-audit --no-fund --no-progress --loglevel=error </dev/null >&2) || die 'npm ci failed'
        cp real/package-lock.json real/node_modules/.installed
        cp real/package-lock.json "$stamp"
    fi
fi
exit 0
