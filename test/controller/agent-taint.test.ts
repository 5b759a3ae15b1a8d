// SPDX-License-Identifier: Apache-2.0
// Given nodes with a taint that keeps pods off until their agent is ready, when it is, then the controller takes off that taint, and
// nothing else.

import t from 'tap'
import { NODES, PODS } from '../../mesh/kube/index.ts'
import { until } from '../support/until.ts'
import { expectOk, smallCluster } from './small-cluster.ts'

const TAINT = 'ambit.io/agent-not-ready'
const taint = (key: string) => ({ key, effect: 'NoSchedule' })

void t.test('a node takes pods when its agent is ready, and not before', async (t) => {
  const cluster = await smallCluster(t)
  const { admin } = cluster
  const taints = [taint(TAINT), taint('mine/other'), { key: TAINT, effect: 'NoExecute' }]
  for (const name of ['node-a', 'node-b'])
    expectOk(await admin.patch(NODES, { name }, { spec: { taints } }))
  const keys = async (name: string): Promise<readonly string[]> =>
    (expectOk(await admin.get(NODES, { name })).spec?.taints ?? []).map(({ key }) => key)
  const ready = async (namespace: string, name: string): Promise<void> => {
    const status = { conditions: [{ type: 'Ready', status: 'True' }] }
    const target = { namespace, name }
    expectOk(await admin.patch(PODS, target, { status }, { subresource: 'status' }))
  }
  await cluster.pod('ambit-system', 'agent-a', 'ambit-agent', 'node-a')
  // An account of the same name in another namespace is nobody's agent.
  await cluster.pod('shop', 'agent-b', 'ambit-agent', 'node-b')
  await ready('shop', 'agent-b')
  await cluster.controller({ agentTaint: TAINT })
  await ready('ambit-system', 'agent-a')
  await until(async () => !(await keys('node-a')).includes(TAINT), 'an open node')
  t.same(await keys('node-a'), ['mine/other'], 'what somebody else has put there stays')
  t.same(await keys('node-b'), [TAINT, 'mine/other', TAINT], 'its agent is not ready')

  await cluster.pod('ambit-system', 'agent-c', 'ambit-agent', 'node-b')
  await ready('ambit-system', 'agent-c')
  await until(async () => !(await keys('node-b')).includes(TAINT), 'the other open node')
  // A node that is made anew has it again.
  expectOk(await admin.patch(NODES, { name: 'node-b' }, { spec: { taints: [taint(TAINT)] } }))
  await until(async () => (await keys('node-b')).length === 0, 'the node that came again')
})
