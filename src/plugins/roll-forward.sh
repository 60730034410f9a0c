# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # shared with the other scripts
#
# Part of apply.sh: what is done behind the commit point, each step of it so that it can be done again.

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
  mv $fresh plugins/ 2>/dev/null && return
  for tree in $fresh; do
    ! exists "$tree" || try mv "$tree" plugins/ || fail_plugin "${tree##*/}" InstallFailed "$errors"
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
  for kind in files executables receipts; do
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

change_files() {
  while read -r verb index path; do
    case $verb in
      write | unlink | rmdir) safe_path "$path" && real_parents "$path" || file_failure="$path is not safe" ;;
      *) continue ;;
    esac
    [ -z "$file_failure" ] || return
    case $verb in
      write) put_file "$index" "$path" || file_failure=$errors ;;
      unlink) errors=$(rm -f "$path" 2>&1) || file_failure=$errors ;;
      # Not empty, or gone: both are well.
      rmdir) rmdir "$path" 2>/dev/null ;;
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

# What resists in the trash (files of somebody else) is tried again next time.
discard() {
  rm -rf "$@" 2>/dev/null && return
  # An agent's tree may hold directories that even their owner cannot list.
  chmod -R u+rwX "$state/staging" "$state/trash" 2>/dev/null
  try rm -rf "$@" || :
}
