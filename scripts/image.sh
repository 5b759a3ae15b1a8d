#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run image: builds the image of agent, controller, waypoint and command as dist/ambit-VERSION-linux-ARCH.tar, an OCI archive, from
# Debian's packages and npm, without a container engine. `ctr -n k8s.io images import FILE` or `skopeo copy oci-archive:FILE ...` takes it.
# Usage: scripts/image.sh [--arch amd64|arm64] [--output DIR] [--root DIR: the file system alone] [--cache DIR]
set -eu
cd "$(dirname "$0")/.."
for tool in apt-get dpkg-deb tar gzip npm git; do
  command -v "$tool" >/dev/null || { echo "image: $tool is missing: it takes a Debian or Ubuntu with npm and git" >&2; exit 1; }
done
for tool in clang gcc make; do
  command -v "$tool" >/dev/null || { echo "image: $tool is missing: apt-get install clang gcc make libbpf-dev libc6-dev linux-libc-dev" >&2; exit 1; }
done
sh scripts/packages.sh
sh scripts/build.sh
. scripts/env.sh
exec node daemonset/image/main.ts "$@"
