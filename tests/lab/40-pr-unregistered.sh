#lab: guests=2 disk=lio,nvmet timeout=400 append="clocksource=acpi_pm tsc=unstable"
# On a control volume of the kind pr a host without volctl cannot write while anybody is logged on, and a client of another host
# proves by that that the device does what reservations are for.
. volctl-lab.sh
overwrite() { dd if=/dev/zero of=$DISK bs=4096 count=1 oflag=direct; }
case $LAB_ID in
a)
  done_ok volctl init $DISK --lock pr $T
  done_ok volctl client add alice --control $DISK
  printf 'client = "alice"\ncontrol = "%s"\nmount_root = "/vol"\nsocket = "/run/v.sock"\nstate_dir = "/run/state"\n' $DISK > /etc/a.toml
  mkdir -p /vol
  volctl daemon --config /etc/a.toml > /tmp/daemon.log 2>&1 & d=$!
  until volctl status --json --socket /run/v.sock 2> /tmp/status | grep -Eq '"incarnation": ?[1-9]'; do kill -0 $d || fail "$(cat /tmp/daemon.log)"; sleep 0.5; done
  barrier on
  barrier tried
  volctl status --socket /run/v.sock > /tmp/status 2>&1 || fail "the daemon went: $(cat /tmp/daemon.log)"
  kill -TERM $d; wait $d
  clean $DISK
  barrier off
  ;;
b)
  barrier on
  refused overwrite
  done_ok volctl client add bob --control $DISK
  # Beside a daemon that goes on beating and committing.
  for n in 1 2 3; do done_ok volctl check --repair $DISK; done
  refused overwrite
  barrier tried
  barrier off
  done_ok overwrite                      # nobody is logged on any more
  ;;
esac
