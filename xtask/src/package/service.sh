# Done by a unit of its own in a Debian that has fdwatch's package: each line says whether something
# holds of fdwatch.service. What it is held to is in docs/systemd.md.

exec >/dev/ttyS0 2>&1
export SYSTEMD_PAGER= SYSTEMD_COLORS=0 TERM=dumb NO_COLOR=1

say() { echo "fdwatch-service: $*"; }

# holds NAME COMMAND...
holds() {
    name=$1
    shift
    if "$@"; then say "ok $name"; else say "FAILED $name"; fi
}

# Whether the command comes to succeed within two minutes.
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
told() { journalctl --quiet --unit fdwatch --grep "$1" >/dev/null; }
not_told() { ! told "$1"; }
may() { grep -q "CapPrm:.*$1" "/proc/$(of MainPID)/status"; }
in_history() { test "$(fdwatch history --json --path "$1" | wc -l)" = "$2"; }
paranoid() { echo "$1" >/proc/sys/kernel/perf_event_paranoid; }

uname -r
# As Debian has it; what it means is Debian's own.
holds "the kernel is as strict as Debian's are" test "$(cat /proc/sys/kernel/perf_event_paranoid)" = 3
holds "it is started at boot" soon runs
# BPF, PERFMON, CHECKPOINT_RESTORE, SYS_PTRACE, DAC_READ_SEARCH; and SYS_ADMIN.
holds "it keeps what this kernel wants" may 000001c000280004

file=/var/log/twice.log
# Perl's descriptors close on exec: no one else has them.
perl -e 'open my $one, ">>", $ARGV[0]; open my $other, ">>", $ARGV[0]; sleep' "$file" &
holds "what is held twice is found" soon in_history "$file" 1
holds "no program is refused" not_told "the kernel refuses"

before=$(of MainPID)
holds "it can be told to reload" systemctl reload fdwatch
holds "it goes on after that" is MainPID "$before"
holds "it has reloaded" soon told "configuration was read again"

systemctl kill --signal KILL fdwatch
holds "it is started again when it was killed" soon runs_as_another "$before"
holds "a finding is one over both lives" soon in_history "$file" 1

before=$(of MainPID)
systemctl kill --signal STOP fdwatch
holds "the watchdog ends what stands still" soon runs_as_another "$before"
holds "the watchdog did" told "[Ww]atchdog timeout"

holds "the kill switch is pressed" fdwatch agent --stop
holds "it ends by the kill switch" soon is ActiveState inactive
systemctl start fdwatch
holds "it does not start while it is pressed" is ActiveState inactive
rm /run/fdwatch.stop

paranoid 2
systemctl start fdwatch
holds "it starts when it is not" soon runs
holds "it gives up what this kernel does not want" may 000001c000080004
holds "no program is refused then" not_told "the kernel refuses"

systemctl stop fdwatch
holds "it stops as it is told to" is Result success
holds "it leaves no socket" test ! -e /run/fdwatch
journalctl --no-pager --output short-monotonic --unit fdwatch
say end
systemctl poweroff --force --force
