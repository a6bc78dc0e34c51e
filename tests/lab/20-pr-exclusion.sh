#lab: guests=2 disk=lio,nvmet timeout=600 append="clocksource=acpi_pm tsc=unstable"
# Two hosts change the tables as fast as they can: nothing acknowledged is lost, nothing is damaged, both get their turns.
. volctl-lab.sh
[ $LAB_ID = b ] || { done_ok volctl init $DISK --lock pr $T; }
barrier made
adds $DISK $LAB_ID 8
[ "$(wc -l < /tmp/acknowledged)" = 8 ] || fail "not all of mine were taken"
barrier added
all_there $DISK
[ "$(volctl client list --control $DISK | grep -cE '^ *[ab][1-8]\b')" = 16 ] || fail "$(volctl client list --control $DISK)"
clean $DISK
