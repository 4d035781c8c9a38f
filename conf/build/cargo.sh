#!/bin/sh
# cargo for make: $1 is cargo, the rest its arguments. Says only what is wrong,
# with `make VERBOSE=1` everything.

set -u
cargo=$1
shift
command -v "$cargo" >/dev/null || { echo "make: there is no $cargo any more: run cmake again" >&2; exit 1; }
# rustc is where cargo is, also under sudo.
PATH=$(dirname "$cargo"):$PATH
# The job server of `make -j` is not handed on to commands; cargo would look for it.
unset MAKEFLAGS MFLAGS MAKELEVEL CARGO_MAKEFLAGS

command=$1
shift
case ${VERBOSE:-0} in
    0 | '' | [Nn][Oo] | [Oo][Ff][Ff])
        # The tests' own lines are the result of `make check`.
        [ "$command" = test ] || set -- --quiet "$@"
        ;;
    *) set -- --verbose "$@" ;;
esac
exec "$cargo" "$command" "$@"
