#lab: guests=2 disk=lio,nvmet extra=1 timeout=700 append="clocksource=acpi_pm tsc=unstable"
# The control volume is a plain shared disk, the data volume a target with reservations. While alice writes, bob's host cannot,
# with or without volctl. Her host stands still for two minutes, bob takes the volume over, she wakes up and writes on: none of it
# lands, and the file system of the new writer is clean.
. volctl-lab.sh
v() { volctl "$@" --socket /run/v.sock; }
overwrite() { dd if=/dev/zero of=$DISK bs=4096 count=1 oflag=direct; }
log_on() {
  printf 'client = "%s"\ncontrol = "%s"\nmount_root = "/vol"\nsocket = "/run/v.sock"\nstate_dir = "/run/state"\n' $1 $EXTRA > /etc/volctl.toml
  modprobe -a loop ext4; mkdir -p /vol; mount -t tmpfs -o mode=755 vol /vol
  volctl daemon --config /etc/volctl.toml > /out/daemon.log 2>&1 & d=$!
  until v status --json 2> /tmp/status | grep -Eq '"incarnation": ?[1-9]'; do kill -0 $d || fail "$(tail -5 /out/daemon.log)"; sleep 0.5; done
}
keep_writing() { n=0; while n=$((n+1)); echo "$1 $n" > /tmp/text && dd if=/tmp/text of=/vol/footage/$1-$n conv=fsync 2> /tmp/dd; do echo $n > /tmp/written; done; }
case $LAB_ID in
a)
  done_ok volctl init $EXTRA --lock bakery $T
  mkfs.ext4 -q $DISK || fail mkfs
  for c in alice bob; do done_ok volctl client add $c --control $EXTRA; done
  done_ok volctl volume add footage --device $DISK --control $EXTRA
  for c in alice bob; do done_ok volctl allow $c footage write --control $EXTRA; done
  done_ok volctl set-client bob admin on --control $EXTRA
  barrier made
  log_on alice
  done_ok v request footage --wait 60s
  keep_writing alice & w=$!
  until [ -s /tmp/written ]; do sleep 0.1; done
  barrier writing
  wait $w                                # until a write fails
  say "alice's last acknowledged write: $(cat /tmp/written); then: $(tail -1 /tmp/dd)"
  refused overwrite
  labctl put last "$(cat /tmp/written)"
  barrier woken
  barrier over
  ;;
b)
  barrier made
  log_on bob
  barrier writing
  refused overwrite
  labctl freeze a
  t=$(labctl now)
  # She counts as silent only after the death time.
  n=0; until v takeover footage --yes-i-know alice > /tmp/takeover 2>&1; do n=$((n+1)); [ $n -lt 60 ] || fail "$(cat /tmp/takeover)"; sleep 1; done
  say "$(cat /tmp/takeover)"
  n=0; until v status --json | grep -Eq '"state": ?"rw"'; do n=$((n+1)); [ $n -lt 300 ] || fail "$(v status; tail -5 /out/daemon.log)"; sleep 0.2; done
  say "taken over in $t..$(labctl now) s"
  grep -o 'fence.raised.*' /out/daemon.log | tail -1
  keep_writing bob & w=$!
  sleep 110
  labctl thaw a
  last=$(labctl get last)
  barrier woken
  sleep 2
  kill -0 $w || fail "bob's writing ended: $(cat /tmp/dd)"
  kill $w; wait $w
  ls /vol/footage > /tmp/files
  for f in $(seq 1 $last); do grep -qx alice-$f /tmp/files || fail "alice-$f was acknowledged and is lost"; done
  for f in $(seq 1 $(cat /tmp/written)); do [ "$(cat /vol/footage/bob-$f)" = "bob $f" ] || fail "bob-$f is wrong"; done
  done_ok v release footage
  kill -TERM $d; wait $d
  e2fsck -fn $DISK > /tmp/fsck 2>&1 || fail "$(cat /tmp/fsck)"
  say "fsck: $(tail -1 /tmp/fsck); alice $last files, bob $(cat /tmp/written)"
  barrier over
  ;;
esac
