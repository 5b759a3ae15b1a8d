// SPDX-License-Identifier: Apache-2.0
// To which pods a waypoint says for whom it calls: to those whose agents believe it of this waypoint.

import t from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { GatewayAddress, ServiceKey, Workload } from '../../mesh/model/types.ts'
import { isBoundPod, upstreamHeaders } from '../../waypoint/upstream/tunnel-headers.ts'
import { testIdentity } from '../hbone/certs.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { OWN_WAYPOINT } from './world.ts'

const isOwn = (waypoint: GatewayAddress | undefined): boolean => waypoint === OWN_WAYPOINT
const service = sampleService('catalog', { waypoint: OWN_WAYPOINT })
const unbound = sampleService('archive')
const trap = sampleService('trap', { namespace: 'evil', waypoint: OWN_WAYPOINT })
const mesh = new MeshState()
mesh.apply([service, unbound, trap].map((each) => ({ kind: 'service', service: each })))

const of = (key: ServiceKey): Workload['services'] => new Map([[key, []]])
const isBound = (pod: Partial<Workload>): boolean =>
  isBoundPod(mesh, sampleWorkload('v1', { services: new Map(), ...pod }), isOwn)

void t.test('a pod is bound itself, or by a Service of its own namespace', (t) => {
  t.ok(isBound({ waypoint: OWN_WAYPOINT }))
  t.ok(isBound({ services: of(service.key) }))
  t.ok(isBound({ leaving: of(service.key) }), 'one that leaves, too')
  t.notOk(isBound({}))
  t.notOk(isBound({ services: of(unbound.key) }), 'routes may lead on to it')
  t.notOk(isBound({ services: of(trap.key) }), 'anybody may list its address')
  t.notOk(isBound({ services: of('shop/gone' as ServiceKey) }))
  t.end()
})

void t.test('only of what is bound the waypoint says for whom it calls', (t) => {
  const source = {
    address: { address: ip('10.244.0.9'), port: 4711 },
    identity: testIdentity('client'),
    workload: undefined,
  }
  const said = (isBound: boolean): string | undefined =>
    upstreamHeaders(source, { service, isBound }).originalClient
  t.equal(said(true), `${testIdentity('client')};10.244.0.9`)
  t.equal(said(false), undefined)
  t.match(
    upstreamHeaders(source, { service, isBound: false }).forwarded,
    /10\.244\.0\.9/,
    'for people it is told all the same',
  )
  t.end()
})
