# shellcheck shell=sh
#
# The look: what is in a config directory, in one run, whatever the number of plugins and files.
#
#   sh -c LOOK sh look DIR [lists|settings|- [MEMORY]]    stdin: a nonce line, then candidates (declared trees to compare with)
#   sh -c LOOK+… sh apply DIR …       the same functions, then those of apply.sh
#
# Runs as root where it can, in a tree that an agent writes to. So it reads only, follows no link, opens nothing but
# regular files, and lets no name or content begin a line of its output. Facts about tools: design section 5.

unset TAR_OPTIONS CDPATH
LC_ALL=C
export LC_ALL
umask 022
# An agent may put a file in the way that is one line of terabytes: what reads it ends before the machine does. KiB.
# shellcheck disable=SC3045 # where it is unknown, there is no limit
ulimit -v 2097152 2>/dev/null
# A client that dies must not end an apply half way: writing to it fails instead.
trap '' HUP PIPE

nl='
'
state=.plugset
# The real stdin, also where a loop reads something else.
exec 3<&0
IFS= read -r nonce || exit 1

# What an apply must take away when it stops before its commit point, and at its end.
scratch=
lock_fifo=
# Whether there may be more on stdin.
unread=yes
# Whether the lists, and the settings of plugins, are printed and not only hashed.
with_lists=
with_settings=

# finish REASON [WHY]: the only way out. Unlocks (the lock is fd 9) before it drains stdin: an exit with input unread
# loses the output on some transports, and a client that goes silent must not hold the lock.
finish() {
  # shellcheck disable=SC2086 # names that obey the grammar, or none
  [ -z "$scratch$lock_fifo" ] || rm -rf $scratch $lock_fifo
  exec 9>&-
  [ -z "$unread" ] || cat <&3 >/dev/null 2>&1 || while read -r _; do :; done <&3
  code=1
  [ "$1" != Succeeded ] || code=0
  if [ -n "${2-}" ]; then
    clean "$2"
    printf 'why %.600s\n' "$cleaned"
  fi
  printf 'end %s %s %s\n' "$nonce" "$code" "$1"
  exit "$code"
}

# Sets $cleaned to $1 with every control character replaced, line ends first of all.
clean() {
  cleaned=$1
  while :; do
    case $cleaned in
      *[[:cntrl:]]*) cleaned="${cleaned%%[[:cntrl:]]*}?${cleaned#*[[:cntrl:]]}" ;;
      *) return ;;
    esac
  done
}

exists() {
  [ -e "$1" ] || [ -h "$1" ]
}

regular() {
  [ -f "$1" ] && ! [ -h "$1" ]
}

directory() {
  [ -d "$1" ] && ! [ -h "$1" ]
}

# The grammar of names (src/domain/name.ts). What passes needs no quotes and is no option.
valid_name() {
  case $1 in
    '' | [!a-z0-9]* | *[!a-z0-9._-]*) return 1 ;;
  esac
  [ "${#1}" -le 128 ]
}

# Something of plugset's lies beside this name: deleting the receipt alone does not make a plugin foreign.
is_managed() {
  exists "$state/receipts/$1" || exists "$state/files/$1"
}

need_tools() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || finish ToolMissing "$tool is missing"
  done
}

# Makes the config directory the working directory, or says why it cannot be used.
enter() {
  root=$1
  while :; do
    case $root in
      ?*/) root=${root%/} ;;
      *) break ;;
    esac
  done
  ! [ -h "$root" ] || finish UnsafePath "the config directory is a symbolic link"
  [ -e "$root" ] || finish ConfigDirMissing
  [ -d "$root" ] || finish UnsafePath "the config directory is no directory"
  cd -P -- "$root" 2>/dev/null || finish PermissionDenied "the config directory cannot be entered"
  for place in plugins "$state" "$state/receipts" "$state/files" "$state/executables" "$state/settings" "$state/journal.d"; do
    ! exists "$place" || directory "$place" || finish UnsafePath "$place is no directory of its own"
  done
  if exists "$state/format"; then
    regular "$state/format" || finish UnsafePath "$state/format is no regular file"
    format=
    read -r format <"$state/format"
    # Empty: killed between creating and writing it.
    [ -z "$format" ] || [ "$format" = 1 ] || finish UnknownFormat "$state/format says: $format"
  fi
}

# Prints everything there is to say: lines of "managed NAME present|absent", "unmanaged NAME", "odd TEXT", "journal", then
# those of report_of.
look() {
  count=0
  unmanaged=
  intact=
  lists=
  list_count=0
  contents=
  manifests=
  settings=
  look_at_directories
  look_at_receipts
  look_at_settings
  for entry in "$state"/journal.d/*; do
    ! exists "$entry" || { echo journal && break; }
  done
  ! regular "$state/fence" || contents="$state/fence $contents"
  # In the last stage, so that what is to be hashed is put together beside them.
  lines_to_check 2>/dev/null | {
    # shellcheck disable=SC2086 # a list of names that obey the grammar
    stat -c '%u %g %f %s %n' . $settings $contents $manifests ${with_lists:+$lists}
    echo
    # The device is there so that no list at all does not mean stdin.
    # shellcheck disable=SC2086
    sha256sum /dev/null $lists $settings
    echo
    sha256sum -c
  } 2>/dev/null | report_of "$list_count" "$with_settings"
}

look_at_directories() {
  odd=0
  for path in plugins/* plugins/.[!.]* plugins/..?*; do
    exists "$path" || continue
    name=${path#plugins/}
    if valid_name "$name" && directory "$path"; then
      count=$((count + 1))
      ! regular "$path/plugin.yaml" || manifests="$manifests $path/plugin.yaml"
      is_managed "$name" && continue
      unmanaged="$unmanaged $name"
      echo "unmanaged $name"
    else
      odd=$((odd + 1))
      [ "$odd" -le 100 ] || continue
      clean "$name"
      printf 'odd %s\n' "$cleaned"
    fi
  done
  [ "$odd" -le 100 ] || echo "odd ($((odd - 100)) more)"
  [ "$count" -le 2000 ] || finish ObserveFailed "plugins/ has more than 2000 directories"
}

look_at_receipts() {
  count=0
  for path in "$state"/receipts/* "$state"/files/*; do
    exists "$path" || continue
    name=${path##*/}
    valid_name "$name" || continue
    # Named by its receipt already.
    case $path in
      "$state"/files/*) ! exists "$state/receipts/$name" || continue ;;
    esac
    count=$((count + 1))
    [ "$count" -le 2000 ] || finish ObserveFailed "$state has more than 2000 receipts"
    if directory "plugins/$name"; then
      echo "managed $name present"
      ! regular "$state/files/$name" || intact="$intact $name"
    else
      echo "managed $name absent"
    fi
    ! regular "$state/receipts/$name" || contents="$contents $state/receipts/$name"
    for list in "$state/files/$name" "$state/executables/$name"; do
      if regular "$list" && [ -r "$list" ]; then
        lists="$lists $list"
        list_count=$((list_count + 1))
      fi
    done
  done
}

# Settings of plugins: their files, what lay there before, and our receipts.
look_at_settings() {
  if exists plugin-settings && ! directory plugin-settings; then echo "setting other plugin-settings"; fi
  count=0
  for path in plugin-settings/*.json "$state"/settings/* "$state"/base/plugin-settings/*.json; do
    exists "$path" || continue
    name=${path##*/}
    case $path in
      "$state"/settings/*) ;;
      *)
        directory "${path%/*}" || continue
        case $path in
          "$state"/*) directory "$state/base" || continue ;;
        esac
        name=${name%.json}
        ;;
    esac
    valid_name "$name" || continue
    count=$((count + 1))
    [ "$count" -le 6000 ] || finish ObserveFailed "there are more than 6000 files of settings"
    if regular "$path" && [ -r "$path" ]; then
      settings="$settings $path"
      list_count=$((list_count + 1))
      case $path in
        "$state/settings/"*) contents="$contents $path" ;;
      esac
    else
      echo "setting other $path"
    fi
  done
}

# Prints, for `sha256sum -c`, what is listed: the lists of $intact on the disk, and of the candidates on stdin
# ("-HEX  plugins/NAME/PATH", x instead of - for an executable) those named in $unmanaged. A path that must not be opened,
# or has the wrong executable bit, is checked as /dev/null/PATH, which no tool can open: so everything comes in one
# stream, and its last line, which never matches, tells how many there were.
lines_to_check() {
  {
    for name in $intact; do echo "managed $name"; done
    for name in $unmanaged; do echo "unmanaged $name"; done
    echo
    # Executables once, and what is no regular file twice. Paths with a newline are on no list, and would be taken for two.
    find plugins ! -path "*$nl*" \( -type f -perm -100 -print -o ! -type d ! -type f -print -print \)
    echo
    # Candidates, which nothing but an unmanaged tree is compared with.
    [ -z "$unmanaged" ] || cat
  } | awk '
    function check(hex, path, executable) {
      count++
      if (is_odd(path) || (path in executables) != executable) refuse(path)
      else print hex "  " path
    }
    function refuse(path) {
      print "0000000000000000000000000000000000000000000000000000000000000000  /dev/null/" path
    }
    function is_odd(path,   at, next_slash) {
      if (path in odd) return 1
      for (at = 0; (next_slash = index(substr(path, at + 1), "/")) > 0;) {
        at += next_slash
        if (substr(path, 1, at - 1) in odd) return 1
      }
      return 0
    }
    function is_line(text,   hex, path) {
      hex = substr(text, 1, 64)
      path = substr(text, 67)
      return length(hex) == 64 && hex !~ /[^0-9a-f]/ && substr(text, 65, 2) == "  " && path != "" \
        && path !~ /[\001-\037\177\\]/ && ("/" path "/") !~ /\/(\.|\.\.)?\//
    }
    BEGIN { section = 1 }
    section < 3 && $0 == "" { section++; next }
    section == 1 { state[$2] = $1; next }
    section == 2 { if ($0 in executables) odd[$0] = 1; else executables[$0] = 1; next }
    {
      text = substr($0, 2)
      split(substr(text, 67), segment, "/")
      if (is_line(text) && state[segment[2]] == "unmanaged")
        check(substr(text, 1, 64), substr(text, 67), (substr($0, 1, 1) == "x"))
    }
    END {
      for (name in state) {
        if (state[name] != "managed") continue
        list = "'"$state"'/executables/" name
        while ((getline text < list) > 0) wanted["plugins/" name "/" text] = 1
        close(list)
        list = "'"$state"'/files/" name
        while ((getline text < list) > 0) {
          path = "plugins/" name "/" substr(text, 67)
          if (is_line(text)) check(substr(text, 1, 64), path, (path in wanted))
          else { count++; refuse("plugins/" name "/(a broken line of its list)") }
        }
        close(list)
      }
      refuse("checked/" (count + 1))
    }'
}

# report_of LISTS SETTINGS: turns three parts, each closed by an empty line, into lines of the report: "owner UID GID",
# "setting UID PATH", "content PATH" and its lines behind "| " (of settings only on demand); "digest HEX PATH"; "differs
# NAME/PATH" (20 a plugin).
# "checked" says that nothing is missing from the last two: no tool died on the way.
report_of() {
  awk -v lists="$1" -v with_settings="${2-}" '
    BEGIN { section = 1 }
    section < 3 && $0 == "" { section++; next }
    section == 1 && $5 == "." { print "owner " $1 " " $2; next }
    section == 1 && $5 ~ /^(plugin-settings|\.plugset\/settings|\.plugset\/base\/plugin-settings)\// && !($5 in told_of) {
      told_of[$5] = 1
      print "setting " $1 " " $5
      # A receipt is among the contents, too.
      if (with_settings == "" || $5 ~ /^\.plugset\/settings/) next
    }
    section == 1 {
      # Raw mode 8xxx: a regular file, still.
      if ($3 !~ /^8...$/ || $4 > 65536) next
      # All together; lists come last and manifests before them, so that they go first.
      if ((shown += $4) > 4194304) next
      print "content " $5
      while ((getline text < $5) > 0) print "| " text
      close($5)
      next
    }
    section == 2 { if ($2 != "/dev/null") { digests++; print "digest " $1 " " $2 }; next }
    {
      seen++
      if ($0 ~ /: OK$/) next
      sub(/: FAILED( open or read)?$/, "")
      sub(/^\/dev\/null\//, "")
      if ($0 ~ /^checked\//) { expected = substr($0, 9); next }
      sub(/^plugins\//, "")
      name = substr($0, 1, index($0, "/") - 1)
      if (++told[name] <= 20) print "differs " $0
    }
    # Neither is set when the tools above died before their first line.
    END { if (seen > 0 && seen == expected && digests + 0 == lists) print "checked" }'
}

case $1 in
  look)
    need_tools awk cat find sha256sum stat
    enter "$2"
    case ${3-} in
      lists) with_lists=yes ;;
      settings) with_settings=yes ;;
    esac
    look
    [ -z "${4-}" ] || look_at_loader "$4"
    finish Succeeded
    ;;
esac
