// SPDX-License-Identifier: Apache-2.0
// Which pods are in the mesh: one line a case, in the order in which the tests apply.

import t from 'tap'
import {
  DEFAULT_ELIGIBILITY,
  eligibility,
  eligibilityOf,
} from '../../agent/enrolment/eligibility.ts'
import type { Pod } from '../../mesh/kube/index.ts'

const MODE = 'istio.io/dataplane-mode'
const ambient = { [MODE]: 'ambient' }
const none = { [MODE]: 'none' }
const sidecar = { 'sidecar.istio.io/status': '{}' }

interface Case {
  readonly is: string
  readonly namespace?: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  readonly spec?: Partial<NonNullable<Pod['spec']>>
  readonly phase?: string
  readonly namespaceLabels?: Record<string, string>
  readonly so: string
}

const CASES: readonly Case[] = [
  { is: 'no label anywhere', so: 'notLabelled' },
  { is: 'a labelled namespace', namespaceLabels: ambient, so: 'enrol' },
  { is: 'a labelled pod', labels: ambient, so: 'enrol' },
  {
    is: 'a labelled pod in a namespace that says none',
    labels: ambient,
    namespaceLabels: none,
    so: 'enrol',
  },
  { is: 'a pod that opts out', labels: none, namespaceLabels: ambient, so: 'optedOut' },
  { is: 'a namespace that says none', namespaceLabels: none, so: 'notLabelled' },
  {
    is: 'another value on the pod',
    labels: { [MODE]: 'Ambient' },
    namespaceLabels: ambient,
    so: 'enrol',
  },
  {
    is: 'another value on both',
    labels: { [MODE]: 'x' },
    namespaceLabels: { [MODE]: 'y' },
    so: 'notLabelled',
  },
  { is: 'the host network', labels: ambient, spec: { hostNetwork: true }, so: 'hostNetwork' },
  { is: 'a sidecar', labels: ambient, annotations: sidecar, so: 'sidecar' },
  {
    is: 'the host network before a sidecar',
    annotations: sidecar,
    spec: { hostNetwork: true },
    so: 'hostNetwork',
  },
  {
    is: 'a sidecar before an excluded namespace',
    namespace: 'kube-system',
    annotations: sidecar,
    so: 'sidecar',
  },
  {
    is: 'an excluded namespace',
    namespace: 'kube-system',
    labels: ambient,
    so: 'excludedNamespace',
  },
  {
    is: 'our agent',
    namespace: 'ambit-system',
    labels: { ...ambient, app: 'ambit-agent' },
    so: 'ownPod',
  },
  {
    is: 'our controller, by its namespace',
    namespace: 'ambit-system',
    labels: { ...ambient, app: 'ambit-controller' },
    so: 'excludedNamespace',
  },
  {
    is: "a user's pod that has the agent's name",
    labels: { ...ambient, app: 'ambit-agent' },
    so: 'enrol',
  },
  {
    is: 'a pod of Kata containers',
    labels: ambient,
    spec: { runtimeClassName: 'kata-qemu' },
    so: 'guestKernel',
  },
  {
    is: 'a pod of gVisor in a labelled namespace',
    namespaceLabels: ambient,
    spec: { runtimeClassName: 'gvisor' },
    so: 'guestKernel',
  },
  {
    is: 'a virtual machine of KubeVirt',
    labels: { ...ambient, 'kubevirt.io': 'virt-launcher' },
    so: 'guestKernel',
  },
  {
    is: 'a pod of Kata that nobody labelled',
    spec: { runtimeClassName: 'kata' },
    so: 'notLabelled',
  },
  {
    is: 'a pod of another runtime class',
    labels: ambient,
    spec: { runtimeClassName: 'nvidia' },
    so: 'enrol',
  },
  { is: 'a pod that has failed and may run yet', labels: ambient, phase: 'Failed', so: 'enrol' },
  { is: 'a pending pod', labels: ambient, phase: 'Pending', so: 'enrol' },
]

for (const { is, so, namespaceLabels = {}, ...given } of CASES)
  void t.test(`${is}: ${so}`, (t) => {
    const pod: Pod = {
      metadata: {
        name: 'web',
        namespace: given.namespace ?? 'shop',
        ...(given.labels === undefined ? {} : { labels: given.labels }),
        ...(given.annotations === undefined ? {} : { annotations: given.annotations }),
      },
      spec: { containers: [], ...given.spec },
      ...(given.phase === undefined ? {} : { status: { phase: given.phase } }),
    }
    const decision = eligibility(pod, namespaceLabels)
    t.same(decision, so === 'enrol' ? { enrol: true } : { enrol: false, reason: so })
    t.end()
  })

void t.test('the excluded namespaces can be chosen', (t) => {
  const pod: Pod = { metadata: { name: 'web', namespace: 'kube-system', labels: ambient } }
  t.same(eligibility(pod, {}, { ...DEFAULT_ELIGIBILITY, excludeNamespaces: [] }), { enrol: true })
  t.end()
})

void t.test("the mesh's own namespace is never in it, whatever its name", (t) => {
  const rules = eligibilityOf({ podNamespace: 'mesh', namespaceSelector: '' })
  t.strictSame(rules.excludeNamespaces, ['kube-system', 'ambit-system', 'mesh'])
  const pod: Pod = { metadata: { name: 'x', namespace: 'mesh', labels: ambient } }
  t.same(eligibility(pod, ambient, rules), { enrol: false, reason: 'excludedNamespace' })
  t.end()
})

void t.test('where another mesh has a part of the cluster, its namespaces are left alone', (t) => {
  const rules = eligibilityOf({
    podNamespace: 'ambit-system',
    namespaceSelector: 'mesh in (a, b),!old',
  })
  const pod: Pod = { metadata: { name: 'web', namespace: 'shop', labels: ambient } }
  const with_ = (labels: Record<string, string>) => eligibility(pod, labels, rules)
  t.same(with_({ mesh: 'a' }), { enrol: true })
  t.same(with_({ mesh: 'b', old: '' }), { enrol: false, reason: 'namespaceNotSelected' })
  t.same(
    with_({ ...ambient }),
    { enrol: false, reason: 'namespaceNotSelected' },
    'whatever its label',
  )
  t.end()
})

void t.test('an object with nothing in it is not enrolled', (t) => {
  t.same(eligibility({}, {}), { enrol: false, reason: 'notLabelled' })
  t.end()
})
