#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# npm run conformance: the Gateway API's own conformance suite against the lab. Never part of npm test: it needs Go and takes minutes.
set -eu
cd "$(dirname "$0")/.."
case " $* " in *" --help "*) ;; *) sh scripts/setup.sh run ;; esac
. scripts/env.sh
exec node test/conformance/main.ts "$@"
