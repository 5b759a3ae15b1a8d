#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds Helm with Go, once, outside the tree, and prints where it is: the second judge of daemonset/chart (test/chart/helm.test.ts).
# It takes some minutes the first time. Nothing else needs it: `ambit install` renders the chart by itself.
set -eu
version=v3.22.0
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ambit/helm-$version
helm=$cache/helm
if [ ! -x "$helm" ]; then
  command -v go >/dev/null || { echo 'helm: Go is missing: install it, or put helm on PATH' >&2; exit 1; }
  echo "helm: building $version with Go" >&2
  mkdir -p "$cache/module"
  cd "$cache/module"
  [ -e go.mod ] || go mod init ambit.dev/helm >/dev/null 2>&1
  go get "helm.sh/helm/v3/cmd/helm@$version" >/dev/null 2>&1 || { echo 'helm: its modules cannot be had' >&2; exit 1; }
  # Beside it first: a build that is cut off leaves no half of a program.
  go build -p 2 -o "$helm.new" helm.sh/helm/v3/cmd/helm
  mv "$helm.new" "$helm"
fi
echo "$helm"
