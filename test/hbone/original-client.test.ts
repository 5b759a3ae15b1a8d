// SPDX-License-Identifier: Apache-2.0
// How a waypoint names the client it calls for: what is written is read, and nothing else is.

import t from 'tap'
import { formatOriginalClient, parseOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { testIdentity } from './certs.ts'
import { makeWorld } from './harness.ts'

const identity = testIdentity('web')

await t.test('parseOriginalClient() reads what formatOriginalClient() writes', (t) => {
  for (const address of ['10.1.2.3', 'fd00::7'] as IpAddress[]) {
    for (const client of [
      { identity, address },
      { identity: undefined, address },
    ])
      t.strictSame(parseOriginalClient(formatOriginalClient(client)), client)
  }
  t.end()
})

await t.test('parseOriginalClient() takes nothing that is not exactly of the form', (t) => {
  for (const value of [
    '',
    ';',
    identity,
    `${identity};`,
    `10.1.2.3`,
    ` ;10.1.2.3`,
    `;;10.1.2.3`,
    `${identity};10.1.2.3;`,
    `${identity};10.1.2.3:80`,
    `${identity}; 10.1.2.3`,
    `${identity}/x;10.1.2.3`,
    `spiffe://cluster.local/ns/shop;10.1.2.3`,
    `${identity};fe80::1%eth0`,
    `${identity};${' '.repeat(2_000)}10.1.2.3`,
  ])
    t.equal(parseOriginalClient(value), undefined, JSON.stringify(value.slice(0, 80)))
  t.end()
})

await t.test('the field travels with the CONNECT', async (t) => {
  const seen: unknown[] = []
  const { pool, target } = await makeWorld(t, {
    onTunnel: (incoming) => {
      seen.push(incoming.headers.originalClient)
      incoming.reject(503)
    },
  })
  const originalClient = formatOriginalClient({ identity, address: '10.1.2.3' as IpAddress })
  await pool.open(target, '10.0.0.1:80', { originalClient }, AbortSignal.timeout(5_000))
  t.strictSame(seen, [originalClient])
})
