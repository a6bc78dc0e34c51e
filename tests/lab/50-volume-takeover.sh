#lab: guests=2 disk=lio,nvmet extra=1 timeout=900 append="clocksource=acpi_pm tsc=unstable"
# While alice writes, bob's host cannot, with or without volctl, and sees it: fenced. Her host stands still for two minutes, bob
# asks, and gets the volume without anybody's help and without waiting for her late writes; she wakes up and writes on: none of it
# lands, and the file system of the new writer is clean. Nor does any of it land once he has let the volume go.
. volctl-lab.sh
case $LAB_ID in
a)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  barrier made
  log_on alice
  done_ok v request footage --wait 60s
  keep_writing alice & w=$!
  until [ -s /tmp/written ]; do sleep 0.1; done
  barrier writing
  wait $w                                # until a write fails
  say "alice's last acknowledged write: $(cat /tmp/written); then: $(tail -1 /tmp/dd)"
  refused overwrite
  labctl put last "$(cat /tmp/written)"
  barrier released
  refused overwrite
  barrier over
  ;;
b)
  barrier made
  log_on bob
  barrier writing
  refused overwrite
  until_shown 60 '"enforcement": ?"fenced"' v status --json
  labctl freeze a
  t=$(labctl now)
  done_ok v request footage --wait 90s
  say "taken over in $t..$(labctl now) s; $(grep -o 'fence.inherited.*' /out/daemon.log | tail -1)"
  grep -q fence.inherited /out/daemon.log || fail "it was waited out: $(cat /out/daemon.log)"
  keep_writing bob & w=$!
  until_shown 60 '"enforcement": ?"fenced"' v status --json
  sleep 95
  labctl thaw a
  last=$(labctl get last)
  sleep 2
  kill -0 $w || fail "bob's writing ended: $(cat /tmp/dd)"
  kill $w; wait $w
  written_are_there alice $last
  written_are_there bob $(cat /tmp/written)
  done_ok v release footage
  barrier released
  log_off
  fs_clean
  barrier over
  ;;
esac
