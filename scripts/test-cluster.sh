#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run test:cluster: the stories of test/cluster on the cluster of KUBECONFIG, else on this machine's, which is brought up where it is
# not and then taken away again. Arguments are stories, all when none is given.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh test
. scripts/env.sh
[ $# -gt 0 ] || set -- test/cluster/*.story.ts
if [ -z "${KUBECONFIG:-}" ] && ! [ -e "$(node lab/real/main.ts kubeconfig)" ]; then
  trap 'node lab/real/main.ts down' EXIT
  node lab/real/main.ts up
fi
node scripts/run-tests.ts "$@"
