# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: our own Node and tools come first on PATH.
PATH="$PWD/node_modules/.bin:$PWD/node_modules/.ambit-tools:$PATH:/usr/sbin:/sbin"
export PATH
