#lab: guests=2 disk=lio,nvmet,virtio timeout=1500 append="clocksource=acpi_pm tsc=unstable"
# A host stands still in the middle of what it does to the tables, longer than everything; the other passes it and goes on;
# then it wakes up and goes on as if nothing had been. With each kind of semaphore that this disk can have.
. volctl-lab.sh
stand_still() { # LOCK
  rm -f /tmp/acknowledged
  case $LAB_ID in
  a)
    done_ok volctl init $DISK --lock $1 --force $T
    barrier made-$1
    adds $DISK a 50 stop-$1
    ;;
  b)
    barrier made-$1
    done_ok volctl client add b0 --control $DISK; echo b0 > /tmp/acknowledged
    for round in 1 2 3; do
      # Somewhere in a's work.
      sleep 0.$((round * 3))
      labctl freeze a
      done_ok volctl client add b$round --control $DISK; echo b$round >> /tmp/acknowledged
      sleep 16
      done_ok volctl client add c$round --control $DISK; echo c$round >> /tmp/acknowledged
      clean $DISK
      labctl thaw a
      sleep 4
    done
    labctl put stop-$1 1
    ;;
  esac
  barrier over-$1
  all_there $DISK
  clean $DISK
  say "$1: nothing lost"
  barrier looked-$1
}
for lock in $(kinds); do stand_still $lock; done
