// SPDX-License-Identifier: Apache-2.0
// `ambit features`: the names that the Gateway API and its conformance suite have for what the mesh does.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

const features = (...words: readonly string[]): string =>
  spawnSync(process.execPath, [MAIN, 'features', ...words], { encoding: 'utf8' }).stdout

void t.test('features are printed one a line, and as data, sorted', (t) => {
  const names = features().trimEnd().split('\n')
  for (const name of ['Mesh', 'HTTPRoute', 'GRPCRoute', 'MeshConsumerRoute'])
    t.ok(names.includes(name))
  t.strictSame(names, [...new Set(names)].sort(), 'the Gateway API lists them in this order')
  t.strictSame(JSON.parse(features('-o', 'json')), names)
  t.end()
})
