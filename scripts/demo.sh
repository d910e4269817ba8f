#!/bin/bash
# The five-minute tour: a small network of namespaces (an office, its provider, a server), with
# wirewitness recording on the server's uplink. The provider begins to lose packets, and the server logs a
# warning, which freezes a precursor quietly; then the provider loses all of them, the server logs an error,
# an alert arrives, the precursor is promoted, and what passed before and after the fault is shown.
#
#   scripts/demo.sh           the tour; leaves the capture file, and nothing else, behind
#   scripts/demo.sh --check   the same without pauses, as a test: ends with 1 when anything is amiss
#
# Needs root, for the namespaces. Touches no interface, route or setting of this machine.
set -euo pipefail

check=no
[ "${1:-}" = --check ] && check=yes
root=$(cd "$(dirname "$0")/.." && pwd)
program=${WIREWITNESS_BIN:-$root/target/release/wirewitness}

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
say() { printf '   %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "network namespaces need root; run: sudo make demo"
[ -x "$program" ] || fail "$program is not there; build it with make"
"$root/scripts/deps.sh" test

work=$(mktemp -d /tmp/wwdemo-XXXXXX)
slots=$(mktemp -d /dev/shm/wwdemo-XXXXXX)
name=wwdemo-$$
office=$name-office provider=$name-provider server=$name-server
jobs_started=()

cleanup() {
    trap - EXIT INT TERM
    for pid in "${jobs_started[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${jobs_started[@]}"; do wait "$pid" 2>/dev/null || true; done
    for space in "$office" "$provider" "$server"; do
        ip netns pids "$space" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$space" 2>/dev/null || true
    done
    rm -rf "$work" "$slots"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a program in a session of its own, so that cleaning up ends its children as well.
background() { # LOG COMMAND...
    local log=$1; shift
    setsid "$@" >>"$log" 2>&1 </dev/null &
    jobs_started+=($!)
}

# Asks until the answer is yes, for at most 30 seconds.
until_true() { # WHAT COMMAND...
    local what=$1 deadline=$((SECONDS + 30)); shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            tail -n 20 "$work"/{record,serve}.log >&2 || true
            fail "waited 30 s in vain for $what"
        fi
        sleep 0.1
    done
}

ww() { "$program" --config "$work/wirewitness.toml" "$@"; }

step "1. A network: office -- provider -- server"
for space in "$office" "$provider" "$server"; do
    ip netns add "$space"
    ip -n "$space" link set lo up
    ip netns exec "$space" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
ip link add eth0 netns "$office" type veth peer name office netns "$provider"
ip link add uplink netns "$server" type veth peer name server netns "$provider"
ip -n "$office" addr add 10.80.1.2/24 dev eth0
ip -n "$provider" addr add 10.80.1.1/24 dev office
ip -n "$provider" addr add 10.80.2.1/24 dev server
ip -n "$server" addr add 10.80.2.2/24 dev uplink
for link in "$office eth0" "$provider office" "$provider server" "$server uplink"; do
    # shellcheck disable=SC2086 # two words are meant
    set -- $link
    ip -n "$1" link set "$2" up
done
ip -n "$office" route add default via 10.80.1.1
ip -n "$server" route add default via 10.80.2.1
ip netns exec "$provider" sysctl -q -w net.ipv4.ip_forward=1
until_true "the path through the provider" ip netns exec "$office" ping -c 1 -W 1 10.80.2.2
say "office 10.80.1.2, server 10.80.2.2, and a provider between them that everybody trusts"

step "2. wirewitness records the server's uplink"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
if [ $check = yes ]; then before=3s after=4s calm=3; else before=6s after=6s calm=8; fi
touch "$work/app.log"
cat >"$work/wirewitness.toml" <<TOML
[capture]
interfaces = ["uplink"]
buffer = "16MiB"
[ring]
path = "$work/var/ring"
size = "64MiB"
segment = "4MiB"
memory = "16MiB"
slots = "$slots"
[evidence]
path = "$work/var/incidents"
quota = "256MiB"
[window]
before = "$before"
after = "$after"
cooldown = "1m"
[web]
listen = "127.0.0.1:$port"
socket = "$work/api.sock"
[[logfile]]
path = "$work/app.log"
[[rule]]
name = "errors"
match = 'ERROR.* peer=(?P<peer>\S+)'
subject = "{peer}"
[[rule]]
name = "early sign"
match = 'WARN.* peer=(?P<peer>\S+)'
subject = "{peer}"
grade = "precursor"
[[webhook]]
name = "prometheus"
kind = "alertmanager"
token = "only-for-the-demo"
TOML
mkdir -p "$work/var"
background "$work/record.log" ip netns exec "$server" "$program" --config "$work/wirewitness.toml" record
background "$work/serve.log" "$program" --config "$work/wirewitness.toml" serve
recording() { ww --json status | jq -e '.interfaces[0].state == "running"'; }
until_true "the recorder" recording
say "recorder inside the server's namespace, server on http://127.0.0.1:$port"

step "3. Ordinary traffic"
mkdir "$work/www"
seq 1 2000 >"$work/www/prices.txt"
background "$work/www.log" ip netns exec "$server" python3 -m http.server --directory "$work/www" --bind 10.80.2.2 80
# The office looks at a page and pings; the server watches its customer, and logs what it sees.
background "$work/office.log" ip netns exec "$office" sh -c \
    'while :; do curl -s -o /dev/null --max-time 1 http://10.80.2.2/prices.txt; sleep 0.2; done'
background "$work/ping.log" ip netns exec "$office" ping -i 0.2 10.80.2.2
background "$work/pong.log" ip netns exec "$server" ping -i 0.2 10.80.1.2
# shellcheck disable=SC2016 # expanded by the inner shell
background "$work/app.err.log" ip netns exec "$server" sh -c \
    'while :; do
         answers=$(ping -q -c 5 -i 0.05 -W 1 10.80.1.2 | sed -n "s/.*transmitted, \([0-9]*\) received.*/\1/p")
         case $answers in
             5) word="INFO customer reached" ;;
             0) word="ERROR customer timed out" ;;
             *) word="WARN customer answers $answers of 5" ;;
         esac
         echo "$(date -u +%FT%T.%3NZ) shop: $word peer=10.80.1.2" >>"$1"; sleep 0.5
     done' app "$work/app.log"
written() { ww --json status | jq '.interfaces[0].written'; }
enough() { [ "$(written)" -gt 100 ]; }
until_true "traffic in the ring" enough
for ((second = calm; second > 0; second--)); do
    printf '\r   %s packets recorded ' "$(written)"
    sleep 1
done
printf '\n'

step "4. The provider loses a packet here and there, for a moment"
half=(FORWARD -i office -p icmp -m statistic --mode nth --every 2 --packet 0 -j DROP)
ip netns exec "$provider" iptables -I "${half[@]}"
warned() { grep -q WARN "$work/app.log"; }
until_true "the server's warning" warned
ip netns exec "$provider" iptables -D "${half[@]}"
say "the server logs: $(grep -m 1 WARN "$work/app.log")"
sealed_sign() { ww --json incidents | jq -e 'any(.[]; .grade == "precursor" and .state == "sealed")'; }
until_true "the precursor to be sealed" sealed_sign
say "no alarm yet; wirewitness has frozen a precursor, quietly:"
ww incidents

step "5. Now it loses everything that the office sends"
fault=$(date +%s.%N)
ip netns exec "$provider" iptables -I FORWARD -i office -j DROP
say "$(date -u -d "@$fault" +%T) (and says: nothing wrong on our side)"
logged() { grep -q ERROR "$work/app.log"; }
until_true "the server's error" logged
say "the server logs: $(grep -m 1 ERROR "$work/app.log")"
alert=$(jq -n --arg at "$(date -u +%FT%T.%3NZ)" '{version: "4", status: "firing", receiver: "wirewitness",
    groupKey: "{}:{alertname=\"CustomerUnreachable\"}", truncatedAlerts: 0, groupLabels: {alertname: "CustomerUnreachable"},
    commonLabels: {alertname: "CustomerUnreachable", instance: "10.80.1.2"}, commonAnnotations: {summary: "no answer from 10.80.1.2"},
    externalURL: "http://alertmanager", alerts: [{status: "firing",
        labels: {alertname: "CustomerUnreachable", instance: "10.80.1.2"}, annotations: {summary: "no answer from 10.80.1.2"},
        startsAt: $at, endsAt: "0001-01-01T00:00:00Z", generatorURL: "http://prometheus", fingerprint: "d3a1c2b4e5f60718"}]}')
answer=$(curl -sS --fail-with-body -H 'Authorization: Bearer only-for-the-demo' --json "$alert" \
    "http://127.0.0.1:$port/hooks/prometheus") || fail "the hook said: $answer"
say "monitoring posts its alert: $answer"
sleep 1
repair=$(date +%s.%N)
ip netns exec "$provider" iptables -D FORWARD -i office -j DROP
say "$(date -u -d "@$repair" +%T) the provider repairs it, quietly (and says: works for us)"

step "6. wirewitness has frozen the minutes around it"
sealed() { ww --json incidents | jq -e 'length > 0 and all(.[]; .state == "sealed")'; }
until_true "the incidents to be sealed" sealed
id=$(ww --json incidents | jq -r 'sort_by(.trigger.at) | map(select(.trigger.kind == "logfile" and (.trigger.text | contains("ERROR")))) | .[0].id // empty')
[ -n "$id" ] || fail "the log line opened no incident: $(ww --json incidents)"
ww incidents
ww incidents show "$id"

first_sign() { ww --json incidents show "$id" | jq -er '.first_sign.at'; }
sign=$(first_sign) || fail "the fault shows no first sign: $(ww --json incidents show "$id")"
ww --json incidents | jq -e 'all(.[]; .grade == "incident")' >/dev/null ||
    fail "the precursor was not promoted: $(ww --json incidents)"
say "its first sign came at $sign: what was a precursor is kept as an incident now"

step "7. The packets"
capture=$work/incident.pcapng
ww export "$id" -o "$capture"
count() { # FILTER: packets before, during and after the fault
    tcpdump -nn -tt -r "$capture" "$1" 2>/dev/null | awk -v fault="$fault" -v repair="$repair" '
        { n[($1 >= fault) + ($1 >= repair)]++ }
        END { printf "%d %d %d", n[0], n[1], n[2] }'
}
read -r in_before in_during in_after <<<"$(count 'src host 10.80.1.2')"
read -r out_before out_during out_after <<<"$(count 'src host 10.80.2.2')"
row() { printf '   %-18s %18s %18s %18s\n' "$@"; }
row '' 'before the fault' 'during the fault' 'after the fault'
row 'from the office' "$in_before" "$in_during" "$in_after"
row 'from the server' "$out_before" "$out_during" "$out_after"
say ''
say "The server went on asking while nothing of the office came through: it was the path."

[ "$in_before" -gt 0 ] && [ "$out_before" -gt 0 ] || fail "no packets from before the fault"
[ "$out_during" -gt 0 ] || fail "no packets of the server during the fault"
# What was on its way when the rule was inserted may still arrive.
[ "$in_during" -lt 5 ] || fail "$in_during packets of the office came through during the fault"
[ "$in_after" -gt 0 ] && [ "$out_after" -gt 0 ] || fail "no packets from after the fault"

if [ $check = no ]; then
    cp "$capture" /tmp/wirewitness-demo.pcapng
    step "8. Yours to look at"
    say "the packets:  wireshark /tmp/wirewitness-demo.pcapng"
    if [ -t 0 ]; then
        password=$(head -c 9 /dev/urandom | base64)
        printf '%s\n' "$password" | ww user add demo --role admin >/dev/null
        say "the browser:  http://127.0.0.1:$port  user demo, password $password"
        printf '\n   Press Enter to clean up. '
        read -r _
    fi
fi
