#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the packages of package-lock.json, Node among them, where that has not been done yet. By whatever npm there is: of any version, run
# by any Node.
set -eu
cd "$(dirname "$0")/.."

# npm writes .package-lock.json when an installation is complete.
[ ! -x node_modules/.bin/node ] || [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ] || exit 0

# npm puts our own Node first for the scripts it runs, but a distribution's npm (Ubuntu's) finds its parts only by the
# distribution's Node, and must not run on the Node it replaces.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v 'node_modules/\.bin$' | paste -sd: -)
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
# npm 9 and older (Debian 12's), when they drop the Node of the other architecture, drop the link to ours with it.
for node in node_modules/node-linux-*/bin/node; do
  if [ ! -x node_modules/.bin/node ] && [ -x "$node" ]; then ln -sf "../${node#node_modules/}" node_modules/.bin/node; fi
done
# npx looks here first; without it, it would ask to install this package into its cache.
ln -sf ../../cli/bin/ambit node_modules/.bin/ambit
[ -x node_modules/.bin/node ] || { echo "npm brought no Node for $(uname -m): x86_64 and aarch64 are supported" >&2; exit 1; }
