import type { RunAs } from '../../ports/workspace-target.ts';

/** Name of the environment variable by which the processes of one run are known; children inherit it. */
const RUN_MARK = 'PLUGSET_RUN';

/**
 * Longer arguments travel on stdin. The others are part of a URL: the audit log of the API server keeps it, and gateways in
 * between take no long one.
 */
const LONGEST_IN_URL = 256;

/*
 * What an exec runs first: it becomes who is wanted, says so, and waits. The command itself comes with the answer, so that a
 * connection that breaks before has started nothing for certain. Not in the environment of the image, whose PATH and loader
 * could be the agent's, and a look may run as root. The arguments: as whom (`observer` or `uid:gid`), the mark, RUN_SCRIPT, and
 * the command, of which each is `=` and itself, or `@` and its length on stdin. `dd` where it can (flag unknown: it has read
 * nothing), for `read` takes a byte at a time.
 */
const BOOT_SCRIPT = `
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C ${RUN_MARK}=$2
export PATH LC_ALL ${RUN_MARK}
unset LD_PRELOAD LD_LIBRARY_PATH
cd /
while read -r key id rest; do
  case $key in
    Uid:) uid=$id ;;
    Gid:) gid=$id; break ;;
  esac
done </proc/self/status
want=$1 mark=$2 run=$3
shift 3
[ "$want" != observer ] || want=$uid:$gid
becomes() {
  [ "$("$@" sh -c 'echo "$(id -u):$(id -g)"' 2>/dev/null </dev/null)" = "$want" ]
}
named() {
  while IFS=: read -r name rest id group rest; do
    [ "$id:$group" != "$want" ] || return 0
  done </etc/passwd
  return 1
}
if [ "$uid:$gid" = "$want" ] || { [ "$uid" != 0 ] && [ "$uid" = "\${want%:*}" ]; }; then way=direct
elif [ "$uid" != 0 ]; then way=
elif becomes setpriv "--reuid=\${want%:*}" "--regid=\${want#*:}" --clear-groups --; then way=setpriv
elif becomes chroot "--userspec=+\${want%:*}:+\${want#*:}" --groups= /; then way=chroot
elif named && becomes su -s /bin/sh -- "$name" -c 'exec "$@"' sh; then way=su
else way=
fi
if [ -z "$way" ]; then
  echo "$mark refused $uid:$gid"
  exit 1
fi
echo "$mark begins"
left=$#
while [ "$left" -gt 0 ]; do
  argument=$1
  shift
  case $argument in
    =*) argument=\${argument#=} ;;
    *)
      size=\${argument#@}
      argument=$(dd bs="$size" count=1 iflag=fullblock 2>/dev/null; echo .)
      argument=\${argument%.}
      [ "\${#argument}" -eq "$size" ] || exit 1
      ;;
  esac
  set -- "$@" "$argument"
  left=$((left - 1))
done
set -- /bin/sh -c "$run" sh "$@"
case $way in
  direct) exec "$@" ;;
  setpriv) exec setpriv "--reuid=\${want%:*}" "--regid=\${want#*:}" --clear-groups -- "$@" ;;
  chroot) exec chroot "--userspec=+\${want%:*}:+\${want#*:}" --groups= / "$@" ;;
  su) exec su -s /bin/sh -- "$name" -c 'exec "$@"' sh "$@" ;;
esac
`;

/*
 * Runs the command once the word that ends it has come: nobody who reads the arguments of processes can know it. Then says
 * it on both outputs, with the exit code, and reads stdin to its end: a container that ends with something unread loses what it printed.
 */
const RUN_SCRIPT = `
IFS= read -r end || exit 1
(exec "$@")
code=$?
printf %s "$end"
printf '%s %s.' "$end" "$code" >&2
cat >/dev/null
exit "$code"
`;

export interface ExecCommand {
  /** For the URL. */
  readonly argv: readonly string[];
  /** What comes first on stdin. */
  readonly rest: Buffer;
}

/** How `argv` is run as somebody; `mark`: by which its processes are found. Constant scripts, and data as arguments. */
export function execCommand(argv: readonly string[], as: RunAs, mark: string): ExecCommand {
  const long: Buffer[] = [];
  const placed = argv.map((argument) => {
    const bytes = Buffer.from(argument);
    if (bytes.length <= LONGEST_IN_URL) return `=${argument}`;
    long.push(bytes);
    return `@${bytes.length}`;
  });
  const whom = as === 'observer' ? as : `${as.uid}:${as.gid}`;
  return {
    argv: ['/bin/sh', '-c', BOOT_SCRIPT, 'plugset', whom, mark, RUN_SCRIPT, ...placed],
    rest: Buffer.concat(long),
  };
}
