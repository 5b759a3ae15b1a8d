// SPDX-License-Identifier: Apache-2.0
// The kinds of policies as the mesh defines them where a cluster has none: what a server refuses, by rules between fields (CEL) too, and
// how large a policy may be.

import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import type { KubeInput } from '../../lab/kubernetes/objects/stored-object.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { type ClusterUnderTest, contract } from './cluster.ts'

const GROUP = 'security.istio.io'

async function installKinds({ kubeconfig }: ClusterUnderTest): Promise<void> {
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const api = createKubeApi(access.value)
  await applyManifests(api, await absentKinds(api))
}

function policy(kind: string, name: string, spec: object): KubeInput {
  return { apiVersion: `${GROUP}/v1`, kind, metadata: { name }, spec }
}

const authorization = (spec: object): KubeInput => policy('AuthorizationPolicy', 'some', spec)
const peer = (spec: object): KubeInput => policy('PeerAuthentication', 'some', spec)

const selector = { matchLabels: { app: 'web' } }
const targetRefs = [{ group: '', kind: 'Service', name: 'web' }]

contract(
  'policies are refused where a field or fields together make no sense, by name',
  { nodes: 0 },
  async (t, cluster) => {
    await installKinds(cluster)
    const misspelt: readonly (readonly [string, KubeInput, RegExp])[] = [
      [
        'authorizationpolicies',
        authorization({ action: 'FORBID' }),
        /spec\.action: Unsupported value: "FORBID"/,
      ],
      [
        'peerauthentications',
        peer({ mtls: { mode: 'MUST' } }),
        /spec\.mtls\.mode: Unsupported value: "MUST"/,
      ],
    ]
    const contradicting: typeof misspelt = [
      [
        'authorizationpolicies',
        authorization({ selector, targetRefs }),
        /one of selector and targetRefs can be set/,
      ],
      [
        'peerauthentications',
        peer({ portLevelMtls: { '8080': { mode: 'STRICT' } } }),
        /portLevelMtls needs a selector/,
      ],
    ]
    // The lab's own server knows no CEL: there the controller's own reading of a policy finds such contradictions.
    for (const [plural, object, message] of [
      ...misspelt,
      ...(cluster.kind === 'real' ? contradicting : []),
    ]) {
      const answer = await cluster.api.create(`${plural}.${GROUP}`, 'default', object)
      t.match(answer, { ok: false, error: { message } }, JSON.stringify(object.spec))
    }
  },
)

const principal = (index: number): string =>
  `cluster.local/ns/namespace-${index}/sa/account-${index}`

/** A policy of about so many bytes. */
function large(bytes: number, name: string): KubeInput {
  const count = Math.floor(bytes / principal(10_000).length)
  const principals = Array.from({ length: count }, (_, index) => principal(index))
  const rules = [{ from: [{ source: { principals } }] }]
  return policy('AuthorizationPolicy', name, { selector, action: 'ALLOW', rules })
}

contract(
  'a policy of a megabyte is taken; one of ten is refused before it is stored',
  { nodes: 0 },
  async (t, cluster) => {
    await installKinds(cluster)
    const resource = `authorizationpolicies.${GROUP}`
    const taken = await cluster.api.create(resource, 'default', large(1_000_000, 'large'))
    t.match(taken, { ok: true })
    const refused = await cluster.api.create(resource, 'default', large(10_000_000, 'monstrous'))
    t.match(refused, { ok: false })
    const left = await cluster.api.list(resource, { namespace: 'default' })
    if (!left.ok) throw new Error(left.error.message)
    t.strictSame(
      left.value.map((object) => object.metadata.name),
      ['large'],
    )
  },
)
