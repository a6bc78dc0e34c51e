#lab: guests=2 disk=lio,nvmet extra=1 timeout=900 append="clocksource=acpi_pm tsc=unstable"
# While alice writes, the storage stands still for a while, and later it forgets all reservations, as one does that comes back from a
# power cut without having kept them (here somebody clears them): bob's host could write. What hangs is not called `fenced`; what was
# forgotten is reserved again by her client without anybody's help, and called `fenced` once bob's host has seen a write refused.
. volctl-lab.sh
fenced() { v status --json | grep -Eq '"enforcement": ?"fenced"' && echo fenced || echo not; }
case $LAB_ID in
a)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  log_on alice
  done_ok v request footage --wait 60s
  barrier writing
  echo before > /vol/footage/before && sync -f /vol/footage/before || fail "not written"
  until_shown 90 ^fenced fenced
  labctl freeze s
  t=$(labctl now)
  until_shown 60 ^not fenced
  labctl thaw s
  until_shown 90 ^fenced fenced
  say "the storage stood still: not fenced, and fenced again, in $t..$(labctl now) s"
  barrier fenced
  key=$(prtool keys $DISK | tr ',= ' '\n\n\n' | grep -m 1 ^0x)
  done_ok prtool clear $DISK $key
  t=$(labctl now)
  until_shown 60 fence.renewed cat /out/daemon.log
  say "reserved again in $t..$(labctl now) s: $(prtool keys $DISK)"
  echo after > /vol/footage/after && sync -f /vol/footage/after || fail "it does not write any more"
  barrier renewed
  until_shown 90 ^fenced fenced
  barrier proven
  done_ok v release footage
  prtool keys $DISK | grep -q 0x && fail "keys stay: $(prtool keys $DISK)"
  log_off
  barrier released
  ;;
b)
  barrier writing
  log_on bob
  refused overwrite
  barrier fenced
  barrier renewed
  refused overwrite
  until_shown 90 ^fenced fenced
  barrier proven
  barrier released
  done_ok v request footage --wait 60s
  cat /vol/footage/before /vol/footage/after | tr '\n' ' ' | grep -qx 'before after ' || fail "not what alice wrote: $(ls /vol/footage)"
  done_ok v release footage
  log_off
  fs_clean
  ;;
esac
