#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run bench: interleaved ratios against the rivals. Never part of npm test.
set -eu
cd "$(dirname "$0")/.."
case " $* " in *" --help "*) ;; *) sh scripts/setup.sh bench ;; esac
. scripts/env.sh
exec node bench/main.ts "$@"
