#lab: guests=2 disk=lio,nvmet extra=1 timeout=600 append="clocksource=acpi_pm tsc=unstable"
# A host without volctl mounts the volume by hand, to write, while alice holds it: nothing that it writes lands. After she has
# released it in order nobody keeps that host out.
. volctl-lab.sh
by_hand() { mount -t ext4 $DISK /mnt && echo by hand > /mnt/by-hand && sync -f /mnt/by-hand; }
case $LAB_ID in
a)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  log_on alice
  done_ok v request footage --wait 60s
  keep_writing alice & w=$!
  until [ -s /tmp/written ]; do sleep 0.1; done
  barrier writing
  barrier tried
  kill -0 $w || fail "alice's writing ended: $(cat /tmp/dd)"
  kill $w; wait $w
  written_are_there alice $(cat /tmp/written)
  [ ! -e /vol/footage/by-hand ] || fail "written by hand"
  done_ok v release footage
  log_off
  fs_clean
  barrier released
  ;;
b)
  modprobe ext4
  barrier writing
  refused by_hand
  umount /mnt 2> /tmp/x
  refused overwrite
  refused dd if=/dev/zero of=$DISK bs=1M count=4 seek=20 oflag=direct
  barrier tried
  barrier released
  done_ok by_hand
  done_ok umount /mnt
  ;;
esac
