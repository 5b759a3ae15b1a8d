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
import { policySubscription } from '../../mesh/xds/mesh-subscription.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'

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
