// SPDX-License-Identifier: Apache-2.0
// Whose call a tunnel brings, as a table.

import t from 'tap'
import { formatOriginalClient } from '../../mesh/telemetry/original-client.ts'
import { trustPolicy } from '../../mesh/identity/trust-policy.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { callerOf } from '../../waypoint/listener/caller-of.ts'
import { testIdentity } from '../hbone/certs.ts'
import { ip, sampleWorkload } from '../model/samples.ts'

const CLIENT = sampleWorkload('client', {
  addresses: [ip('10.244.1.1')],
  serviceAccount: 'client',
})
const CALLED = sampleWorkload('called', {
  addresses: [ip('10.244.1.2')],
  serviceAccount: 'called',
})
const mesh = new MeshState()
mesh.apply([CLIENT, CALLED].map((workload) => ({ kind: 'workload', workload }) as const))
const world = { mesh, trust: trustPolicy({ trustDomain: 'cluster.local', aliases: [] }) }

const client = { address: ip('10.244.1.1'), port: 4321 }
const pod = { address: ip('10.244.1.2'), port: 999 }
const ofClient = formatOriginalClient({
  identity: testIdentity('client'),
  address: client.address,
})
const stranger = formatOriginalClient({ identity: undefined, address: ip('192.0.2.7') })

void t.test('whoever calls is who TLS proves it to be, whatever it says of others', (t) => {
  const arrived = { peer: client, peerIdentity: testIdentity('client') }
  const expected = {
    ok: true,
    value: { address: client, identity: testIdentity('client'), workload: CLIENT },
  }
  for (const headers of [{}, { originalClient: stranger }])
    for (const called of [undefined, CALLED])
      t.match(callerOf(world, { ...arrived, headers }, called), expected)
  const other = {
    peer: pod,
    peerIdentity: testIdentity('client'),
    headers: { originalClient: stranger },
  }
  t.strictSame(
    callerOf(world, other, CALLED),
    { ok: true, value: { address: pod, identity: testIdentity('client'), workload: undefined } },
    'an identity at the address of another pod is not that pod',
  )
  t.end()
})

void t.test('the pod that is called says whose call it leads back', (t) => {
  const peerIdentity = testIdentity('called')
  const led = (originalClient: string, forwarded?: string) =>
    callerOf(
      world,
      {
        peer: pod,
        peerIdentity,
        headers: { originalClient, ...(forwarded !== undefined && { forwarded }) },
      },
      CALLED,
    )
  t.strictSame(led(ofClient, 'for="10.244.1.1:4321"'), {
    ok: true,
    value: { address: client, identity: testIdentity('client'), workload: CLIENT },
  })
  t.strictSame(led(stranger), {
    ok: true,
    value: { address: { address: '192.0.2.7', port: 0 }, identity: undefined, workload: undefined },
  })
  t.match(led('nonsense'), { ok: false, error: /does not say for whom/ })
  t.match(
    callerOf(world, { peer: pod, peerIdentity, headers: { originalClient: ofClient } }, undefined),
    { value: { identity: peerIdentity } },
    'not where it calls something else',
  )
  t.match(callerOf(world, { peer: pod, peerIdentity, headers: {} }, CALLED), {
    value: { identity: peerIdentity },
  })
  t.end()
})
