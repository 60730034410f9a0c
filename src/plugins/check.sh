# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # shared with the other scripts
#
# Part of apply.sh: whether a place is one to write to, and holds what the operations expect.

# Trees move between plugins/ and .plugset/ by rename, so both must be ours, and on one mount.
check_places() {
  # Below what is not there nothing is mounted.
  ! exists plugins && ! exists "$state" || mounts=$(cat /proc/self/mountinfo 2>/dev/null)
  first_device=
  # shellcheck disable=SC2046 # four words each
  set -- $(stat -c '%n %u %d %g' . plugins "$state" 2>/dev/null)
  [ "$#" -ge 4 ] || finish PermissionDenied "the config directory cannot be examined"
  group=$4
  while [ "$#" -ge 4 ]; do
    # The root of a volume may be root's, and open to others.
    [ "$2" = "$uid" ] || [ "$1 $2" = ". 0" ] || finish UnsafePath "$1 belongs to user $2, not to $uid"
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
  for place in plugins "$state"; do
    ! exists "$place" || moved "$place is there"
  done
  # What runs as its owner need not ask whose it is.
  # shellcheck disable=SC3062,SC3063 # a shell that does not know them asks
  ! { [ -O . ] && [ -G . ]; } 2>/dev/null || return 0
  check_places
  [ "$group" = "$1" ] || moved "the config directory has group $group"
}

# Whether nobody has been quicker than we: asked again under the lock.
is_blank() {
  [ -n "$blank" ] && ! exists "$state/fence" || return 1
  for kind in files executables receipts journal.d; do
    is_empty "$state/$kind" || return 1
  done
}

is_empty() {
  for entry in "$1"/*; do
    ! exists "$entry" || return 1
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
    # shellcheck disable=SC2086 # names from the line above
    try mkdir -p $missing ${blank:+"$state/staging/$tx/journal.d" "$state/trash/$tx"} ||
      fail PermissionDenied "cannot create $state and plugins" "$errors"
  fi
  [ ! -s "$state/format" ] || return 0
  scratch=$state/format
  try write_format || fail PermissionDenied "cannot write $state/format" "$errors"
  scratch=
}

write_format() {
  echo 1 >"$state/format"
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
      copy) stage_copy "$name" "${rest%% *}" "${rest#* }" ;;
      save) stage_save "$name" "$rest" ;;
      rmdir)
        safe_path "$rest" || finish Internal "a path breaks the rules"
        journal="$journal$verb - $rest$nl"
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
  plain_path "$1" || return 1
  case /$1/ in
    "/$state/base/"?* | "/$state/backup/"?* | "/$state/settings/"?*) ;;
    "/$state/"* | /plugins/*) return 1 ;;
  esac
}

plain_path() {
  case /$1/ in
    *//* | */./* | */../* | *\\* | *[[:cntrl:]]*) return 1 ;;
  esac
}

# stage_copy INDEX HEX PATH: makes what a "write" puts in its place of what lies here, or comes with a tree. Before the commit
# point, so that what is copied is what was there before anything was changed.
stage_copy() {
  plain_path "$3" || finish Internal "a path breaks the rules"
  source=$3
  ! exists "$stage/t${3#plugins}" || source=$stage/t${3#plugins}
  real_parents "$source" || moved "a directory above $3 is a link"
  regular "$source" || moved "$3 is no regular file"
  copy_to_stage "$1" "$source"
  hashes="$hashes$2  $stage/c/$1$nl"
}

# stage_save INDEX PATH
stage_save() {
  safe_path "$2" || finish Internal "a path breaks the rules"
  real_parents "$2" || return 0
  if regular "$2" && [ -r "$2" ]; then
    copy_to_stage "$1" "$2"
  elif directory "$2"; then
    try make_mark "$1" || fail PermissionDenied "cannot write to $stage" "$errors"
  elif exists "$state/base/$2"; then
    journal="${journal}unlink - $state/base/$2$nl"
    return
  else
    return
  fi
  journal="${journal}write $1 $state/base/$2$nl"
}

copy_to_stage() {
  try mkdir -p "$stage/c" || fail PermissionDenied "cannot write to $stage" "$errors"
  try cp -p "$2" "$stage/c/$1" || fail InstallFailed "cannot copy $2" "$errors"
}

make_mark() {
  mkdir -p "$stage/c" && true >"$stage/c/$1"
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
  [ "$({ printf '\n\n' && lines_to_check <"$stage/a" | sha256sum -c; } 2>/dev/null | report_of 0)" = checked ] ||
    moved "a tree to adopt differs"
}
