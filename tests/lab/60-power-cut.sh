#lab: guests=2 disk=lio,nvmet extra=1 timeout=900 append="clocksource=acpi_pm tsc=unstable"
# The power of the writer's host is cut. The other asks and gets the volume without anybody's help, and without waiting for late
# writes; what was acknowledged is there, and the file system is clean. The first host comes back as a reader.
. volctl-lab.sh
case $LAB_ID$LAB_BOOT in
a1)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  barrier made
  log_on alice
  done_ok v request footage --wait 60s
  keep_writing alice
  fail "alice's writing ended: $(cat /tmp/dd)"
  ;;
a2)
  refused overwrite
  log_on alice
  until_shown 90 '"state": ?"ro"' v status --json
  refused overwrite
  last=$(labctl get last-alice)
  written_are_there alice $last
  log_off
  labctl put back 1
  ;;
b1)
  barrier made
  log_on bob
  until [ "$(labctl peek last-alice)" -gt 5 ]; do sleep 0.5; done 2> /tmp/x
  until_shown 60 '"enforcement": ?"fenced"' v status --json
  labctl kill a
  last=$(labctl get last-alice)
  t=$(labctl now)
  done_ok v request footage --wait 90s
  say "taken over in $t..$(labctl now) s; $(grep -o 'fence.inherited.*' /out/daemon.log | tail -1)"
  grep -q fence.inherited /out/daemon.log || fail "it was waited out: $(cat /out/daemon.log)"
  written_are_there alice $last
  keep_writing bob & w=$!
  until [ -s /tmp/written ]; do sleep 0.1; done
  labctl restart a
  labctl get back
  kill $w; wait $w
  written_are_there bob $(cat /tmp/written)
  done_ok v release footage
  log_off
  fs_clean
  ;;
esac
