#lab: guests=2 disk=lio,nvmet extra=1 timeout=600 append="clocksource=acpi_pm tsc=unstable"
# Another program's reservation stands on the volume's device: it is shown by name, refuses the write privilege, and goes only by
# takeover.
. volctl-lab.sh
case $LAB_ID in
a)
  barrier reserved
  log_on bob
  until_shown 30 'foreign_reservation.*0x0000000000000abc' v status --json
  say "$(v status | grep warning)"
  if o=$(v request footage --wait 20s 2>&1); then fail "granted: $o"; else say "$o"; fi
  v status --json | grep -q '"state": \?"rw"' && fail "written under somebody else's reservation"
  labctl put refused 1
  labctl get looked
  done_ok v takeover footage
  until_shown 60 '"state": ?"rw"' v status --json
  echo mine > /vol/footage/mine && sync -f /vol/footage/mine || fail "it cannot be written"
  labctl put broken 1
  labctl get gone
  done_ok v release footage
  log_off
  fs_clean
  ;;
b)
  mkfs.ext4 -q $DISK || fail mkfs
  make_volume
  done_ok prtool register $DISK 0 0xabc
  done_ok prtool reserve $DISK 0xabc 3
  barrier reserved
  labctl get refused
  prtool keys $DISK | grep -q abc || fail "broken without a takeover: $(prtool keys $DISK)"
  labctl put looked 1
  labctl get broken
  refused overwrite
  labctl put gone 1
  ;;
esac
