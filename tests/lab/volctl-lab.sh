# What the tests share; read in by each.
T="--beat 1s --lease 10s --dead 15s"

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
