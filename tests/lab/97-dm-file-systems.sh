#lab: guests=1 disk=virtio size=400M extra=1 kernel=new timeout=2400 append="clocksource=acpi_pm tsc=unstable"
# Gates of device-mapper under each file system: a daemon is killed while somebody writes and other data are dirty. Not one byte of the disk
# changes after the gate's closing, the next writer's mount replays, every synced file is there, and the file system's own checker, where the
# laboratory has it, finds nothing.
. volctl-lab.sh
modprobe -a dm_mod xfs || fail "no device-mapper"
make() { # FILE SYSTEM
  wipe=$(dd if=/dev/zero of=$DISK bs=1M count=130 2>&1) || fail "$wipe"
  case $1 in
  btrfs) zcat "$(command -v btrfs.img.gz)" | dd of=$DISK bs=1M 2> /tmp/dd || fail "$(cat /tmp/dd)" ;;
  *) mkfs.$1 -q $DISK || fail mkfs ;;
  esac
}
for fs in xfs btrfs ext4; do
  make $fs
  dd if=/dev/zero of=$EXTRA bs=1M 2> /tmp/dd # the tables of the one before
  make_volume --readers exclusive
  log_on alice 'publish = "1h"'
  done_ok v request footage --wait 60s
  write_on $fs
  g=$(my_gate linear); [ -n "$g" ] || fail "no gate of device-mapper: $(tail -3 /out/daemon.log)"
  kill -9 $d
  while pidof volctl > /tmp/x; do sleep 0.1; done
  if tables | grep -q linear; then fail "$fs: a gate passes writes still: $(tables)"; fi
  before=$(medium)
  wait $w; last=$(written); say "$fs: her last stable file: $last; then: $(tail -1 /tmp/dd)"
  no_gates
  [ "$before" = "$(medium)" ] || fail "$fs: the disk changed after her gate was closed"
  log_on alice
  done_ok v request footage --wait 60s
  written_are_there $fs $last
  done_ok v release footage
  log_off
  no_gates
  case $fs in
  ext4) fs_clean ;;
  xfs) done_ok xfs_repair -n $DISK ;;
  esac
done
