#!/bin/bash
# Fuzzes every target for a while, two at a time, starting from a corpus of real traffic.
#
#   tests/fuzz/smoke.sh [SECONDS] [TARGET...]     default: 60 s for each target
#
# Failing inputs go to tests/fuzz/artifacts, new inputs of the corpus to
# tests/fuzz/target/corpus. The last line is "fuzz: N ok, M not".

set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
seconds=${1:-60}
shift $(($# > 0))
triple=x86_64-unknown-linux-gnu
[ "$(uname -m)" = aarch64 ] && triple=aarch64-unknown-linux-gnu

# AddressSanitizer checks the bindings to Expat. Debian's Rust does not have it.
sanitizer=-Zsanitizer=address
if ! compgen -G "$(rustc --print target-libdir --target $triple)/librustc*_rt.asan.a" >/dev/null; then
    sanitizer=
    echo 'fuzz: this Rust has no AddressSanitizer, fuzzing without it'
fi
# Lets the stable compiler build fuzz targets with the coverage for libFuzzer.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing $sanitizer -Cpasses=sancov-module \
 -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
if ! cargo build --locked --release --target $triple; then
    echo 'fuzz: 0 ok, 1 not'
    exit 1
fi

if [ $# -gt 0 ]; then targets=("$@"); else targets=(targets/*.rs); fi

fuzz() {
    local target=$1 log=target/$1.log status
    mkdir -p "target/corpus/$target" artifacts
    "target/$triple/release/$target" -max_total_time="$seconds" -max_len=3000 -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="artifacts/$target-" -print_final_stats=1 \
        "target/corpus/$target" "corpus/$target" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        sed -nE "s/^#([0-9]+).*DONE +(cov: [0-9]+).*/$target: \1 runs, \2/p" "$log"
        echo "$target" >>target/ok
    else
        tail -n 60 "$log"
        printf '** %s: status %s, see %s and artifacts/\n' "$target" $status "$log"
    fi
}

rm -f target/ok
touch target/ok
for target in "${targets[@]}"; do
    target=${target##*/}
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    fuzz "${target%.rs}" &
done
wait
ok=$(wc -l <target/ok)
printf 'fuzz: %d ok, %d not\n' "$ok" $((${#targets[@]} - ok))
[ "$ok" -eq ${#targets[@]} ]
