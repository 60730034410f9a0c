# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # shared with the other scripts
#
# Part of apply.sh: one writer at a time, and none whose turn is over.

lock() {
  ! exists "$state/lock" || regular "$state/lock" || finish UnsafePath "$state/lock is no regular file"
  if ! command -v flock >/dev/null 2>&1; then
    lock_by_fifo
    return
  fi
  # A failed redirection of exec would end ash and dash on the spot.
  try open_lock || fail PermissionDenied "cannot open $state/lock" "$errors"
  { command exec 9>>"$state/lock"; } 2>/dev/null || finish PermissionDenied "cannot open $state/lock"
  flock -n 9 || finish LockHeld
}

open_lock() {
  true >>"$state/lock"
}

# Debian's busybox has no flock. A lock is a directory lock.N with a FIFO that its holder keeps open; mv -T onto one that
# is there fails, so it is taken by one; the highest is never deleted, so a slow taker cannot take an old number.
lock_by_fifo() {
  need_tools mkfifo sleep
  highest=0
  for path in "$state"/lock.*; do
    exists "$path" || continue
    number=${path##*/lock.}
    plain_number "$number" && [ "$number" -gt "$highest" ] && highest=$number
  done
  ! is_held "$state/lock.$highest/held" || finish LockHeld
  mine=$((highest + 1))
  place=$state/lock-$nonce
  errors=$({ mkdir "$place" && true >"$place/taken" && mkfifo "$place/held"; } 2>&1) ||
    fail LockHeld "cannot create a lock" "$errors"
  # Whoever just got the lock may have swept this away.
  { command exec 9<>"$place/held"; } 2>/dev/null || finish LockHeld
  mv -T "$place" "$state/lock.$mine" 2>/dev/null || {
    rm -rf "$place"
    finish LockHeld
  }
  # Gone, it tells the next one without a wait that nobody holds this lock.
  lock_fifo=$state/lock.$mine/held
  for path in "$state"/lock.* "$state"/lock-*; do
    exists "$path" || continue
    number=${path##*/lock.}
    if ! plain_number "$number" || [ "$number" -lt "$mine" ]; then
      rm -rf "$path"
    elif [ "$number" -gt "$mine" ]; then
      finish LockHeld
    fi
  done
}

# Opening a FIFO for writing blocks until somebody has it open for reading.
is_held() {
  [ -p "$1" ] || return 1
  (true >"$1") >/dev/null 2>&1 &
  opener=$!
  (sleep 0.2 2>/dev/null || sleep 1; kill -9 "$opener") >/dev/null 2>&1 &
  watchdog=$!
  wait "$opener" 2>/dev/null
  held=$?
  kill "$watchdog" 2>/dev/null
  return "$held"
}

# check_fence AUTHORITY EPOCH N FORMER: a fence that cannot be read refuses everybody. FORMER is whom a person has
# decided to take the place over from; its epochs are not ours.
check_fence() {
  fence=$state/fence
  if exists "$fence"; then
    regular "$fence" || finish UnsafePath "$fence is no regular file"
    authority=
    IFS=' ' read -r authority epoch turn rest <"$fence"
    if ! valid_name "$authority" || ! plain_number "$epoch" || ! plain_number "$turn" || [ -n "$rest" ]; then
      finish ForeignOwner "$fence is damaged"
    fi
    if [ "$authority" != "$1" ]; then
      [ "$authority" = "$4" ] || finish ForeignOwner "managed by $authority"
    else
      [ "$epoch" -le "$2" ] || finish StaleFence "epoch $epoch is newer"
      if [ "$epoch" -eq "$2" ]; then
        [ "$turn" -le "$3" ] || finish StaleFence "turn $turn is newer"
        [ "$turn" -lt "$3" ] || return 0
      fi
    fi
  fi
  # The first one comes with the commit.
  [ -z "$blank" ] || fence=$state/staging/$tx/fence
  scratch=$fence.new
  try write_fence "$1" "$2" "$3" || fail PermissionDenied "cannot write $fence" "$errors"
  scratch=
}

write_fence() {
  if [ -n "$blank" ]; then
    printf '%s %s %s\n' "$@" >"$fence"
  else
    printf '%s %s %s\n' "$@" >"$fence.new" && mv -f "$fence.new" "$fence"
  fi
}
