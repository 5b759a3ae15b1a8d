#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run check: format, licence headers, error docs, types, lint, import borders and cycles, dead code and dependencies.
set -u
cd "$(dirname "$0")/.."
[ -x node_modules/.bin/node ] || sh scripts/setup.sh run || exit 1
. scripts/env.sh
failed=0
run() {
  name=$1; shift
  if output=$("$@" 2>&1); then printf 'ok    %s\n' "$name"; else printf 'FAIL  %s\n%s\n' "$name" "$output"; failed=1; fi
}
licences() {
  bare=$(git ls-files '*.ts' '*.c' '*.h' '*.sh' '*.proto' | grep -v '^mesh/proto/gen/' | while read -r file; do
    [ ! -e "$file" ] || head -n 2 "$file" | grep -q 'SPDX-License-Identifier' || echo "$file"; done)
  [ -z "$bare" ] || { printf 'no SPDX-License-Identifier line in:\n%s\n' "$bare"; return 1; }
}

# Lint takes as long as all others together: it has a core to itself.
lint=$(mktemp)
trap 'rm -f "$lint"' EXIT
(run lint eslint .; exit "$failed") >"$lint" & pid=$!
run format biome format .
run licences licences
run error-docs node scripts/generate-error-docs.ts --check
run types tsc -p . --incremental --tsBuildInfoFile node_modules/.cache/types.tsbuildinfo
# What runs in a browser knows a browser's names, and no Node's.
run types-of-pages tsc -p cli/dashboard/page
run imports depcruise --config .dependency-cruiser.cjs agent bench cli controller daemonset lab mesh native scripts test
run dead-code knip --no-progress
# What only tests and benchmarks use is dead, too.
run test-only-code knip --no-progress --production
wait "$pid" || failed=1
cat "$lint"
exit "$failed"
