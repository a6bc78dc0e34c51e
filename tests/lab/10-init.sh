#lab: guests=1 disk=lio,nvmet,virtio timeout=400 append="clocksource=acpi_pm tsc=unstable"
# What init finds out about a disk by doing it.
. volctl-lab.sh
volctl init $DISK $T > /tmp/auto 2>&1 || fail "$(cat /tmp/auto)"
say "$(cat /tmp/auto)"
case $LAB_DISK in
  lio) grep -q 'lock caw' /tmp/auto || fail "COMPARE AND WRITE was not found" ;;
  *) grep -q 'lock bakery' /tmp/auto || fail "not bakery" ;;
esac
for lock in pr caw; do
  if volctl init $DISK --lock $lock --force $T > /tmp/$lock 2>&1; then can=yes; else can=no; fi
  say "$lock: $can: $(head -3 /tmp/$lock)"
  case $LAB_DISK-$lock in lio-*|nvmet-pr) want=yes ;; *) want=no ;; esac
  [ $can = $want ] || fail "$lock on $LAB_DISK: $can"
  [ $can = no ] || { volctl client add one --control $DISK || fail "no client with $lock"; clean $DISK; }
done
