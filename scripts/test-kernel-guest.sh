#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the virtual machine of scripts/test-kernel.sh: mounts what a node has, runs the tests, ends.
export HOME=/root TERM=dumb LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir /run/out
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 out /run/out
ip link set lo up
ulimit -n 1048576
echo "test-kernel: Linux $(uname -r)"
cd "$(dirname "$0")/.." || exit 1
. scripts/env.sh
# An emulated processor is some ten times slower; waits are stretched so that only what hangs runs into them.
export AMBIT_TEST_SLOWNESS=20 TAP_TIMEOUT=1200
status=0
while read -r test; do
  echo "# $test"
  node --disable-warning=ExperimentalWarning "$test" >/tmp/tap 2>&1 || status=1
  grep -E '^ *not ok|^# \{' /tmp/tap
  [ "$status" = 0 ] || grep -A 30 '^ *not ok' /tmp/tap | head -n 200
done </run/out/tests
echo "$status" >/run/out/status
sync
echo o >/proc/sysrq-trigger
sleep 30
