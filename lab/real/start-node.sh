#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts itself into a cgroup of the node in every hierarchy, then becomes the node's first process in namespaces of its own: so the new
# cgroup namespace has the node's cgroups as its roots.  start-node.sh PREFIX NAME
set -eu
prefix=$1 name=$2
room=$(dirname "$0")
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | while read -r hierarchy; do
  group=$hierarchy/$prefix$name
  mkdir -p "$group"
  # Version 1: a new cpuset has no processor, and takes no process.
  if [ -e "$group/cpuset.cpus" ] && [ -e "$group/cgroup.clone_children" ]; then
    cat "$hierarchy/cpuset.cpus" >"$group/cpuset.cpus"
    cat "$hierarchy/cpuset.mems" >"$group/cpuset.mems"
    echo 1 >"$group/cgroup.clone_children"
  fi
  # A node has a dozen daemons and its pods: as one cgroup among others it would get what one process of the machine gets.
  if [ -e "$group/cpu.shares" ]; then echo 8192 >"$group/cpu.shares"; fi
  if [ -e "$group/cpu.weight" ]; then echo 800 >"$group/cpu.weight"; fi
  # $$ is the shell itself, also in this part of the pipe.
  echo $$ >"$group/cgroup.procs"
done
exec unshare --mount --net --pid --cgroup --uts --ipc --fork --propagation private "$room/node.sh"
