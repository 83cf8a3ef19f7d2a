# Run by a unit of its own on a Debian with fdwatch's package: each line is the result of a check of
# fdwatch.service. docs/systemd.md documents the behavior.

exec >/dev/ttyS0 2>&1
export SYSTEMD_PAGER= SYSTEMD_COLORS=0 TERM=dumb NO_COLOR=1

report() { echo "fdwatch-service: $*"; }

# check NAME COMMAND...
check() {
    name=$1
    shift
    if "$@"; then report "ok $name"; else report "FAILED $name"; fi
}

# Whether the command succeeds within two minutes.
soon() {
    for _ in $(seq 120); do
        "$@" && return
        sleep 1
    done
    return 1
}

of() { systemctl show --property "$1" --value fdwatch; }
is() { test "$(of "$1")" = "$2"; }
is_another() { test "$(of MainPID)" != 0 && test "$(of MainPID)" != "$1"; }
runs() { is ActiveState active; }
runs_as_another() { runs && is_another "$1"; }
logged() { journalctl --quiet --unit fdwatch --grep "$1" >/dev/null; }
not_logged() { ! logged "$1"; }
may() { grep -q "CapPrm:.*$1" "/proc/$(of MainPID)/status"; }
in_history() { test "$(fdwatch history --json --path "$1" | wc -l)" = "$2"; }
paranoid() { echo "$1" >/proc/sys/kernel/perf_event_paranoid; }

uname -r
# Debian's default; the level 3 is a patch of Debian.
check "perf_event_paranoid is 3" test "$(cat /proc/sys/kernel/perf_event_paranoid)" = 3
check "starts at boot" soon runs
# BPF, PERFMON, CHECKPOINT_RESTORE, SYS_PTRACE, DAC_READ_SEARCH; and SYS_ADMIN.
check "keeps the capabilities that this kernel requires" may 000001c000280004

file=/var/log/duplicate.log
# Perl's descriptors are close-on-exec: no other process inherits them.
perl -e 'open my $one, ">>", $ARGV[0]; open my $other, ">>", $ARGV[0]; sleep' "$file" &
check "finds a duplicate" soon in_history "$file" 1
check "all programs are loaded" not_logged "findings lack stacks|cannot (load|attach|take a snapshot)"

before=$(of MainPID)
check "reloads" systemctl reload fdwatch
check "keeps its process on reload" is MainPID "$before"
check "logs the reload" soon logged "reloaded the configuration"

systemctl kill --signal KILL fdwatch
check "restarts after a kill" soon runs_as_another "$before"
check "keeps one history entry across restarts" soon in_history "$file" 1

before=$(of MainPID)
systemctl kill --signal STOP fdwatch
check "the watchdog restarts a hung agent" soon runs_as_another "$before"
check "the watchdog is logged" logged "[Ww]atchdog timeout"

check "the kill switch can be set" fdwatch agent --stop
check "stops by the kill switch" soon is ActiveState inactive
systemctl start fdwatch
check "does not start while the kill switch is set" is ActiveState inactive
rm /run/fdwatch.stop

paranoid 2
systemctl start fdwatch
check "starts without the kill switch" soon runs
check "drops the capability that this kernel does not require" may 000001c000080004
check "all programs are loaded without it" not_logged "findings lack stacks|cannot (load|attach|take a snapshot)"

systemctl stop fdwatch
check "stops cleanly" is Result success
check "removes its socket" test ! -e /run/fdwatch
journalctl --no-pager --output short-monotonic --unit fdwatch
report end
systemctl poweroff --force --force
