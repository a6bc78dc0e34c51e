#lab: guests=2 disk=lio,nvmet,virtio timeout=900 append="clocksource=acpi_pm tsc=unstable"
# Two hosts change the tables as fast as they can for 40 seconds: nothing acknowledged is lost, nothing is damaged, and neither
# gets less than a third of the turns; with each kind of semaphore that this disk can have.
. volctl-lab.sh
compete() { # LOCK
  rm -f /tmp/acknowledged
  [ $LAB_ID = b ] || { done_ok volctl init $DISK --lock $1 --force $T; }
  barrier made-$1
  adds $DISK $LAB_ID 120 "over-$1" & n=$!
  if [ $LAB_ID = a ]; then sleep 40; labctl put over-$1 1; fi
  wait $n
  labctl put $1-$LAB_ID "$(wc -l < /tmp/acknowledged)"
  a=$(labctl get $1-a); b=$(labctl get $1-b)
  all_there $DISK
  [ "$(count_clients $DISK)" = $((a + b)) ] || fail "$(volctl client list --control $DISK)"
  clean $DISK
  [ $((3 * a)) -ge $((a + b)) ] && [ $((3 * b)) -ge $((a + b)) ] || fail "$1: not fair: a $a, b $b"
  say "$1: a $a, b $b in 40 s"
  barrier looked-$1
}
for lock in $(kinds); do compete $lock; done
