#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm start: install what is missing, then bring the demo lab up and show it working.
set -eu
cd "$(dirname "$0")/.."
case " $* " in *" --help "*) ;; *) sh scripts/setup.sh run ;; esac
. scripts/env.sh
exec node lab/demo/main.ts "$@"
