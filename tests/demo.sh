#!/bin/bash
# A demonstration: builds jabsocket, starts it with an XMPP server on loopback, lets two
# users chat through it, and then offers a page to chat with. Ctrl-C ends everything and
# leaves nothing behind.
#
#   tests/demo.sh           until Ctrl-C
#   tests/demo.sh --once    exits after the users' chat with status 0 or 1

set -u
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
cd "$tests/.." || exit 1

case "${1-}" in
    '' | --once) ;;
    *) echo "usage: $0 [--once]" >&2; exit 2 ;;
esac

[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

demo=
directory=$(mktemp -d) || exit 1
end() {
    trap '' INT TERM HUP
    # The demo stops Prosody and jabsocket.
    [ -n "$demo" ] && kill -TERM "$demo" 2>/dev/null && wait "$demo"
    rm -rf "$directory"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

echo '1. Install missing packages.'
bash tests/install.sh demo || exit 1

echo '2. cargo build --release'
cargo build --release </dev/null || exit 1

TMPDIR=$directory DEMO_STEP=3 node tests/demo/demo.mjs "$@" </dev/null &
demo=$!
wait "$demo"
status=$?
demo=
exit $status
