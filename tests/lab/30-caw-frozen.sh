#lab: guests=2 disk=lio timeout=600 append="clocksource=acpi_pm tsc=unstable"
# A host stands still in the middle of what it does to the tables, longer than everything; the other passes it and goes on;
# then it wakes up and goes on as if nothing had been.
. volctl-lab.sh
case $LAB_ID in
a)
  done_ok volctl init $DISK --lock caw $T
  barrier made
  adds $DISK a 50
  barrier over
  ;;
b)
  barrier made
  done_ok volctl client add b0 --control $DISK; echo b0 > /tmp/acknowledged
  for round in 1 2 3; do
    # Somewhere in a's work.
    sleep 0.$((round * 3))
    labctl freeze a
    done_ok volctl client add b$round --control $DISK; echo b$round >> /tmp/acknowledged
    sleep 16
    done_ok volctl client add c$round --control $DISK; echo c$round >> /tmp/acknowledged
    volctl dump --json $DISK > /tmp/before
    labctl thaw a
    sleep 2
    clean $DISK
  done
  labctl put stop 1
  barrier over
  ;;
esac
all_there $DISK
clean $DISK
