# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # nonce, nl, state, unmanaged …: shared with what precedes this in one script
#
# The apply: one transaction, all of it behind one commit point, in the order that survived being killed at every step.
#
#   sh -c LOOK+LOCK+CHECK+ROLL-FORWARD+APPLY sh apply DIR UID AUTHORITY EPOCH N TX SUMS EXPECTED PATTERN…
#
# stdin: a nonce line, then one tar: o (operations), files/NAME and executables/NAME (lists), receipts/NAME, t/NAME/… (trees),
# a (lists of trees to adopt), c/N (contents of files); sums.1, sums.2 … each behind what it covers, and in the end sums, which
# covers the rest, them too (SUMS is its own SHA-256).
# Runs as the owner of the config directory, so that a link swapped in at the right moment gains nothing.
# EXPECTED: "seen", or "blank:GID" where nobody looked before: then it has that group, and nothing of ours is there.
# PATTERN: names of entries that a runtime makes by itself; unlisted files elsewhere are kept.

# try COMMAND…: sets $errors to what it said if it fails. It is done once more for that: to listen takes a process, and mostly
# there is nothing to be heard.
try() {
  "$@" 2>/dev/null || errors=$("$@" 2>&1)
}

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
  # There its lists go ahead of it.
  [ -z "$blank" ] || for kind in files executables receipts; do
    rm -f "$stage/$kind/$1" "$state/$kind/$1"
  done
}

plain_number() {
  case $1 in
    '' | *[!0-9]*) return 1 ;;
  esac
  [ "${#1}" -le 15 ]
}

# Empties staging/ and trash/.
clear_rooms() {
  for room in "$state"/staging/* "$state"/trash/*; do
    if exists "$room"; then
      discard "$state"/staging/* "$state"/trash/*
      return
    fi
  done
}

unpack() {
  scratch="$stage $trash"
  [ -n "$blank" ] || try mkdir -p "$stage/journal.d" "$trash" || fail PermissionDenied "cannot create $stage" "$errors"
  # -m: files are as old as the install, not as old as the archive. Its exit code does not show a cut stream; sums do.
  errors=$({
    cd "$stage" && { tar -xpomvf - 2>&4 || echo /failed; } | check_sums "$1"
  } 4>&1) || fail VerifyFailed "what arrived is not what was sent" "$errors"
  # tar reads on to the end of its input.
  unread=
}

# check_sums SUMS: reads the names of members as they are unpacked, so that what came is checked while the rest comes. Not every
# tar tells them in time, or on this stream; what was not heard of by the end is checked then.
check_sums() {
  checked=0
  wrong=
  whole=
  while IFS= read -r member; do
    case $whole in
      sums.*) check_next_sums ;;
    esac
    [ "$member" != /failed ] || wrong=yes
    whole=$member
  done
  while [ -f "sums.$((checked + 1))" ]; do check_next_sums; done
  [ -z "$wrong" ] && sha256sum -c - sums >/dev/null 2>&1 <<END
$1  sums
END
}

check_next_sums() {
  checked=$((checked + 1))
  sha256sum -c "sums.$checked" >/dev/null 2>&1 || wrong=yes
}

commit() {
  try write_journal || fail PermissionDenied "cannot write" "$errors"
  # Without it a power cut leaves empty files under a new receipt. Not every sync knows -f.
  sync -f "$stage" 2>/dev/null || sync
  # In the place of directories that have nothing in them yet whole ones go in one step, and the lists behind the journal.
  [ -z "$blank" ] ||
    mv "$stage/fence" "$stage/journal.d" "$stage/files" "$stage/executables" "$stage/receipts" "$state/" 2>/dev/null
  exists "$state/journal.d/$tx" || try mv -T "$stage/journal.d/$tx" "$state/journal.d/$tx" ||
    fail PermissionDenied "cannot commit" "$errors"
  scratch=
}

write_journal() {
  printf '%s' "$journal" >"$stage/journal.d/$tx"
}

need_tools awk cat chmod cp find mkdir mv rm rmdir sha256sum stat sync tar
enter "$2"
uid=$3
tx=$7
sums=$8
recovering=
former=
blank=
mounts=
case $9 in
  blank:*) blank=yes && require_blank "${9#blank:}" ;;
  former:*) former=${9#former:} && check_places ;;
  *) check_places ;;
esac
make_places
lock
is_blank || blank=
check_fence "$4" "$5" "$6" "$former"
shift 9
recover "$@"
[ -n "$blank" ] || clear_rooms
unpack "$sums"
check_operations
if [ -n "$journal" ]; then
  commit
  roll_forward "$tx" "$@"
else
  discard "$stage" "$trash"
fi
look </dev/null
finish Succeeded
