#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run cluster: install what is missing, then bring a real Kubernetes up on this machine, or what else is asked of it.
set -eu
cd "$(dirname "$0")/.."
case " $* " in
  *" --help "*) ;;
  *[\ =]"kube-router "*) sh scripts/setup.sh run kube-router ;;
  *) sh scripts/setup.sh run ;;
esac
. scripts/env.sh
exec node lab/real/main.ts "$@"
