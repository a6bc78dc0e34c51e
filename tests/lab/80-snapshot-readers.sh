#lab: guests=2 disk=virtio size=192M extra=1 kernel=new timeout=3000 append="clocksource=acpi_pm tsc=unstable"
# btrfs with snapshots: alice replaces, renames and removes files as fast as she can, each file's lines name it and its version; bob,
# another kernel, reads them all again and again while he follows her. Not one of $READS reads shows another file's bytes, two
# versions, or a part. (Needs Linux 6.7 or newer: before, btrfs mounts a file system only once, and a reader sees one state for ever.)
. volctl-lab.sh
cat > /tmp/check.awk <<'EOF'
FNR == 1 { whole(); of = $1; version = $2; name = FILENAME; sub(/.*\//, "", name); lines = 0; files++ }
{ lines++; if ($1 != name || $1 != of || $2 != version || $3 != lines) bad(FILENAME ": " $0) }
function whole() { if (files && lines != 8) bad(name " has " lines " lines") }
function bad(what) { wrong++; if (wrong < 5) print what > "/dev/stderr" }
END { whole(); print files + 0, wrong + 0 }
EOF
cat > /tmp/write.awk <<'EOF'
BEGIN { long = sprintf("%0540d", 0) }
{ for (i = 1; i <= 8; i++) print $1, $2, i, long > "/vol/footage/." $1; close("/vol/footage/." $1) }
EOF
case $LAB_ID in
a)
  zcat "$(command -v btrfs.img.gz)" | dd of=$DISK bs=1M 2> /tmp/dd || fail "$(cat /tmp/dd)"
  make_volume
  log_on alice 'publish = "1s"'
  done_ok v request footage --wait 60s
  round=0; echo 0 > /tmp/round
  # Whoever hangs says where.
  ( last=x; while sleep 180; do
      now=$(cat /tmp/round); [ "$now" != "$last" ] || { echo w > /proc/sysrq-trigger; say "no round after $now: $(ps; dmesg | tail -60; tail -5 /out/daemon.log; df /vol/footage)"; }
      last=$now
    done ) & dog=$!
  while [ -z "$(labctl peek enough)" ]; do
    round=$((round + 1))
    for i in $(seq 1 40); do echo "f$(( (round * 7 + i * 5) % 200 )) $round"; done > /tmp/batch
    awk -f /tmp/write.awk /tmp/batch
    cd /vol/footage; while read -r f x; do mv .$f $f; done < /tmp/batch
    # Names that come and go.
    rm -f f$((round % 200)) f$((round * 3 % 200)); cd /
    echo $round > /tmp/round
    [ $round != 8 ] || barrier written
  done
  say "$round rounds of 40 files; $(v status --json | tr ',' '\n' | grep '"generation"')"
  kill $dog
  barrier over
  done_ok v release footage
  log_off
  ;;
b)
  barrier written
  log_on bob
  until_shown 60 '"state": ?"ro"' v status --json
  reads=0 passes=0; : > /tmp/seen
  t=$(labctl now)
  while [ $reads -lt $READS ]; do
    passes=$((passes + 1))
    # From one working directory: one published state, which goes on although the next one takes its place.
    r=$(cd /vol/footage && set -- f* && [ -e "$1" ] && echo $# $(awk -f /tmp/check.awk "$@" 2> /tmp/wrong)) || continue
    set -- $r
    [ "$1" = "$2" ] && [ "$3" = 0 ] || fail "of $1 files $2 were not empty, $3 wrong: $(cat /tmp/wrong)"
    reads=$((reads + $1))
    [ $((passes % 5)) != 0 ] || { echo 3 > /proc/sys/vm/drop_caches; v status --json | tr ',' '\n' | grep seen_generation >> /tmp/seen; }
  done
  say "$reads reads in $passes passes, none wrong; $t..$(labctl now) s; $(sort -u /tmp/seen | wc -l) generations seen"
  [ "$(sort -u /tmp/seen | wc -l)" -gt 3 ] || fail "it did not follow: $(cat /tmp/seen)"
  labctl put enough 1
  barrier over
  log_off
  ;;
esac
