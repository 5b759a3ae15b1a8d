// SPDX-License-Identifier: Apache-2.0
// Writes daemonset/install.yaml from the chart beside it. test/chart/install-manifest.test.ts fails when it is stale.

import { writeFileSync } from 'node:fs'
import { installManifest } from '../daemonset/render/install-manifest.ts'

writeFileSync(new URL('../daemonset/install.yaml', import.meta.url), await installManifest())
