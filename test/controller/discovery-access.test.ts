// SPDX-License-Identifier: Apache-2.0
// Who may read the mesh and have certificates of a node's pods: an agent in its pod, and nobody who merely holds a token of
// the agents' account.

import t from 'tap'
import { visibleTo } from '../../controller/serve/visibility.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { follow } from './follow.ts'
import { smallCluster } from './small-cluster.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog'

void t.test(
  'a token of the agents that is bound to no pod gets neither mesh nor identity',
  async (t) => {
    const cluster = await smallCluster(t)
    const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
    await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
    const controller = await cluster.controller()
    const unbound = await cluster.server.api.createToken({
      namespace: 'ambit-system',
      serviceAccount: 'ambit-agent',
      audiences: ['istio-ca'],
    })
    if (!unbound.ok) throw new Error(unbound.error.message)
    const token = cluster.file(unbound.value.token)
    const refused = follow(t, cluster, controller, token)
    t.match(
      await refused.refused,
      /PERMISSION_DENIED: the token of ambit-system\/ambit-agent must be bound to a pod/,
    )
    t.strictSame(refused.changes, [])
    t.match(await cluster.ask(controller, token, CATALOG), {
      ok: false,
      error: { kind: 'denied', message: /must be bound to a pod/ },
    })
    const bound = follow(t, cluster, controller, await cluster.tokenFile(agent))
    await bound.synced
    t.ok(bound.changes.length > 0, 'the agent in its pod is let in')
  },
)

void t.test('a type that nobody thought of is nobody’s', async (t) => {
  const agent = { name: 'ambit-system/agent-b', role: 'agent', node: 'node-b' } as const
  t.ok(visibleTo(ADDRESS)(agent))
  t.ok(visibleTo(AUTHORIZATION)(agent))
  t.notOk(visibleTo({ typeUrl: 'type.test/new' })(agent))
})
