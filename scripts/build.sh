#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the eBPF objects, the native library and the CNI plugin. Quiet when nothing changed.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"
for folder in bpf native native/cni; do
  [ -f "$folder/Makefile" ] || continue
  make -s -C "$folder" || { printf 'build: make -C %s failed; its output is above\n' "$folder" >&2; exit 1; }
done
