#lab: guests=2 disk=virtio,lio extra=1 timeout=900 append="clocksource=acpi_pm tsc=unstable"
# The gate is a device of device-mapper. The volume goes over and back. Then alice's daemon is killed while she writes: her gate's table fails
# everything, not one byte of the disk changes any more, bob gets the volume, every synced file is there. Then her daemon and her
# guardian are killed: what they leave passes writes until a new daemon finds and closes it. Readers cannot write to their gate.
. volctl-lab.sh
modprobe dm_mod || fail "no device-mapper"
grant_from_the_dead() {
  case $LAB_DISK in
  virtio) until_shown 60 'taken over|footage|granted|rw' v takeover footage --yes-i-know alice; until_shown 60 '"state": ?"rw"' v status --json ;;
  *) done_ok v request footage --wait 90s ;;
  esac
}
case $LAB_ID in
a)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  barrier made
  log_on alice
  done_ok v request footage --wait 60s
  g=$(my_gate linear); say "her gate: $(tables)"
  [ -n "$g" ] || fail "it is not of device-mapper: $(tail -3 /out/daemon.log)"
  echo one > /vol/footage/one; sync
  done_ok v release footage
  until_shown 60 '"state": ?"ro"' v status --json
  [ "$(node_of "$g")" = "" ] || fail "her gate is still there after the release: $(tables)"
  barrier over
  barrier back
  done_ok v request footage --wait 60s
  [ "$(cat /vol/footage/two)" = two ] || fail "what bob wrote is not there"

  write_on alice
  g=$(my_gate linear); n=$(node_of "$g")
  kill -9 $d; t=$(labctl now)
  while pidof volctl > /tmp/x; do sleep 0.1; done
  say "daemon killed at $t, guardian gone at $(labctl now); $(tables)"
  if tables | grep -q linear; then fail "a gate passes writes still: $(tables)"; fi
  if [ -e "$n" ]; then refused dd if=/dev/zero of=$n bs=4096 count=1 oflag=direct; fi
  labctl put closed 1
  wait $w; say "her last stable file: $(written); then: $(tail -1 /tmp/dd)"
  no_gates
  labctl put last "$(written)"
  barrier taken

  # No publish meanwhile: killed in the middle of one, nobody would thaw what it froze.
  log_on alice 'publish = "1h"'
  done_ok v request footage --wait 60s
  write_on late
  g=$(my_gate linear); n=$(node_of "$g")
  kill -STOP $d; for p in $(pidof volctl); do [ $p = $d ] || kill -9 $p; done; kill -9 $d
  while pidof volctl > /tmp/x; do sleep 0.1; done
  until_written $(($(written) + 3)); say "nobody watches, and her file $(written) is written: $(tables)"
  log_on alice
  say "logged on anew: $(tables)"
  [ "$(my_gate linear)" != "$g" ] || fail "the gate that was left passes writes"
  wait $w; say "her last stable file: $(written); then: $(tail -1 /tmp/dd)"
  last=$(written)
  done_ok v request footage --wait 60s
  written_are_there late $last
  done_ok v release footage
  log_off
  no_gates
  barrier end
  ;;
b)
  barrier made
  log_on bob
  barrier over
  until_shown 60 '"state": ?"ro"' v status --json
  done_ok v request footage --wait 60s
  [ "$(cat /vol/footage/one)" = one ] || fail "what alice wrote is not there"
  echo two > /vol/footage/two; sync
  done_ok v release footage
  until_shown 60 '"state": ?"ro"' v status --json
  r=$(my_gate linear); n=$(node_of "$r"); say "his gate to read: $(tables)"
  [ "$(blockdev --getro $n)" = 1 ] || fail "his gate is not read-only"
  before=$(medium)
  refused dd if=/dev/zero of=$n bs=4096 count=1 oflag=direct
  refused dd if=/dev/zero of=$n bs=4096 count=1 conv=fsync
  [ "$before" = "$(medium)" ] || fail "a write went through the gate of a reader"
  barrier back
  labctl get closed
  # Whatever alice's kernel still had to write would come now.
  before=$(medium); sleep 6; [ "$before" = "$(medium)" ] || fail "the disk changed after her gate was closed"
  last=$(labctl get last)
  grant_from_the_dead
  written_are_there alice $last
  done_ok v release footage
  barrier taken
  barrier end
  log_off
  no_gates
  fs_clean
  ;;
esac
