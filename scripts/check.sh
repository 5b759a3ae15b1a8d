#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run check: format, lint, types, import borders and cycles, dead exports, licence headers.
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
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier' || echo "$file"; done)
  [ -z "$bare" ] || { printf 'no SPDX-License-Identifier line in:\n%s\n' "$bare"; return 1; }
}
run format biome format .
run licences licences
run error-docs node scripts/generate-error-docs.ts --check
run types tsc -p .
run lint eslint .
run imports depcruise --config .dependency-cruiser.cjs agent bench cli controller lab mesh native test
run dead-exports knip --include files,exports,types --no-progress
exit $failed
