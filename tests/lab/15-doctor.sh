#lab: guests=1 disk=lio,nvmet timeout=600 append="clocksource=acpi_pm tsc=unstable"
# What doctor says of a disk is what can be done with it; of a loop device and an image, too.
. volctl-lab.sh
modprobe loop
look() { volctl doctor --json --seconds 1 "$@" > /tmp/doctor 2> /tmp/trouble || fail "$(cat /tmp/doctor /tmp/trouble)"; }
says() { grep -Eq "$1" /tmp/doctor || fail "not said: $1: $(cat /tmp/doctor)"; }
tells() { volctl doctor --seconds 0 $1 | sed -n 's/^  \(reservations\|COMPARE AND WRITE\|lock\)/\1/p' | while read -r l; do say "$1: $l"; done; }

look $DISK
says '"tried": ?false, ?"text": ?"nobody is registered'
look --write $DISK
say "$(tr ',' '\n' < /tmp/doctor | grep -E '"(text|lock)"')"
says '"tried": ?true, ?"text": ?"keys are told apart'
case $LAB_DISK in
  lio) says '"lock": ?"caw"'; says '"tried": ?true, ?"text": ?"a block was exchanged' ;;
  *) says '"lock": ?"bakery"'; says '"tried": ?true, ?"text": ?"[^"]*not supported' ;;
esac
prtool keys $DISK | grep -q 0x && fail "it left keys: $(prtool keys $DISK)"
dd if=$DISK bs=1M count=4 2>/dev/null | tr -d '\0' | grep -q . && fail "it left bytes"

prtool register $DISK 0 0xabc > /tmp/o 2>&1 || fail "$(cat /tmp/o)"
prtool reserve $DISK 0xabc 3 > /tmp/o 2>&1 || fail "$(cat /tmp/o)"
look $DISK
says 'registrants only held by 0x0000000000000abc'
look --write $DISK
says '"tried": ?true, ?"text": ?"keys are registered already \(0xabc\)'
[ "$(prtool keys $DISK | grep -c abc)" = 1 ] || fail "doctor broke somebody's key"
tells $DISK

truncate -s 32M /tmp/image
look --write /tmp/image
says '"lock": ?"bakery"'
says 'an image has no reservations|an image file has no reservations'
losetup /dev/loop0 /tmp/image || fail losetup
look --write /dev/loop0
says '"lock": ?"bakery"'
says 'loop device passes no reservations on|not supported'
for path in /tmp/image /dev/loop0; do tells $path; done
