#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm test: install what is missing, then run all tests. Arguments are test files, all when none is given.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test
. scripts/env.sh
exec node scripts/run-tests.ts "$@"
