#lab: guests=1 disk=lio-open extra=1 timeout=700 append="clocksource=acpi_pm tsc=unstable"
# A host with two paths to one disk, each an initiator of its own to the target. Where the disk has a name by which the second path is
# known, `init` and `doctor` see a write refused over it, so reservations are proven and `auto` takes them. A fence over one path keeps
# the other out; over a multipath map (if dm-round-robin.ko is in the PATH) each path has the key, both write, and no key stays.
. volctl-lab.sh
write_over() { dd if=/dev/zero of=$1 bs=4096 count=1 seek=2000 oflag=direct; }
set -- $(iscsiadm -m session | sed -n 's/.*\] \([^ ,]*\),[^ ]* \([^ ]*\).*/\1 \2/p')
done_ok iscsiadm -m iface -I other -o new
done_ok iscsiadm -m iface -I other -o update -n iface.initiatorname -v $2-other
done_ok iscsiadm -m node -o new -T $2 -p $1 -I other
done_ok iscsiadm -m node -T $2 -p $1 -I other --login
wait_dev /dev/sdb
name=$(cat /sys/block/sda/device/wwid 2> /tmp/x)
say "its name: $name $(cat /tmp/x)"
volctl doctor --json --write --seconds 1 $DISK > /tmp/doctor || fail "$(cat /tmp/doctor)"
volctl init $DISK $T > /tmp/auto 2>&1 || fail "$(cat /tmp/auto)"
say "$(cat /tmp/auto)"
if [ -n "$name" ]; then
  grep -Eq '"lock": ?"pr"' /tmp/doctor && grep -q 'writes were refused as they must be' /tmp/doctor || fail "doctor: $(cat /tmp/doctor)"
  grep -q 'lock pr' /tmp/auto || fail "reservations were not proven"
fi
done_ok volctl client add one --control $DISK
clean $DISK

mkfs.ext4 -qF $DISK || fail mkfs
make_volume
log_on alice
done_ok v request footage --wait 60s
refused write_over /dev/sdb
echo one > /vol/footage/one && sync -f /vol/footage/one || fail "the fenced path does not write"
done_ok v release footage
done_ok write_over /dev/sdb
log_off
umount /vol
ko=$(command -v dm-round-robin.ko) || exit 0

modprobe dm_multipath; insmod $ko || fail insmod
size=$(cat /sys/block/sda/size)
done_ok dmsetup create both -u mpath-lab --table "0 $size multipath 0 0 1 1 round-robin 0 2 1 8:0 1 8:16 1"
dmsetup mknodes > /tmp/x 2>&1
wait_dev /dev/mapper/both
log_on alice '[devices]
footage = "/dev/mapper/both"'
done_ok v request footage --wait 60s
say "$(prtool keys /dev/sda)"
[ "$(prtool keys /dev/sda | tr ',=' '\n\n' | grep -c '^0x')" = 2 ] || fail "not a key on each path: $(prtool keys /dev/sda)"
for n in $(seq 1 20); do echo two-$n > /vol/footage/two-$n && sync -f /vol/footage/two-$n || fail "write $n"; done
say "written over each: $(cut -d' ' -f8- /sys/block/sda/stat) / $(cut -d' ' -f8- /sys/block/sdb/stat)"
done_ok v release footage
log_off
prtool keys /dev/sda | grep -q 0x && fail "keys stay: $(prtool keys /dev/sda)"
e2fsck -fn /dev/sda > /tmp/fsck 2>&1 || fail "$(cat /tmp/fsck)"
say "fsck: $(tail -1 /tmp/fsck)"
