// SPDX-License-Identifier: Apache-2.0
// Endpoints that swallow connections, as those of a node without power do, and requests that wait for less than a connection does.

import t, { type Test } from 'tap'
import { Cut } from '../../mesh/async/cut.ts'
import { EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { err } from '../../mesh/result.ts'
import type { Dial } from '../../waypoint/upstream/dial.ts'
import { type UpstreamCall, Upstreams } from '../../waypoint/upstream/upstreams.ts'
import { testIdentity } from '../hbone/certs.ts'
import { ip, sampleService, sampleWorkload, serviceKey } from '../model/samples.ts'

const KEY = serviceKey('shop', 'catalog')
const CALL: UpstreamCall = {
  backend: { kind: 'service', service: KEY, port: 80 },
  source: { address: undefined, identity: undefined, workload: undefined },
  target: { address: ip('10.96.0.50'), port: 80 },
  spoken: 'http/1.1',
}
const GIVEN_UP = err({ reason: 'clientReset', message: 'given up' } as const)

/** A call to one endpoint of two, which does not answer: given up after so long, for such a reason. Says whether the endpoint is ejected. */
async function giveUp(t: Test, afterMs: number, reason: EndReason): Promise<boolean> {
  let now = 0
  const mesh = new MeshState()
  const ports = [
    { servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' } as const,
  ]
  const workloads = [1, 2].map((number) =>
    sampleWorkload(`v${number}`, {
      addresses: [ip(`10.244.1.${number}`)],
      tunnelProtocol: 'none',
      services: new Map([[KEY, ports]]),
    }),
  )
  mesh.apply([
    {
      kind: 'service',
      service: sampleService('catalog', {
        ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1' }],
      }),
    },
    ...workloads.map((workload) => ({ kind: 'workload', workload }) as const),
  ])
  const never: Dial = (_destination, _how, signal) =>
    new Promise((resolve) => signal.addEventListener('abort', () => resolve(GIVEN_UP)))
  const experience = new EndpointExperience(
    mesh,
    { ejected: () => undefined, recovered: () => undefined },
    () => now,
  )
  const upstreams = new Upstreams({
    mesh,
    network: '',
    pool: { open: () => Promise.reject(new Error('none of them is in the mesh')) },
    dial: never,
    identity: testIdentity('way'),
    experience,
    isOwn: () => true,
    now: () => now,
  })
  const cut = new Cut()
  const chosen = upstreams.choose(CALL, undefined)
  const opening = upstreams.open(CALL, cut, chosen)
  now = afterMs
  cut.abort(reason)
  t.match(await opening, { ok: false })
  const tried = chosen.ok ? chosen.value.workload.uid : workloads[0]?.uid
  t.equal(tried === undefined ? 1 : experience.openTo(tried), 0, 'nothing is left of it')
  return workloads.some(({ uid }) => experience.isEjected(uid, 8080))
}

void t.test('one that lets a request wait in vain is left alone for a while', async (t) => {
  t.equal(await giveUp(t, 1_000, 'connectTimeout'), true)
})

void t.test(
  'it says nothing of an endpoint that a client is gone, or has no patience',
  async (t) => {
    t.equal(await giveUp(t, 1_000, 'clientReset'), false)
    t.equal(
      await giveUp(t, 50, 'connectTimeout'),
      false,
      'a route with less time than a handshake takes',
    )
  },
)
