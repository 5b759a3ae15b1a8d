// SPDX-License-Identifier: Apache-2.0
// `npm run cluster`: what is no choice is refused before anything is made.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const PROGRAM = fileURLToPath(new URL('../../lab/real/main.ts', import.meta.url))

const REFUSALS: readonly (readonly [args: readonly string[], reason: RegExp])[] = [
  [['up', '--kubernetes', '1.30'], /--kubernetes=1\.30 is no version vX\.Y\.Z/],
  [['build', '--kubernetes=v1.30.14/..'], /is no version vX\.Y\.Z/],
  [['up', '--network', 'calico'], /--network=calico is none of bridge, kube-router/],
  [['up', '--addresses=ipv5'], /--addresses=ipv5 is none of ipv4, ipv6, dual/],
  [['up', '--network=kube-router', '--addresses=dual'], /with --addresses=ipv4 alone/],
  [['up', '--nodes=3'], /'--nodes'/],
  [['up', 'v1.30.14'], /Unexpected argument 'v1\.30\.14'/],
]

for (const [args, reason] of REFUSALS)
  await t.test(`refused: ${args.join(' ')}`, (t) => {
    const { status, stderr, stdout } = spawnSync(process.execPath, [PROGRAM, ...args], {
      encoding: 'utf8',
    })
    t.equal(status, 1)
    t.match(stderr, reason)
    t.equal(stdout, '', 'nothing was begun')
    t.end()
  })
