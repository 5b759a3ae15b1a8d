#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs test files as on arm64: Node, native parts and the CNI plugin of the arm64 image, each instruction emulated (QEMU's user mode), by this
# machine's kernel. In namespaces of its own: nothing is registered or installed on the machine. For tests that load no eBPF, which that
# emulation does not have, and need no network namespace. Never part of npm test. Needs Linux 6.7 or later, and on amd64 the
# packages qemu-user-static, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.
# Usage: scripts/test-arm64.sh TEST...     e.g. sh scripts/test-arm64.sh test/cni/plugin.test.ts test/relay/*.test.ts
set -eu
cd "$(dirname "$0")/.."
die() { printf 'test-arm64: %s\n' "$*" >&2; exit 2; }
[ $# -ge 1 ] || die 'usage: scripts/test-arm64.sh TEST...'
qemu=$(command -v "${AMBIT_QEMU:-qemu-aarch64-static}") || die 'qemu-aarch64-static is missing: apt-get install qemu-user-static'
command -v aarch64-linux-gnu-gcc >/dev/null || die 'a compiler is missing: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross'

# AMBIT_ARM64_ROOT names a root file system that is there already; else it is made, and goes afterwards.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. scripts/env.sh
root=${AMBIT_ARM64_ROOT:-$work/root}
[ -x "$root/usr/bin/node" ] || sh scripts/image.sh --arch arm64 --root "$root"

# What of the working copy is compiled for a processor, as the image has it.
mkdir -p "$work/tree/native/build" "$work/tree/node_modules/.bin" "$work/upper" "$work/scratch"
cp "$root"/opt/ambit/native/build/* "$work/tree/native/build/"
ln -s "$root/usr/bin/node" "$work/tree/node_modules/.bin/node"
for package in "$root"/opt/ambit/node_modules/@*/*-arm64; do
  to=$work/tree/node_modules/${package#"$root"/opt/ambit/node_modules/}
  mkdir -p "${to%/*}" && cp -r "$package" "$to"
done

# The machine's own libraries and those of arm64 have paths of their own (Debian: multiarch), and lie over one another. The emulator is
# opened when it is registered (F), so that it is found in whatever root a test makes.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
export AMBIT_ARM64_WORK="$work" AMBIT_ARM64_ROOT="$root" AMBIT_ARM64_FORMAT=":ambit-arm64:M::$magic:$mask:$qemu:F"
mkfifo "$work/here" "$work/begin"
# Of processes, too: whatever a test has started ends with it.
unshare --user --mount --pid --fork --kill-child sh -ec '
  echo >"$AMBIT_ARM64_WORK/here"
  read -r _ <"$AMBIT_ARM64_WORK/begin"
  tree=$PWD
  mount -t proc proc /proc
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  printf %s "$AMBIT_ARM64_FORMAT" >/proc/sys/fs/binfmt_misc/register
  mount -t overlay -o "userxattr,lowerdir=$AMBIT_ARM64_ROOT/usr/lib:/usr/lib" ambit-arm64 /usr/lib
  mount -t overlay -o "userxattr,lowerdir=$AMBIT_ARM64_WORK/tree:$tree,upperdir=$AMBIT_ARM64_WORK/upper,workdir=$AMBIT_ARM64_WORK/scratch" ambit-arm64 "$tree"
  cd "$tree"
  node=$AMBIT_ARM64_ROOT/usr/bin/node
  [ "$("$node" -p process.arch)" = arm64 ]
  status=0
  for test in "$@"; do
    if "$node" "$test" >"$AMBIT_ARM64_WORK/said" 2>&1; then echo "ok $test"; else
      status=1
      cat "$AMBIT_ARM64_WORK/said"
      echo "not ok $test"
    fi
  done
  exit $status
' sh "$@" & tests=$!
trap 'kill "$tests" 2>/dev/null; rm -rf "$work"' EXIT
# Every user of the machine is itself inside, so that tests may give files away; without root only the one who asks is.
read -r _ <"$work/here"
users=65536
[ "$(id -u)" = 0 ] || { users=1; echo deny >"/proc/$tests/setgroups"; }
echo "0 $(id -u) $users" >"/proc/$tests/uid_map"
echo "0 $(id -g) $users" >"/proc/$tests/gid_map"
echo >"$work/begin"
wait "$tests"
