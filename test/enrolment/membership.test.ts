// SPDX-License-Identifier: Apache-2.0
// Which namespaces the CNI plugin is told to keep closed while the agent is away.

import t from 'tap'
import { meshNamespaces, type MembershipSources } from '../../agent/enrolment/membership.ts'
import { sampleWorkload } from '../model/samples.ts'

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' }

const told = (sources: Partial<MembershipSources>): readonly string[] =>
  meshNamespaces({
    namespaces: [],
    pods: [],
    workloads: [],
    clusterId: 'Kubernetes',
    excludeNamespaces: ['kube-system'],
    ...sources,
  })

void t.test('labelled namespaces, and no others', (t) => {
  const namespace = (name: string, labels?: Record<string, string>): object => ({
    metadata: { name, ...(labels && { labels }) },
  })
  t.same(
    told({
      namespaces: [
        namespace('shop', AMBIENT),
        namespace('bare'),
        namespace('out', { 'istio.io/dataplane-mode': 'none' }),
        namespace('kube-system', AMBIENT),
        namespace('a', AMBIENT),
      ],
    }),
    ['a', 'shop'],
  )
  t.end()
})

void t.test("those of another mesh are not kept closed for this one's sake", (t) => {
  const namespace = (name: string, labels: Record<string, string>): object => ({
    metadata: { name, labels: { ...AMBIENT, ...labels } },
  })
  t.same(
    told({
      namespaces: [namespace('shop', { mesh: 'ours' }), namespace('theirs', {})],
      // Its pods speak HBONE by the other mesh's agents.
      workloads: [sampleWorkload('theirs-web', { namespace: 'theirs', tunnelProtocol: 'hbone' })],
      selectsNamespace: ({ mesh }) => mesh === 'ours',
    }),
    ['shop'],
  )
  t.end()
})

void t.test('those where a pod of this node asks for the mesh by itself', (t) => {
  const pod = (namespace: string, labels: Record<string, string>): object => ({
    metadata: { namespace, labels },
  })
  t.same(
    told({
      pods: [
        pod('mixed', AMBIENT),
        pod('mixed', AMBIENT),
        pod('plain', { app: 'web' }),
        pod('kube-system', AMBIENT),
      ],
    }),
    ['mixed'],
  )
  t.end()
})

void t.test('those that have a pod in the mesh on any node', (t) => {
  const workload = (namespace: string, change: object = {}): ReturnType<typeof sampleWorkload> =>
    sampleWorkload(`${namespace}-web`, {
      namespace,
      tunnelProtocol: 'hbone',
      clusterId: 'Kubernetes',
      ...change,
    })
  t.same(
    told({
      workloads: [
        workload('shop'),
        workload('plain', { tunnelProtocol: 'none' }),
        workload('gateways', { nativeTunnel: true }),
        workload('elsewhere', { clusterId: 'other' }),
      ],
    }),
    ['shop'],
  )
  t.end()
})
