# What the tests share; read in by each.
. lab-settings.sh
T="--beat 1s --lease 10s --dead 15s"

# The line to the laboratory takes one at a time, and two of a script may speak at once.
labctl() {
  while answer=$(mktemp); command labctl "$@" > $answer.out 2> $answer; rc=$?; grep -q busy $answer; do rm -f $answer*; sleep 0.1; done
  cat $answer >&2; cat $answer.out; rm -f $answer*; return $rc
}

# The kinds of semaphore that this disk can have.
kinds() { case $LAB_DISK in lio) echo caw pr ;; nvmet) echo pr ;; *) echo bakery ;; esac; }
count_clients() { volctl client list --json --control "$1" | tr ',{' '\n\n' | grep -c '"name"'; }
clean() { o=$(volctl check "$1" 2>&1) || fail "check: $o"; say "check: $(echo "$o" | tail -1)"; }
# Adds clients of its own until it has added so many, or somebody says stop by that key; tells each that was acknowledged.
adds() { # CONTROL PREFIX COUNT KEY
  n=0
  while [ $n -lt "$3" ] && [ -z "$(labctl peek "$4")" ]; do
    n=$((n + 1))
    if o=$(volctl client add "$2$n" --control "$1" 2>&1); then echo "$2$n" >> /tmp/acknowledged
    else say "add $2$n: $o"; fi
  done
}
# Every client that this guest was told is there.
all_there() { # CONTROL
  volctl client list --control "$1" > /tmp/list 2>&1 || fail "$(cat /tmp/list)"
  touch /tmp/acknowledged
  for c in $(cat /tmp/acknowledged); do grep -qw "$c" /tmp/list || fail "acknowledged and lost: $c"; done
  say "all $(wc -l < /tmp/acknowledged) acknowledged are there"
}

# Below: volumes on $DISK, with the control volume on $EXTRA, which is a plain shared disk.
v() { volctl "$@" --socket /run/v.sock; }
overwrite() { dd if=/dev/zero of=$DISK bs=4096 count=1 oflag=direct; }
# One command waits for what another one shows.
until_shown() { # SECONDS PATTERN COMMAND...
  n=0 most=$1 pattern=$2; shift 2
  until "$@" 2>&1 | grep -Eq "$pattern"; do n=$((n + 1)); [ $n -lt $((most * 2)) ] || fail "never '$pattern': $("$@" 2>&1)"; sleep 0.5; done
}
# A volume "footage" of alice and bob, who may write it and administer.
make_volume() { # [FURTHER ARGUMENTS OF volume add]
  done_ok volctl init $EXTRA --lock bakery $T
  for c in alice bob; do done_ok volctl client add $c --control $EXTRA; done
  done_ok volctl volume add footage --device $DISK --control $EXTRA "$@"
  for c in alice bob; do done_ok volctl allow $c footage write --control $EXTRA; done
  done_ok volctl set-client bob admin on --control $EXTRA
}
log_on() { # CLIENT [LINE OF THE CONFIGURATION]
  printf 'client = "%s"\ncontrol = "%s"\nmount_root = "/vol"\nsocket = "/run/v.sock"\nstate_dir = "/run/state"\n%s\n' $1 $EXTRA "$2" > /etc/volctl.toml
  modprobe -a loop dm_mod ext4 btrfs; mkdir -p /vol; grep -q " /vol " /proc/mounts || mount -t tmpfs -o mode=755 vol /vol
  volctl daemon --config /etc/volctl.toml > /out/daemon.log 2>&1 & d=$!
  until v status --json 2> /tmp/status | grep -Eq '"incarnation": ?[1-9]'; do kill -0 $d || fail "$(tail -5 /out/daemon.log)"; sleep 0.5; done
}
log_off() { kill -TERM $d; wait $d; }
# Synced files, each with its own text, until a write fails; the number of the last is in /tmp/written and known to all.
keep_writing() { # PREFIX
  n=0
  while n=$((n+1)); echo "$1 $n" > /tmp/text && dd if=/tmp/text of=/vol/footage/$1-$n conv=fsync 2> /tmp/dd; do echo $n > /tmp/written; labctl put last-$1 $n; done
}
# Every file that PREFIX was told is stable.
written_are_there() { # PREFIX LAST
  for f in $(seq 1 $2); do [ "$(cat /vol/footage/$1-$f)" = "$1 $f" ] || fail "$1-$f was acknowledged and is lost or wrong"; done
  say "all $2 files of $1 are there and right"
}
fs_clean() { e2fsck -fn $DISK > /tmp/fsck 2>&1 || fail "$(cat /tmp/fsck)"; say "fsck: $(tail -1 /tmp/fsck)"; }

# Below: gates of device-mapper.
tables() { dmsetup table 2> /tmp/dm | grep '^volctl-'; }
medium() { dd if=$DISK bs=1M iflag=direct 2> /tmp/x | md5sum; }
no_gates() { n=0; while tables > /tmp/tables; do n=$((n + 1)); [ $n -lt 100 ] || fail "left: $(cat /tmp/tables)"; sleep 0.1; done; say "no gate is left"; }
# As keep_writing, but from within: when the mount is taken away it goes on in it, and not in the directory below. Beside it, data that nobody syncs.
write_within() { # PREFIX
  cd /vol/footage || fail "not mounted"
  ( while dd if=/dev/zero of=big bs=64k count=64 2> /tmp/x; do :; done ) & dirty=$!
  n=0; echo 0 > /tmp/written
  while n=$((n+1)); echo "$1 $n" > /tmp/text && dd if=/tmp/text of=$1-$n conv=fsync 2> /tmp/dd; do echo $n > /tmp/written; done
  kill $dirty 2> /tmp/x; wait $dirty
  cd /
}
written() { cat /tmp/written; }
until_written() { until [ "$(written 2> /tmp/x)" -ge "$1" ] 2> /tmp/x; do kill -0 $w || fail "the writing ended: $(cat /out/writer.log /tmp/dd)"; sleep 0.1; done; }
write_on() { rm -f /tmp/written; write_within $1 > /out/writer.log 2>&1 & w=$!; until_written 5; }
my_gate() { tables | awk -v kind=$1 '$4 == kind { print $1 }' | tr -d : | head -1; }
node_of() { for d in /sys/block/dm-*; do [ "$(cat $d/dm/name)" != "$1" ] || echo /dev/${d##*/}; done; }
