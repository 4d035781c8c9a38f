#!/bin/sh
# Builds the Debian package: $1 is the binary, $2 the version, $3 the directory
# that the package goes to. It is run in the top directory of the source and
# needs dpkg-dev (dpkg-shlibdeps) and strip.

set -eu
binary=$1
version=$2
destination=$3
umask 022

fail() { printf 'package: %s\n' "$*" >&2; exit 1; }
for program in dpkg-deb dpkg-shlibdeps dpkg-parsechangelog strip; do
    command -v "$program" >/dev/null || fail "there is no $program: apt-get install dpkg-dev binutils"
done
[ -x "$binary" ] || fail "there is no $binary: make"

# The changelog has the Debian revision; it must be about this version.
full=$(dpkg-parsechangelog -l conf/debian/changelog -S Version)
[ "${full%-*}" = "$version" ] || fail "conf/debian/changelog is about $full, Cargo.toml about $version"
# The same source gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(dpkg-parsechangelog -l conf/debian/changelog -S Timestamp)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
root=$work/debian/jabsocket

# Copies a file with a mode: file, mode, directory or name below the root.
put() { install -D -m "$2" "$1" "$root/$3"; }
# The same, compressed, as Debian wants manual pages and changelogs.
put_gz() { mkdir -p "$(dirname "$root/$2")"; gzip -9n <"$1" >"$root/$2.gz"; chmod 644 "$root/$2.gz"; }

put "$binary" 755 usr/bin/jabsocket
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/jabsocket"
put conf/installed.conf 644 etc/jabsocket.conf
put conf/jabsocket.service 644 usr/lib/systemd/system/jabsocket.service
put_gz man/jabsocket.8 usr/share/man/man8/jabsocket.8
put_gz man/jabsocket.conf.5 usr/share/man/man5/jabsocket.conf.5
put conf/debian/copyright 644 usr/share/doc/jabsocket/copyright
put_gz conf/debian/changelog usr/share/doc/jabsocket/changelog.Debian
put conf/debian/lintian-overrides 644 usr/share/lintian/overrides/jabsocket
put_gz README.md usr/share/doc/jabsocket/README.md
for file in man/guide/*; do
    case $file in
        *.md) put_gz "$file" "usr/share/doc/jabsocket/guide/${file##*/}" ;;
        *) put "$file" 644 "usr/share/doc/jabsocket/guide/${file##*/}" ;;
    esac
done
for file in jabsocket.conf nginx.conf haproxy.cfg fail2ban.conf jabsocket.socket \
    prometheus-alerts.yml grafana-dashboard.json; do
    put "conf/$file" 644 "usr/share/doc/jabsocket/examples/$file"
done

# dpkg-shlibdeps reads the libraries out of the binary, and the package's name
# out of debian/control. An Expat below 2.4 is refused at start.
mkdir "$root/DEBIAN"
printf 'Source: jabsocket\n\nPackage: jabsocket\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O debian/jabsocket/usr/bin/jabsocket) || fail 'dpkg-shlibdeps failed'
libraries=$(printf '%s' "${libraries#shlibs:Depends=}" | sed 's/libexpat1 ([^)]*)/libexpat1 (>= 2.4.0)/')

architecture=$(dpkg --print-architecture)
sed -e "s/@VERSION@/$full/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBRARIES@/$libraries/" \
    -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f 1)/" \
    conf/debian/control.in >"$root/DEBIAN/control"
echo /etc/jabsocket.conf >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    put "conf/debian/$script" 755 "DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root"/DEBIAN/control "$root"/DEBIAN/conffiles "$root"/DEBIAN/md5sums
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

package=$destination/jabsocket_${full}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
