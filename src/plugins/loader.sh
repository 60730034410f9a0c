# shellcheck shell=sh
# shellcheck disable=SC2154 # nl, state: of look.sh
#
# Part of look.sh for a runtime with a loader: what that reads of plugins, and what it has made of them elsewhere.

# look_at_loader MEMORY: prints "file UID MODE HEX PATH" (- for HEX: not to be read, or of more than 4 MiB), "other PATH" for what
# is no regular file, contents as report_of does, and in the end "loader ROOT", unless something could not be seen.
look_at_loader() {
  memory=$1
  set --
  for place in plugins .claude/hooks .claude/commands .claude/settings.json "$memory" "$state/base" "$state/backup" skills; do
    case $place in
      */*) directory "${place%%/*}" || continue ;;
    esac
    ! exists "$place" || set -- "$@" "$place"
  done
  ! [ -h .claude ] || echo "other .claude/settings.json"
  {
    if [ "$#" -eq 0 ] || find "$@" ! -path "*$nl*" -exec stat -c '%f %u %s %n' {} +; then echo whole; fi
  } 2>/dev/null | choose_of_loader | hash_of_loader | report_of_loader
}

# Reads lines of stat, plugins first. Prints FLAG UID MODE PATH: r to be read, h to be hashed, n neither, o no regular file.
choose_of_loader() {
  awk -v memory="$memory" '
    function octal(hex,   digit, n) {
      n = 0
      for (digit = 1; digit <= length(hex); digit++) n = n * 16 + index("0123456789abcdef", substr(hex, digit, 1)) - 1
      n = n % 4096
      return int(n / 512) int(n / 64) % 8 int(n / 8) % 8 n % 8
    }
    function flag_of(path, parts, segment,   below) {
      if (path == memory || path == ".claude/settings.json") return "r"
      if (segment[1] == "plugins") {
        below = parts - 2
        if (below == 1 && segment[3] ~ /\.md$|^settings-fragment\.json$/) return "r"
        if (below == 2 && segment[3] == "rules" && segment[4] ~ /\.md$/) return "r"
        if (below == 1 && segment[3] == "setup.sh") return "h"
        if (below == 2 && (segment[3] == "hooks" || segment[3] == "commands")) return "h"
        if (below < 3 || segment[3] != "skills") return ""
        skills[segment[4]] = 1
        copied[substr(path, length(segment[1] segment[2]) + 3)] = 1
        return "h"
      }
      if (segment[1] == ".plugset") {
        path = substr(path, length(segment[1] segment[2]) + 3)
        return path == memory || path == ".claude/settings.json" ? "r" : "h"
      }
      if (segment[1] == ".claude") return parts == 3 ? "h" : ""
      if (path in copied) return "h"
      return segment[1] == "skills" && (segment[2] in skills) && ++beside < 10000 ? "n" : ""
    }
    $0 == "whole" { print; next }
    {
      path = $0
      sub(/^[^ ]* [^ ]* [^ ]* /, "", path)
      if (path ~ /[\001-\037\177\\]/) next
      parts = split(path, segment, "/")
      if ($1 !~ /^8...$/) {
        if (path == memory || path == ".claude/settings.json" || (segment[1] == "skills" && parts == 2) || path in copied)
          print "o - - " path
        next
      }
      flag = flag_of(path, parts, segment)
      if (flag == "") next
      if ($3 > 4194304) flag = "n"
      if (flag == "r" && ($3 > 262144 || (shown += $3) > 4194304)) flag = "h"
      print flag " " $2 " " octal($1) " " path
    }'
}

# Prints the same lines, and those of sha256sum behind them.
hash_of_loader() {
  set --
  while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in
      r* | h*) set -- "$@" "${line#* * * }" ;;
    esac
    [ "$#" -ge 500 ] || continue
    sha256sum "$@" 2>/dev/null
    set --
  done
  [ "$#" -eq 0 ] || sha256sum "$@" 2>/dev/null
}

report_of_loader() {
  awk -v root="$PWD" '
    $0 == "whole" { whole = 1; next }
    /^o / { print "other " substr($0, 7); next }
    /^[rhn] [0-9]+ [0-7]+ / {
      path = $0
      sub(/^[^ ]* [^ ]* [^ ]* /, "", path)
      flag[path] = $1
      fact[path] = $2 " " $3
      next
    }
    { hex[substr($0, 67)] = substr($0, 1, 64) }
    END {
      for (path in fact) {
        print "file " fact[path] " " ((path in hex) ? hex[path] : "-") " " path
        if (flag[path] != "r") continue
        print "content " path
        while ((getline text < path) > 0) print "| " text
        close(path)
      }
      if (whole) print "loader " root
    }'
}
