#!/bin/bash
# Counts the instructions per stanza on the relay path with callgrind, without sockets,
# kernel and Expat (whose versions differ). The numbers do not depend on the load of the
# machine. Exits with status 1 if a number is more than TOLERANCE percent above the one in
# callgrind.txt; `--record` replaces that file.

set -eu -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
recorded=tests/bench/callgrind.txt
TOLERANCE=${TOLERANCE:-15}
command -v valgrind >/dev/null || { echo 'callgrind.sh needs valgrind (apt-get install valgrind)' >&2; exit 2; }
cargo build --quiet --release --example stanzas
program=target/release/examples/stanzas
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# Counts the instructions for COUNT stanzas: those of the program, and all.
count() {
    local file="$counts/$1-$2-$3"
    # Without AVX, to make memchr and libc independent of the processor.
    GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS \
        valgrind --quiet --tool=callgrind --callgrind-out-file="$file" "$program" "$@" >"$counts/log"
    callgrind_annotate --threshold=100 "$file" 2>/dev/null | awk '
        function n(s) { gsub(",", "", s); return s + 0 }
        /PROGRAM TOTALS/ { all = n($1) }
        /\[.*libexpat/ { expat += n($1) }
        END { print all - expat, all }'
}

status=0
new=""
for path in up down; do
    for size in 200 4096 65000; do
        # The difference of two runs excludes the work before the stanzas.
        few=($(count $path $size 100))
        many=($(count $path $size 300))
        own=$(((many[0] - few[0]) / 200))
        all=$(((many[1] - few[1]) / 200))
        was=$(awk -v p="$path" -v s="$size" '$1 == p && $2 == s { print $3 }' "$recorded" 2>/dev/null || true)
        printf '%-4s %6d B: %6d instructions a stanza (recorded: %s), %6d with Expat\n' \
            $path $size $own "${was:--}" $all
        new+="$path $size $own"$'\n'
        if [ -n "$was" ] && [ $((own * 100)) -gt $((was * (100 + TOLERANCE))) ]; then
            echo "** more than $TOLERANCE percent above the recorded number" >&2
            status=1
        fi
    done
done
if [ "${1-}" = --record ]; then
    printf '%s' "$new" >"$recorded"
    exit 0
fi
exit $status
