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
  [ -n "$(find agent controller mesh native cli package-lock.json -newer "$stamp" \( -name '*.ts' -o -name '*.js' -o -name '*.json' \) -print -quit)" ]; }; then
  # Entries are found by content, so old ones do no harm; they only take room.
  rm -rf "$cache"
  NODE_COMPILE_CACHE=$PWD/$cache node_modules/.bin/node --input-type=module --disable-warning=ExperimentalWarning -e '
    for (const path of ["agent/main.ts", "agent/proxy/worker/data-plane.ts", "agent/capture/data-plane-sockets.ts",
      "controller/main.ts", "cli/lab.ts", "cli/programs.ts"]) await import(`./${path}`)
    process.exit(0)' || { printf 'build: the programs cannot be loaded; the reason is above\n' >&2; exit 1; }
  touch "$stamp"
fi
