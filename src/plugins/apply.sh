# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # nonce, nl, state, unmanaged …: shared with look.sh, which precedes this in one script
#
# The apply: one transaction, all of it behind one commit point, in the order that survived being killed at every step.
#
#   sh -c LOOK+APPLY sh apply DIR UID AUTHORITY EPOCH N TX SUMS EXPECTED PATTERN…
#
# stdin: a nonce line, then one tar: o (operations), sums (covers every other file; SUMS is its own SHA-256), files/NAME and
# executables/NAME (lists), receipts/NAME, t/NAME/… (trees), a (lists of trees to adopt), c/N (contents of files).
# Runs as the owner of the config directory, so that a link swapped in at the right moment gains nothing.
# EXPECTED: "seen", or "blank:GID" where nobody looked before: then it has that group, and nothing of ours is there.
# PATTERN: names of entries that a runtime makes by itself; unlisted files elsewhere are kept.

# fail REASON WHAT ERRORS: ends the apply. The tool's own words (C locale, a closed vocabulary: no shell has errno) turn
# REASON into a better one.
fail() {
  reason_of "$1" "$3"
  finish "$reason" "$2: ${3%%"$nl"*}"
}

reason_of() {
  case $2 in
    *"No space left on device"* | *uota\ exceeded*) reason=DiskFull ;;
    *"Read-only file system"*) reason=ReadOnly ;;
    *"Permission denied"* | *"Operation not permitted"*) reason=PermissionDenied ;;
    *)
      reason=$1
      # dash reports a failed write as "I/O error" whatever it was.
      ! is_full || reason=DiskFull
      ;;
  esac
}

is_full() {
  # shellcheck disable=SC2046 # three numbers
  set -- $(stat -f -c '%a %c %d' . 2>/dev/null)
  [ "${1-1}" -eq 0 ] || { [ "${2-0}" -gt 0 ] && [ "${3-1}" -eq 0 ]; }
}

# A refusal or failure of one plugin; the others go on.
fail_plugin() {
  reason_of "$2" "$3"
  clean "${3%%"$nl"*}"
  [ -n "$recovering" ] || printf 'failed %s %s %.300s\n' "$1" "$reason" "$cleaned"
}

plain_number() {
  case $1 in
    '' | *[!0-9]*) return 1 ;;
  esac
  [ "${#1}" -le 15 ]
}

# check_places UID: trees move between plugins/ and .plugset/ by rename, so both must be ours, and on one mount.
check_places() {
  uid=$1
  # Below what is not there nothing is mounted.
  mounts=
  ! exists plugins && ! exists "$state" || mounts=$(cat /proc/self/mountinfo 2>/dev/null)
  first_device=
  # shellcheck disable=SC2046 # four words each
  set -- $(stat -c '%n %u %d %g' . plugins "$state" 2>/dev/null)
  [ "$#" -ge 4 ] || finish PermissionDenied "the config directory cannot be examined"
  group=$4
  while [ "$#" -ge 4 ]; do
    [ "$2" = "$uid" ] || finish UnsafePath "$1 belongs to user $2, not to $uid"
    if [ "$1" != . ]; then
      ! is_mount "$1" || finish UnsafePath "$1 is a mount of its own; mount the directory above it instead"
      [ "${first_device:=$3}" = "$3" ] || finish UnsafePath "plugins and $state are on two file systems"
    fi
    shift 4
  done
}

# Misses a path with spaces, which are escaped there; its tree then fails alone, when it is moved.
is_mount() {
  case $mounts in
    *" $PWD/$1 "*) return 0 ;;
  esac
  return 1
}

# require_blank GID: what nobody looked at may hold anything, the fence of another controller, a tree to be adopted. And
# we may be root here in a directory of the agent, who can swap it for a link at the last moment.
require_blank() {
  [ "$PWD" = "$root" ] || moved "the config directory is reached through a link"
  [ "$group" = "$1" ] || moved "the config directory has group $group"
  for place in plugins "$state"; do
    ! exists "$place" || moved "$place is there"
  done
}

make_places() {
  missing=
  for place in plugins "$state" "$state/files" "$state/executables" "$state/receipts" "$state/staging" "$state/trash" \
    "$state/journal.d" "$state/kept"; do
    exists "$place" || missing="$missing $place"
    directory "$place" || ! exists "$place" || finish UnsafePath "$place is no directory of its own"
  done
  if [ -n "$missing" ]; then
    [ -z "$blank" ] || rooms="$state/staging/$tx $state/trash/$tx"
    # shellcheck disable=SC2086 # names from the line above
    errors=$(mkdir -p $missing $rooms 2>&1) || fail PermissionDenied "cannot create $state and plugins" "$errors"
  fi
  [ ! -s "$state/format" ] || return 0
  scratch=$state/format
  errors=$({ echo 1 >"$state/format"; } 2>&1) || fail PermissionDenied "cannot write $state/format" "$errors"
  scratch=
}

lock() {
  ! exists "$state/lock" || regular "$state/lock" || finish UnsafePath "$state/lock is no regular file"
  if ! command -v flock >/dev/null 2>&1; then
    lock_by_fifo
    return
  fi
  # First in a subshell: a failed redirection of exec ends ash and dash on the spot.
  errors=$({ true >>"$state/lock"; } 2>&1) || fail PermissionDenied "cannot open $state/lock" "$errors"
  { command exec 9>>"$state/lock"; } 2>/dev/null || finish PermissionDenied "cannot open $state/lock"
  flock -n 9 || finish LockHeld
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
  scratch=$fence.new
  errors=$({ printf '%s %s %s\n' "$1" "$2" "$3" >"$fence.new" && mv -f "$fence.new" "$fence"; } 2>&1) ||
    fail PermissionDenied "cannot write $fence" "$errors"
  scratch=
}

# Empties staging/ and trash/.
clear_rooms() {
  [ -z "$rooms" ] || return 0
  for room in "$state"/staging/* "$state"/trash/*; do
    if exists "$room"; then
      discard "$state"/staging/* "$state"/trash/*
      return
    fi
  done
}

# What resists in the trash (files of somebody else) is tried again next time.
discard() {
  errors=$(rm -rf "$@" 2>&1) && return
  # An agent's tree may hold directories that even their owner cannot list.
  chmod -R u+rwX "$state/staging" "$state/trash" 2>/dev/null
  errors=$(rm -rf "$@" 2>&1) || :
}

recover() {
  recovering=yes
  for path in "$state"/journal.d/*; do
    exists "$path" || continue
    id=${path##*/}
    if valid_name "$id" && regular "$path"; then
      roll_forward "$id" "$@"
    else
      rm -rf "$path"
    fi
  done
  recovering=
  stage=$state/staging/$tx
  trash=$state/trash/$tx
}

unpack() {
  scratch="$stage $trash"
  [ -n "$rooms" ] || errors=$(mkdir -p "$stage" "$trash" 2>&1) || fail PermissionDenied "cannot create $stage" "$errors"
  # -m: files are as old as the install, not as old as the archive. Its exit code does not show a cut stream; sums do.
  errors=$({
    cd "$stage" && { tar -xpomvf - 2>&4 || echo /failed; } | sums_in_step "$1" | sha256sum -c >/dev/null 2>&1
  } 4>&1) || fail VerifyFailed "what arrived is not what was sent" "$errors"
  # tar reads on to the end of its input.
  unread=
}

# Reads the names of members as they are unpacked. Prints what `sums` says of those that are whole, so that they are checked
# while others arrive, and of all in the end. Only names are counted: tar escapes them, and not every tar tells in time.
sums_in_step() {
  exec 5<&-
  whole=
  while IFS= read -r member; do
    case $whole in
      sums) printf '%s  sums\n' "$1" && exec 5<sums ;;
      '' | */) ;;
      *) IFS= read -r line <&5 && printf '%s\n' "$line" ;;
    esac
    # A line that never matches.
    [ "$member" != /failed ] || echo '0000000000000000000000000000000000000000000000000000000000000000  /dev/null/failed'
    whole=$member
  done
  cat <&5
}

moved() {
  finish TargetMoved "$1"
}

# Goes through the operations: what must be found is there, or nothing is done at all. What cannot be moved fails alone.
# Leaves the rest in $journal.
check_operations() {
  journal=
  hashes=
  adopting=
  while read -r verb name rest; do
    case $verb in
      put | adopt | remove)
        check_tree "$verb" "$name" "$rest"
        ;;
      write)
        journal="$journal$verb $name ${rest#* }$nl"
        check_file "${rest#* }" "${rest%% *}"
        ;;
      unlink)
        journal="$journal$verb - $rest$nl"
        check_file "$rest" "$name"
        ;;
      *) finish Internal "unknown operation" ;;
    esac
  done <"$stage/o"
  [ -z "$hashes" ] || printf '%s' "$hashes" | sha256sum -c >/dev/null 2>&1 || moved "a list or file differs"
  [ -z "$adopting" ] || check_adopted
}

check_tree() {
  valid_name "$2" || finish Internal "a name breaks the grammar"
  for list in files executables receipts; do
    list=$state/$list/$2
    ! [ -d "$list" ] || [ -h "$list" ] || finish UnsafePath "$list is a directory"
    ! regular "$list" || [ -r "$list" ] || chmod u+r "$list" 2>/dev/null
  done
  if exists "plugins/$2" && ! directory "plugins/$2"; then
    fail_plugin "$2" UnsafePath "plugins/$2 is no directory of its own"
    return
  fi
  expect_tree "$2" "$3"
  if [ "$1" != adopt ] && exists "plugins/$2" && ! is_movable "plugins/$2"; then
    fail_plugin "$2" PermissionDenied "plugins/$2 belongs to somebody else or is a mount"
    return
  fi
  [ "$1" != adopt ] || adopting="$adopting $2"
  journal="$journal$1 $2$nl"
}

# To rename a directory into another one takes the right to write in it: its .. changes.
is_movable() {
  ! is_mount "$1" || return 1
  [ -w "$1" ] || chmod u+rwx "$1" 2>/dev/null
  [ -w "$1" ]
}

# A list that is gone counts as an empty one, so that deleting it does not keep us from restoring the plugin.
expect_tree() {
  case $2 in
    absent) ! exists "plugins/$1" || moved "plugins/$1 has appeared" ;;
    unmanaged)
      exists "plugins/$1" || moved "plugins/$1 is gone"
      ! is_managed "$1" || moved "plugins/$1 has a receipt now"
      ;;
    *)
      if regular "$state/files/$1"; then
        hashes="$hashes$2  $state/files/$1$nl"
      elif [ "$2" != e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ]; then
        moved "$state/files/$1 is gone"
      fi
      ;;
  esac
}

check_file() {
  safe_path "$1" || finish Internal "a path breaks the rules"
  real_parents "$1" || finish UnsafePath "a directory above $1 is a link"
  if exists "$1"; then
    [ "$2" != absent ] || moved "$1 has appeared"
    regular "$1" || finish UnsafePath "$1 is no regular file"
    [ "$(stat -c %u "$1" 2>/dev/null)" = "$uid" ] || finish UnsafePath "$1 belongs to somebody else"
    hashes="$hashes$2  $1$nl"
  else
    [ "$2" = absent ] || moved "$1 is gone"
  fi
}

safe_path() {
  case /$1/ in
    *//* | */./* | */../* | *\\* | *[[:cntrl:]]* | "/$state/"* | /plugins/*) return 1 ;;
  esac
}

# Sets $parent to what comes before the last segment.
real_parents() {
  parent=
  below=$1
  while :; do
    case $below in
      */*) ;;
      *) return 0 ;;
    esac
    parent=$parent${below%%/*}
    ! exists "$parent" || directory "$parent" || return 1
    parent=$parent/
    below=${below#*/}
  done
}

# The trees to adopt are compared by the same means as in a look.
check_adopted() {
  unmanaged=$adopting
  intact=
  [ "$({ printf '\n\n' && compare <"$stage/a"; } 2>/dev/null | report_of 0)" = checked ] ||
    moved "a tree to adopt differs"
}

commit() {
  errors=$({ printf '%s' "$journal" >"$stage/journal"; } 2>&1) || fail PermissionDenied "cannot write" "$errors"
  # Without it a power cut leaves empty files under a new receipt. Not every sync knows -f.
  sync -f "$stage" 2>/dev/null || sync
  errors=$(mv -T "$stage/journal" "$state/journal.d/$tx" 2>&1) || fail PermissionDenied "cannot commit" "$errors"
  scratch=
}

# roll_forward TX PATTERN…: carries a committed transaction through. It may have been here before, and got to any point.
roll_forward() {
  tx_now=$1
  stage=$state/staging/$1
  trash=$state/trash/$1
  shift
  directory "$trash" || mkdir -p "$trash" 2>/dev/null
  move_trees
  list_settled
  keep_unlisted "$@" || fail InstallFailed "unlisted files of a replaced tree cannot be moved to $state/kept" ""
  settle_lists
  file_failure=
  change_files
  # In this order: without its journal entry the rest means nothing.
  discard "$state/journal.d/$tx_now" "$stage" "$trash"
  ! exists "$state/journal.d/$tx_now" || fail InstallFailed "cannot close the journal" "$errors"
  [ -z "$file_failure" ] || fail InstallFailed "cannot change a file" "$file_failure"
}

move_trees() {
  fresh=
  while read -r verb name; do
    valid_name "$name" || continue
    case $verb in
      put) put_tree "$name" ;;
      remove)
        ! exists "plugins/$name" || set_aside "$name" || fail_plugin "$name" RemoveFailed "$errors"
        ;;
    esac
  done <"$state/journal.d/$tx_now"
  [ -n "$fresh" ] || return 0
  # Trees without a predecessor go in one step.
  # shellcheck disable=SC2086 # a list of names that obey the grammar
  errors=$(mv $fresh plugins/ 2>&1) && return
  for tree in $fresh; do
    ! exists "$tree" || fail_plugin "${tree##*/}" InstallFailed "$errors"
  done
}

# Only while the staged tree is there: that the old one lies in the trash proves nothing, since moving it off an image
# layer is a copy that may have been killed half way.
put_tree() {
  directory "$stage/t/$1" || return 0
  if ! exists "plugins/$1"; then
    fresh="$fresh $stage/t/$1"
    return
  fi
  if set_aside "$1"; then
    errors=$(mv -T "$stage/t/$1" "plugins/$1" 2>&1) && return
    exists "plugins/$1" || mv -T "$aside" "plugins/$1" 2>/dev/null
  fi
  fail_plugin "$1" InstallFailed "$errors"
}

set_aside() {
  aside=$trash/$1
  copy=0
  while exists "$aside"; do
    copy=$((copy + 1))
    aside=$trash/$1~$copy
  done
  errors=$(mv -T "plugins/$1" "$aside" 2>&1)
}

# The plugins of the transaction whose trees are where they should be: $placed and $gone.
list_settled() {
  placed=
  gone=
  while read -r verb name; do
    valid_name "$name" || continue
    case $verb in
      put | adopt) directory "$stage/t/$name" || placed="$placed $name" ;;
      remove) exists "plugins/$name" || gone="$gone $name" ;;
    esac
  done <"$state/journal.d/$tx_now"
}

# Moves what is on no list and matches no PATTERN out of the old trees. Needs the old lists, so it happens before the new
# ones come, and once.
keep_unlisted() {
  ! exists "$stage/kept" || return 0
  trees=
  for name in $placed $gone; do
    for tree in "$trash/$name" "$trash/$name"~*; do
      ! directory "$tree" || trees="$trees $tree/."
    done
  done
  [ -n "$trees" ] || return 0
  for pattern in "$@"; do
    shift
    set -- "$@" -o -name "$pattern"
  done
  {
    for name in $placed $gone; do
      ! regular "$state/files/$name" || echo "$name"
    done
    echo
    # shellcheck disable=SC2086 # a list of names that obey the grammar
    find $trees \( -name '' "$@" \) -prune -o ! -type d -print 2>/dev/null || echo incomplete
  } | unlisted_of "$trash/" | (
    whole=yes
    while IFS= read -r line; do
      case $line in
        complete) whole= ;;
        */*) keep "${line%%/*}" "/${line#*/}" || break ;;
      esac
    done
    # Names with line ends, directories that cannot be listed …: better too much than too little.
    [ -z "$whole" ] || for tree in $trees; do
      tree=${tree%/.}
      keep "${tree##*/}" '' || exit 1
    done
  ) || return 1
  true >"$stage/kept" || return 0
} 2>/dev/null

# Reads names with lists, an empty line, paths. Prints TREE/PATH of the topmost entries that hold nothing listed, and
# "complete"; nothing if it did not understand everything.
unlisted_of() {
  awk -v prefix="$1" '
    section == 0 && $0 == "" { section = 1; next }
    section == 0 {
      list = "'"$state"'/files/" $0
      while ((getline text < list) > 0) {
        path = $0 "/" substr(text, 67)
        listed[path] = 1
        while (match(path, /\/[^\/]*$/)) { path = substr(path, 1, RSTART - 1); above[path] = 1 }
      }
      close(list)
      next
    }
    {
      path = substr($0, length(prefix) + 1)
      slash = index(path, "/./")
      if (substr($0, 1, length(prefix)) != prefix || slash == 0) { strange = 1; next }
      tree = substr(path, 1, slash - 1)
      path = substr(path, slash + 3)
      name = tree
      sub(/~.*/, "", name)
      if ((name "/" path) in listed) next
      parts = split(path, segment, "/")
      unit = segment[1]
      for (i = 2; i <= parts && ((name "/" unit) in above); i++) unit = unit "/" segment[i]
      units[tree "/" unit] = 1
    }
    END {
      if (strange) exit
      for (unit in units) print unit
      print "complete"
    }'
}

# keep TREE /PATH: to kept/NAME-TX/PATH, or beside what was kept there before.
keep() {
  kept=$state/kept/${1%%~*}-$tx_now$2
  mkdir -p "${kept%/*}" || return 1
  copy=0
  destination=$kept
  while exists "$destination"; do
    copy=$((copy + 1))
    destination=$kept~$copy
  done
  mv -T "$trash/$1$2" "$destination" || return 1
  clean "$destination"
  printf 'kept %s\n' "$cleaned"
}

# Lists before receipts; everything that is still in staging.
settle_lists() {
  settle_at_once || for kind in files executables receipts; do
    ready=
    for name in $placed; do
      ! exists "$stage/$kind/$name" || ready="$ready $stage/$kind/$name"
    done
    [ -n "$ready" ] || continue
    # shellcheck disable=SC2086 # a list of names that obey the grammar
    errors=$(mv -f $ready "$state/$kind/" 2>&1) || fail InstallFailed "cannot write $state/$kind" "$errors"
  done
  old=
  for name in $gone; do
    old="$old $state/receipts/$name $state/executables/$name $state/files/$name"
  done
  [ -n "$old" ] || return 0
  # shellcheck disable=SC2086
  errors=$(rm -rf $old 2>&1) || fail RemoveFailed "cannot remove a receipt" "$errors"
}

# In the place of directories that have nothing in them yet, whole ones go in one step, where no plugin has failed.
settle_at_once() {
  for path in "$stage"/receipts/*; do
    case "$placed " in
      *" ${path##*/} "*) ;;
      *) return 1 ;;
    esac
  done
  for kind in files executables receipts; do
    directory "$stage/$kind" && is_empty "$state/$kind" || return 1
  done
  mv "$stage/files" "$stage/executables" "$stage/receipts" "$state/" 2>/dev/null
}

is_empty() {
  for entry in "$1"/*; do
    ! exists "$entry" || return 1
  done
}

change_files() {
  while read -r verb index path; do
    case $verb in
      write | unlink) safe_path "$path" && real_parents "$path" || file_failure="$path is not safe" ;;
      *) continue ;;
    esac
    [ -z "$file_failure" ] || return
    case $verb in
      write) put_file "$index" "$path" || file_failure=$errors ;;
      unlink) errors=$(rm -f "$path" 2>&1) || file_failure=$errors ;;
    esac
  done <"$state/journal.d/$tx_now"
}

# Two steps: the staged file may be on another mount, and only a rename beside the old one is atomic.
put_file() {
  beside=$parent.plugset-$tx_now-$1
  [ -z "$parent" ] || errors=$(mkdir -p "$parent" 2>&1) || return 1
  ! exists "$stage/c/$1" || errors=$(mv -f -T "$stage/c/$1" "$beside" 2>&1) || return 1
  ! exists "$beside" || errors=$(mv -f -T "$beside" "$2" 2>&1)
}

need_tools awk cat chmod find mkdir mv rm sha256sum stat sync tar
enter "$2"
tx=$7
sums=$8
recovering=
check_places "$3"
former=
blank=
# What is made for this transaction along with a place that was blank.
rooms=
case $9 in
  blank:*) blank=yes && require_blank "${9#blank:}" ;;
  former:*) former=${9#former:} ;;
esac
make_places
lock
check_fence "$4" "$5" "$6" "$former"
shift 9
recover "$@"
clear_rooms
unpack "$sums"
check_operations
if [ -n "$journal" ]; then
  commit
  roll_forward "$tx" "$@"
else
  rooms=
  clear_rooms
fi
look </dev/null
finish Succeeded
