#lab: guests=2 disk=lio extra=1 timeout=900 append="clocksource=acpi_pm tsc=unstable"
# The storage hangs, and then alice's daemon is killed while she writes: her guardian waits in the closing of her gate. Nobody says that it is
# closed, and a new daemon neither kills that guardian, which would let go what the kernel holds back, nor logs on beside it. When the
# storage comes back the gate closes, and not one byte of the disk changes after it.
. volctl-lab.sh
modprobe dm_mod || fail "no device-mapper"
case $LAB_ID in
a)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  barrier made
  log_on alice 'publish = "1h"'
  done_ok v request footage --wait 60s
  write_on alice
  g=$(my_gate linear); [ -n "$g" ] || fail "her gate is not of device-mapper: $(tail -3 /out/daemon.log)"
  labctl put freeze 1; labctl get frozen
  sleep 1; kill -9 $d
  until grep -q closing /run/volctl/*guardian* 2> /tmp/x; do sleep 0.1; done
  old=$(pidof volctl); say "guardian $old is closing: $(cat /run/volctl/*guardian*); $(tables)"
  tables | grep -q "$g.*linear" || fail "it counts as closed while its writes are under way: $(tables)"
  if volctl daemon --config /etc/volctl.toml > /out/second.log 2>&1; then fail "a daemon logged on beside it"; fi
  say "the new daemon: $(tail -3 /out/second.log | tr '\n' ' ')"
  # Which of the two it meets first: a thread of the killed daemon may hang in the storage, too.
  grep -Eq 'hangs in the kernel|runs here already' /out/second.log || fail "$(cat /out/second.log)"
  [ "$(pidof volctl)" = "$old" ] || fail "the guardian that was closing is gone: $(tables)"
  tables | grep -q "$g.*linear" || fail "it closed although the storage hangs: $(tables)"
  t=$(labctl now); labctl put thaw 1
  while pidof volctl > /tmp/x; do sleep 0.1; done
  say "the storage is back since $t, guardian gone at $(labctl now); $(tables)"
  if tables | grep -q linear; then fail "it passes writes: $(tables)"; fi
  labctl put closed 1
  wait $w; say "her last stable file: $(written); then: $(tail -1 /tmp/dd)"
  no_gates
  labctl put last "$(written)"
  barrier end
  ;;
b)
  barrier made
  log_on bob
  labctl get freeze; labctl freeze s; labctl put frozen 1
  labctl get thaw; labctl thaw s
  labctl get closed
  before=$(medium); sleep 6; [ "$before" = "$(medium)" ] || fail "the disk changed after her gate was closed"
  last=$(labctl get last)
  done_ok v request footage --wait 90s
  written_are_there alice $last
  done_ok v release footage
  barrier end
  log_off
  no_gates
  fs_clean
  ;;
esac
