#!/bin/sh
# The source package: $1 is the version, $2 the directory it goes to. It holds
# what belongs to the source and nothing that a build or a test left behind.

set -eu
version=$1
archive=$2/jabsocket-$version.tar.gz

tar --create --gzip --file "$archive" \
    --transform "s,^,jabsocket-$version/," \
    --owner=0 --group=0 --numeric-owner --sort=name \
    --exclude=node_modules --exclude=target --exclude='*.o' --exclude='*~' \
    CMakeLists.txt Cargo.lock Cargo.toml LICENSE README.md build.rs .gitignore clippy.toml \
    deny.toml conf man src tests
echo "$archive"
