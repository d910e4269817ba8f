#!/bin/sh
# Installs what is missing, and says why each thing is needed.
#
#   scripts/deps.sh          what building and running needs
#   scripts/deps.sh test     that, and what the tests and the demo need
#
# As root it installs through apt and starts no service. As an ordinary user it changes nothing:
# it prints the line to run and ends with 1 when something is missing.
set -eu

# probe | package | why. A probe is a command in PATH, or a file when it begins with a slash.
RUN='
gcc|gcc|compiles SQLite, which is bundled, and links the program
/usr/include/stdio.h|libc6-dev|headers for the same
make|make|runs the Makefile
/usr/include/pcap/pcap.h|libpcap-dev|packet capture and the filter compiler
'
TEST='
ip|iproute2|network namespaces and veth pairs: every test network is built of them
ethtool|ethtool|switches offloads of the test links
iptables|iptables|drops packets on purpose inside the test namespaces
ping|iputils-ping|ordinary traffic for the demo
ps|procps|process lists in the demo and the tests
setpriv|util-linux|tries to alter evidence as another user
mkfs.ext4|e2fsprogs|file systems that lose their power, on loop devices
mkfs.xfs|xfsprogs|the same as XFS; xfs_io takes the power
curl|curl|fires webhooks, fetches exports
jq|jq|reads JSON in the demo
strace|strace|counts the system calls of the capture thread
g++|g++|builds libFuzzer, which fuzzes what reads hostile bytes
valgrind|valgrind|runs the tests of mapped memory once more (make sanitize)
python3|python3|the small web server of the demo
tcpdump|tcpdump|reads every file that we write
tshark|tshark|reads every file that we write; the comparison of benches/
netsniff-ng|netsniff-ng|a recorder to compare ours with: make bench-peers
dumpcap|wireshark-common|the same
capinfos|wireshark-common|capinfos, editcap and mergecap read every file that we write
/lib/systemd/systemd-journald|systemd|a journal that we follow
rsyslogd|rsyslog|forwards real syslog messages to us
/usr/share/doc/rsyslog-openssl|rsyslog-openssl|the same within TLS
/usr/share/doc/rsyslog-gnutls|rsyslog-gnutls|the same with its other TLS driver
openssl|openssl|makes the certificates of the TLS tests
logrotate|logrotate|rotates log files that we follow
snmptrap|snmp|sends traps and informs of every version
icinga2|icinga2-bin|notifies us with the shipped command
openssl|openssl|signs webhooks independently of us
prometheus-alertmanager|prometheus-alertmanager|posts real alerts to us
/usr/bin/aiosmtpd|python3-aiosmtpd|a mail server that takes our notifications
chromium|chromium|the browser of the UI tests
/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc|fonts-noto-cjk|Japanese in the browser of the UI tests
'

say() { printf 'deps: %s\n' "$*" >&2; }

# Debian keeps some commands in sbin, which is not in an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

present() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

group=${1:-run}
case $group in
    run) wanted=$RUN ;;
    test) wanted=$RUN$TEST ;;
    *) say "unknown group '$group': run or test"; exit 2 ;;
esac

missing=
while IFS='|' read -r probe package why; do
    [ -n "$probe" ] || continue
    present "$probe" && continue
    say "missing: $package ($why)"
    missing="$missing $package"
done <<END
$wanted
END

toolchain=
if ! present cargo; then
    say "missing: Rust 1.95 or later. Install it from https://rustup.rs, then run this again."
    toolchain=missing
fi
node_major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p')
if [ "${node_major:-0}" -lt 20 ] || ! present npm; then
    say "missing: Node.js 20 or later with npm (builds the user interface; Debian 12's own is too old)."
    say "         Install it from https://nodejs.org, then run this again."
    toolchain=missing
fi

if [ -n "$missing" ]; then
    if ! present apt-get; then
        say "this machine has no apt-get: install the above with its own package manager"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "to install them, run:"
        printf 'sudo apt-get update && sudo apt-get install --no-install-recommends -y%s\n' "$missing"
        exit 1
    fi
    say "installing:$missing"
    # Packages that hold a service must not start it: the tests start their own.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # one word per package is meant
    if ! apt-get install --no-install-recommends -y -qq $missing >/dev/null 2>&1; then
        say "refreshing the package lists"
        apt-get update -qq >&2
        # shellcheck disable=SC2086
        apt-get install --no-install-recommends -y -qq $missing >&2
    fi
    say "installed"
fi
[ -z "$toolchain" ] || exit 1
