// SPDX-License-Identifier: Apache-2.0
// Routes that a waypoint cannot read: requests must not go where no route would send them, and good routes go on.

import { create } from '@bufbuild/protobuf'
import t from 'tap'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import {
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../mesh/proto/gen/discovery_pb.js'
import { httpRoutesSubscription } from '../../mesh/xds/mesh-subscription.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { serviceKey } from '../model/samples.ts'

const CATALOG = serviceKey('shop', 'catalog')
const KEY = `${CATALOG}:80`
const PLACE = { key: KEY, service: CATALOG, port: 80, clients: undefined }
const ROUTES: HttpRoutes = { ...PLACE, rules: [], connections: [] }
const GARBAGE = Uint8Array.of(0xff, 0xff, 0xff)

function response(value: Uint8Array | undefined): DeltaDiscoveryResponse {
  const resource = { typeUrl: HTTP_ROUTES.typeUrl, value: value ?? GARBAGE }
  return create(DeltaDiscoveryResponseSchema, {
    typeUrl: HTTP_ROUTES.typeUrl,
    resources: value === undefined ? [] : [{ name: KEY, version: 'v1', resource }],
    removedResources: value === undefined ? [KEY] : [],
  })
}

void t.test('what was read before goes on', (t) => {
  const mesh = new MeshState()
  const subscription = httpRoutesSubscription((changes) => mesh.apply(changes))
  subscription.handle(response(HTTP_ROUTES.encode(ROUTES)))
  t.match(subscription.handle(response(GARBAGE)).problems, [{ resource: KEY }])
  t.strictSame(mesh.httpRoutes.find(CATALOG, 80, undefined)?.rules, [])
  t.end()
})

void t.test('where nothing was read before, all requests are answered with an error', (t) => {
  const mesh = new MeshState()
  const subscription = httpRoutesSubscription((changes) => mesh.apply(changes))
  subscription.handle(response(GARBAGE))
  t.match(mesh.httpRoutes.find(CATALOG, 80, undefined), {
    service: CATALOG,
    port: 80,
    rules: [{ fault: /cannot be read/, matches: [{ path: { kind: 'prefix', value: '/' } }] }],
  })
  t.equal(
    mesh.httpRoutes.find(CATALOG, 81, undefined),
    undefined,
    'other ports are none of its business',
  )
  subscription.handle(response(HTTP_ROUTES.encode(ROUTES)))
  t.strictSame(mesh.httpRoutes.find(CATALOG, 80, undefined)?.rules, [])
  subscription.handle(response(undefined))
  t.equal(mesh.httpRoutes.find(CATALOG, 80, undefined), undefined)
  t.end()
})
