# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: our own Node and tools come first on PATH.
PATH="$PWD/node_modules/.bin:$PWD/node_modules/.ambit-tools:$PATH:/usr/sbin:/sbin"
export PATH
# tap's own clock of a whole file, 30 s, is about nothing: what a test waits for has a deadline of its own.
TAP_TIMEOUT=${TAP_TIMEOUT:-300}
export TAP_TIMEOUT
