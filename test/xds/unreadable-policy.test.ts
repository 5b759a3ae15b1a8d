// SPDX-License-Identifier: Apache-2.0
// A policy that the control plane sends and nobody can read: it is refused as any resource is, and yet not as if it were not there.

import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { POLICY, type Policy, type PolicyKey } from '../../mesh/model/policy.ts'
import {
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  NodeSchema,
} from '../../mesh/proto/gen/discovery_pb.js'
import { meshSubscription, policySubscription } from '../../mesh/xds/mesh-subscription.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { decodeMeshState, encodeMeshState } from '../../mesh/xds/wire-state.ts'
import { sampleService, sampleWorkload } from '../model/samples.ts'

const KEY = 'shop/only-frontend' as PolicyKey
const POLICY_OF_KEY: Policy = {
  ...POLICY.zero,
  key: KEY,
  namespace: 'shop',
  name: 'only-frontend',
  scope: 'workload',
}

function response(
  payloads: readonly Uint8Array[],
  removedResources: string[] = [],
): DeltaDiscoveryResponse {
  return create(DeltaDiscoveryResponseSchema, {
    typeUrl: AUTHORIZATION.typeUrl,
    nonce: 'n',
    resources: payloads.map((value) => ({
      name: KEY,
      version: 'v1',
      resource: { typeUrl: AUTHORIZATION.typeUrl, value },
    })),
    removedResources,
  })
}

const GARBAGE = Uint8Array.of(0xff, 0xff, 0xff)
const node = create(NodeSchema, {})

void t.test('it is known that it is there, refused, and asked for again', (t) => {
  const mesh = new MeshState()
  const subscription = policySubscription((changes) => mesh.apply(changes))
  subscription.handle(response([AUTHORIZATION.encode(POLICY_OF_KEY)]))
  t.match(mesh.policies.get(KEY), { scope: 'workload' })
  t.strictSame(subscription.openingRequest(node).initialResourceVersions, { [KEY]: 'v1' })

  const { reply, problems } = subscription.handle(response([GARBAGE]))
  t.match(problems, [{ resource: KEY }])
  t.match(reply.errorDetail?.message, /Cannot use resource shop\/only-frontend/)
  t.equal(mesh.policies.get(KEY), undefined, 'what it said before is out of date')
  t.match(mesh.policies.unreadable(KEY), { scope: 'workload', reason: /\w/ })
  // The server compares: a version that it never gave is resent, or the removal is told.
  t.strictSame(subscription.openingRequest(node).initialResourceVersions, { [KEY]: '' })

  subscription.handle(response([AUTHORIZATION.encode(POLICY_OF_KEY)]))
  t.match(mesh.policies.get(KEY), { scope: 'workload' })
  t.equal(mesh.policies.unreadable(KEY), undefined)
  t.end()
})

void t.test('one that is taken away is no more', (t) => {
  const mesh = new MeshState()
  const subscription = policySubscription((changes) => mesh.apply(changes))
  subscription.handle(response([GARBAGE]))
  t.ok(mesh.policies.unreadable(KEY))
  subscription.handle(response([], [KEY]))
  t.equal(mesh.policies.unreadable(KEY), undefined)
  t.strictSame(subscription.openingRequest(node).initialResourceVersions, {})
  t.end()
})

void t.test(
  'what policies a workload names is not known when what came of it cannot be read',
  (t) => {
    const mesh = new MeshState()
    const web = sampleWorkload('web', { authorizationPolicies: [KEY] })
    const shop = sampleService('shop')
    const subscription = meshSubscription((changes) => mesh.apply(changes))
    const told = (resources: readonly (readonly [string, Uint8Array])[], removed: string[] = []) =>
      subscription.handle(
        create(DeltaDiscoveryResponseSchema, {
          typeUrl: ADDRESS.typeUrl,
          nonce: 'n',
          resources: resources.map(([name, value]) => ({
            name,
            version: 'v1',
            resource: { typeUrl: ADDRESS.typeUrl, value },
          })),
          removedResources: removed,
        }),
      )
    const webBytes = ADDRESS.encode({ kind: 'workload', workload: web })
    told([
      [web.uid, webBytes],
      [shop.key, ADDRESS.encode({ kind: 'service', service: shop })],
    ])
    told([
      [web.uid, GARBAGE],
      [shop.key, GARBAGE],
    ])
    t.match(mesh.unreadableWorkload(web.uid), /^resource: is not an Address message/)
    t.strictSame(mesh.workload(web.uid), web, 'peers reach it as before')
    t.ok(mesh.service(shop.key), 'and so they do the Service')
    // Whoever copies the state (a worker, a file for `ambit why`) copies this, too.
    const copy = new MeshState()
    const decoded = decodeMeshState(encodeMeshState(mesh))
    copy.apply(decoded.ok ? decoded.value : [])
    t.strictSame([...copy.unreadableWorkloads()], [...mesh.unreadableWorkloads()])
    t.equal([...copy.unreadableWorkloads()].length, 1)

    told([[web.uid, webBytes]])
    t.equal(mesh.unreadableWorkload(web.uid), undefined)
    told([[web.uid, GARBAGE]])
    told([], [web.uid])
    t.equal(mesh.unreadableWorkload(web.uid), undefined)
    t.end()
  },
)
