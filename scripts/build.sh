#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the eBPF objects, the native library and the CNI plugin. Quiet when nothing changed.
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
for folder in bpf native native/cni; do
  [ -f "$folder/Makefile" ] || continue
  make -s -C "$folder" || { printf 'build: make -C %s failed; its output is above\n' "$folder" >&2; exit 1; }
done

# Compiled code of the long-running programs, which cli/bin/ambit points Node at: a start takes half the time with it.
cache=node_modules/.cache/ambit
stamp=$cache/.made
if [ -x node_modules/.bin/node ] && { [ ! -e "$stamp" ] ||
  [ -n "$(find agent controller waypoint mesh native cli package-lock.json -newer "$stamp" \( -name '*.ts' -o -name '*.js' -o -name '*.json' \) -print -quit)" ]; }; then
  # Entries are found by content, so old ones do no harm; they only take room.
  rm -rf "$cache"
  mkdir -p "$cache"
  # By the command itself: V8 takes only what was compiled with the flags it runs with, which an agent has of its own.
  for program in 'agent --compile' 'controller --help' 'waypoint-proxy --help' '--help'; do
    # shellcheck disable=SC2086 # words
    NODE_COMPILE_CACHE=$PWD/$cache cli/bin/ambit $program >"$cache/.log" 2>&1 ||
      { cat "$cache/.log" >&2; printf 'build: ambit %s failed; its output is above\n' "$program" >&2; exit 1; }
  done
  rm -f "$cache/.log"
  touch "$stamp"
fi
