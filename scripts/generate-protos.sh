#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes mesh/proto/gen (JavaScript and .d.ts) from mesh/proto/*.proto. The generators come by npx, in a
# temporary copy: the product itself needs only the generated files, which are committed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$root"/mesh/proto/*.proto "$work"/
cd "$work"
cat > buf.gen.yaml <<'YAML'
version: v2
plugins:
  - local: protoc-gen-es
    out: gen
    opt: [target=js+dts, import_extension=js]
YAML
echo 'version: v2' > buf.yaml
npx --yes -p @bufbuild/buf@1 -p @bufbuild/protoc-gen-es@2 buf generate
rm -rf "$root/mesh/proto/gen"
cp -R gen "$root/mesh/proto/gen"
