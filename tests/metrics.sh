#!/bin/bash
# Checks the metrics of two workers with promtool from Prometheus, and the alert rules and
# the dashboard that name them.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

daemon=target/release/jabsocket
[ -x $daemon ] || daemon=target/debug/jabsocket
work=$(mktemp -d) || exit 1
pid=
trap '[ -n "$pid" ] && kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=example.com \
    -keyout "$work/key" -out "$work/certificate" 2>/dev/null || exit 1
printf '%s\n' "tls_certificate: $work/certificate" "tls_key: $work/key" 'port: 0' 'listen: 127.0.0.1' 'workers: 2' 'status_listen: 127.0.0.1:0' \
    'domains: [{name: example.com, server: "127.0.0.1:1"}, "*.example.org"]' 'log_level: LOG_INFO' >"$work/conf"
: >"$work/log"
$daemon -n -c "$work/conf" 2>>"$work/log" &
pid=$!
# Waits for the master's line, which follows the lines of all workers.
timeout 10 tail -n +1 -f --pid=$pid "$work/log" | sed '/listening on/q' >"$work/start"
address=$(sed -nE '/status at /{s/.*http:..(.*).metrics/\1/p;q}' "$work/start")
[ -n "$address" ] || { echo 'metrics: the daemon did not start:'; cat "$work/log"; exit 1; }

for path in /metrics/workers /metrics; do
    exec 3<>"/dev/tcp/${address%:*}/${address##*:}" || exit 1
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\n\r\n' $path "$address" >&3
    timeout 10 cat <&3 | sed '1,/^\r$/d' >"$work/page"
    exec 3>&-
    lines=$(grep -c '^jabsocket_' "$work/page")
    [ "$lines" -gt 100 ] || { echo "metrics: only $lines samples at $path"; exit 1; }
    grep -q '^jabsocket_workers.* [12]$' "$work/page" || { echo "metrics: no workers at $path"; exit 1; }
    promtool check metrics <"$work/page" || exit 1
    echo "metrics: promtool accepts $lines samples at $path"
done

# The alert rules: each fires in time, names metrics that exist, and has a test.
rules=conf/prometheus-alerts.yml
promtool check rules $rules || exit 1
sed '/^ *annotations:/d; /^ *summary:/d; /^ *description:/d' $rules >"$work/rules.yml"
cp tests/alerts.yml "$work/"
promtool test rules "$work/alerts.yml" || exit 1
for metric in $(grep '^ *expr:\|^ *sum\|^ *>' $rules | grep -o '\(jabsocket\|process\)_[a-z_]*' | sort -u); do
    grep -q "^$metric[{ ]" "$work/page" || { echo "metrics: no $metric, which a rule names"; exit 1; }
done
for alert in $(sed -n 's/.*alert: //p' $rules); do
    grep -q "alertname: $alert" tests/alerts.yml || { echo "metrics: no test of $alert"; exit 1; }
done

# The dashboard for Grafana: each query is valid and names metrics that exist.
dashboard=conf/grafana-dashboard.json
sed -n 's/^ *"\(expr\|query\)": "\(.*\)",\{0,1\}$/\2/p' $dashboard | grep '[{(]' |
    sed 's/\\"/"/g; s/\$__rate_interval/5m/g; s/^label_values(\(.*\), [a-z]*)$/\1/' >"$work/queries"
queries=$(grep -c . "$work/queries")
named=$(grep -c '"\(expr\|query\)": ".*[{(]' $dashboard)
[ "$queries" -gt 40 ] && [ "$queries" = "$named" ] || { echo "metrics: $queries of $named queries in $dashboard"; exit 1; }
{
    printf 'groups:\n- name: dashboard\n  rules:\n'
    awk '{ gsub(/\047/, "\047\047"); printf "  - record: query_%d\n    expr: \047%s\047\n", NR, $0 }' "$work/queries"
} >"$work/dashboard.yml"
promtool check rules "$work/dashboard.yml" || { cat "$work/dashboard.yml"; exit 1; }
for metric in $(grep -o '\(jabsocket\|process\)_[a-z_]*' "$work/queries" | sort -u); do
    grep -q "^$metric[{ ]" "$work/page" || { echo "metrics: no $metric, which the dashboard names"; exit 1; }
done
for metric in $(sed -n 's/^\(jabsocket_[a-z_]*\)[{ ].*/\1/p' "$work/page" | sed 's/_\(sum\|count\|bucket\)$//' | sort -u); do
    case $metric in jabsocket_start_time_seconds | jabsocket_build_info | jabsocket_draining | jabsocket_config_time_seconds | jabsocket_domain_sessions_total | jabsocket_server_sessions_total) continue ;; esac
    grep -q "$metric" $dashboard || { echo "metrics: the dashboard does not show $metric"; exit 1; }
done
echo "metrics: all $queries queries of the dashboard name metrics that exist"
