#!/bin/sh
# Prints a directory that holds the programs named (etcd, kube-apiserver, kubectl, kubelet): the one of KUBEBUILDER_ASSETS, if
# all of them are there (it has no kubelet as it comes), else a cache keyed by version, into which what is lacking there is built:
# about nine minutes for all of them on two cores, once.
# Exit code 3: they cannot be had here, and what was printed says why.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

unavailable() {
  echo "$*"
  exit 3
}

say() {
  echo "$*" >&2
}

assets=${KUBEBUILDER_ASSETS:-}
find_lacking() {
  dir=$1
  shift
  lacking=
  for name; do
    [ -x "$dir/$name" ] || lacking="$lacking $name"
  done
}
if [ -n "$assets" ]; then
  find_lacking "$assets" "$@"
  if [ -z "$lacking" ]; then
    echo "$assets"
    exit
  fi
  say "KUBEBUILDER_ASSETS names a directory without$lacking"
fi

required_version() {
  sed -n "s|^.*$2 \(v[0-9][^ ]*\).*|\1|p" "$here/$1/go.mod" | head -n 1
}
kubernetes=$(required_version . k8s.io/kubernetes)
etcd=$(required_version etcd go.etcd.io/etcd/server/v3)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/plugset/kubernetes-$kubernetes-etcd-$etcd-$(uname -s)-$(uname -m)

find_lacking "$cache" "$@"
if [ -z "$lacking" ]; then
  echo "$cache"
  exit
fi

command -v go >/dev/null || unavailable "there is no Go to build$lacking with, and no KUBEBUILDER_ASSETS that names a directory of them"
export GOWORK=off CGO_ENABLED=0
for module in . etcd; do
  answer=$(cd "$here/$module" && go list -m 2>&1) || unavailable "this Go cannot build$lacking: $answer"
done

mkdir -p "$cache"
# Whoever comes second waits, and finds what the first has built. Where there is no flock, both build, to the same end.
if command -v flock >/dev/null; then
  exec 9>"$cache/.lock"
  flock -n 9 || {
    say "waiting for somebody else's build of$lacking"
    flock 9
  }
  find_lacking "$cache" "$@"
fi
find "$cache" -name '.building-*' -mtime +0 -exec rm -rf {} + # of a run that was killed days ago
# On the same file system as the cache: a rename then publishes a whole program.
out=$(mktemp -d "$cache/.building-XXXXXX")
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Arguments: directory of the module, flags of the linker, packages. Each becomes a program of its name, or of its directory's.
build() (
  cd "$here/$1"
  flags=$2
  shift 2
  total=$(go list -deps "$@" 2>&1 | grep -cv ' ') || : # the build will say what is wrong
  # `-v` tells each package that was compiled, on a line without a blank; all else is a complaint.
  { go build -v -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$out/" "$@" 2>&1 || echo '! failed'; } |
    awk -v total="$total" '
      $0 == "! failed" { exit 1 }
      / / { if (!/^go: downloading /) { print; fflush() } next }
      ++count % 100 == 0 { print "  compiled " count " of at most " total " packages"; fflush() }
    ' >&2
)

packages=
for name in $lacking; do
  case $name in
    etcd)
      say "building etcd $etcd (once; kept in $cache)"
      build etcd '' .
      ;;
    *) packages="$packages k8s.io/kubernetes/cmd/$name" ;;
  esac
done
if [ -n "$packages" ]; then
  say "building$packages $kubernetes (once, some minutes; kept in $cache)"
  version=k8s.io/component-base/version
  numbers=${kubernetes#v}
  minor=${numbers#*.}
  # Without them it calls itself v0.0.0-master. Words of our own making: they may well be split.
  # shellcheck disable=SC2086
  build . "-X $version.gitVersion=$kubernetes -X $version.gitMajor=${numbers%%.*} -X $version.gitMinor=${minor%%.*}" $packages
fi
for name in $lacking; do
  mv "$out/$name" "$cache/"
done
echo "$cache"
