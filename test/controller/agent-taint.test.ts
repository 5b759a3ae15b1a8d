// SPDX-License-Identifier: Apache-2.0
// Given nodes with a taint that keeps pods off until their agent is ready, when it is, then the controller takes off that taint, and
// nothing else.

import { pino } from 'pino'
import t from 'tap'
import { readNode } from '../../controller/core/node.ts'
import { objectKey, podKey } from '../../controller/core/origin.ts'
import { readPod } from '../../controller/core/pod.ts'
import { removeAgentTaint } from '../../controller/nodes/agent-taint.ts'
import { Graph } from '../../mesh/collections/index.ts'
import { createKubeApi, type Node, NODES, type Pod, PODS } from '../../mesh/kube/index.ts'
import { FaultyApi } from '../support/faulty-api.ts'

const TAINT = 'ambit.io/agent-not-ready'
const ORIGIN = { cluster: 'Kubernetes', clusterDomain: 'cluster.local' }
const taint = (key: string) => ({ key, effect: 'NoSchedule' })
const node = (name: string): Node => ({
  metadata: { name },
  spec: { taints: [taint(TAINT), taint('mine/other'), { key: TAINT, effect: 'NoExecute' }] },
})

void t.test('a node takes pods when its agent is ready, and not before', async (t) => {
  const stub = new FaultyApi()
  await stub.start()
  const graph = new Graph({
    onFault: ({ error }) => {
      throw error
    },
  })
  const nodes = graph.source<
    ReturnType<typeof objectKey>,
    NonNullable<ReturnType<typeof readNode>['facts']>
  >('nodes')
  const pods = graph.source<
    ReturnType<typeof podKey>,
    NonNullable<ReturnType<typeof readPod>['facts']>
  >('pods')
  for (const name of ['node-a', 'node-b']) {
    stub.put(NODES, node(name))
    const { facts } = readNode(node(name), ORIGIN)
    if (facts !== undefined) nodes.set(objectKey('Kubernetes', '', name), facts)
  }
  nodes.complete()
  pods.complete()
  const agent = (
    namespace: string,
    name: string,
    nodeName: string,
    status: string,
    isChained = 'True',
  ): void => {
    const chained = { type: 'ambit.io/cni-chained', status: isChained, message: 'no list' }
    const pod = {
      metadata: { namespace, name },
      spec: { nodeName, serviceAccountName: 'ambit-agent', containers: [] },
      status: { conditions: [{ type: 'Ready', status }, chained] },
    } as Pod
    stub.put(PODS, pod)
    const { facts } = readPod(pod, ORIGIN)
    if (facts !== undefined) pods.set(podKey('Kubernetes', namespace, name), facts)
  }
  const logged: string[] = []
  const ending = new AbortController()
  const removing = removeAgentTaint(createKubeApi(stub.access()), {
    key: TAINT,
    nodes,
    pods,
    agents: new Set(['ambit-system/ambit-agent']),
    cluster: 'Kubernetes',
    log: pino({}, { write: (line: string) => void logged.push(line) }),
    signal: ending.signal,
  })
  t.teardown(async () => {
    ending.abort()
    await removing
    await stub.stop()
  })
  const keys = (name: string): readonly string[] => {
    const { spec } = stub.get(NODES, name) ?? {}
    return (spec?.taints ?? []).map(({ key }) => key)
  }
  // An account of the same name in another namespace is nobody's agent.
  agent('shop', 'agent-x', 'node-b', 'True')
  agent('ambit-system', 'agent-b', 'node-b', 'False')
  agent('ambit-system', 'agent-a', 'node-a', 'True')
  await stub.until(() => !keys('node-a').includes(TAINT), 'an open node')
  t.same(keys('node-a'), ['mine/other'], 'what somebody else has put there stays')
  t.same(keys('node-b'), [TAINT, 'mine/other', TAINT], 'its agent is not ready')
  agent('ambit-system', 'agent-b', 'node-b', 'True', 'False')
  await stub.until(() => logged.some((line) => line.includes('no list')), 'a word of why')
  t.same(keys('node-b'), [TAINT, 'mine/other', TAINT], 'pods would start there without the plugin')
  agent('ambit-system', 'agent-b', 'node-b', 'True')
  await stub.until(() => !keys('node-b').includes(TAINT), 'the other open node')
})
