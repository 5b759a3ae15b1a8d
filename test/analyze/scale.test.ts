// SPDX-License-Identifier: Apache-2.0
// `ambit analyze` of a large cluster takes seconds, however its objects lie.

import t from 'tap'
import { analyze } from '../../cli/analyze/analyze.ts'
import {
  ALL_KINDS,
  type AnalysedKind,
  objectsOf,
  type RawObject,
} from '../../cli/analyze/objects.ts'
import { OPTIONS } from './clusters.ts'

const COUNT = 10_000
/** Of the processor's time, whoever else has some. It is 3 s; what grows with the square of the number takes minutes. */
const LONGEST_MS = 15_000

const numbers = Array.from({ length: COUNT }, (_, at) => at)

type Shape = (at: number) => { readonly namespace: string; readonly labels: Record<string, string> }

function cluster(shape: Shape, selects: (at: number) => object) {
  const namespaces = new Set(numbers.map((at) => shape(at).namespace))
  const named = (kind: string, at: number, spec: object): RawObject => ({
    metadata: { name: `${kind}-${at}`, ...shape(at), creationTimestamp: '2026-11-28T00:00:00Z' },
    spec,
  })
  const rule = (at: number, place: number) => ({
    from: [{ source: { principals: [`cluster.local/ns/other-${place}/sa/a-${at}`] } }],
    to: [{ operation: { ports: [String(1 + ((at * 7 + place) % 60_000))] } }],
  })
  const byKind = new Map<AnalysedKind, readonly RawObject[]>([
    [
      'Namespace',
      [...namespaces].map((name) => ({
        metadata: { name, labels: { 'istio.io/dataplane-mode': 'ambient' } },
      })),
    ],
    [
      'Pod',
      numbers.map((at) => named('pod', at, { containers: [{ ports: [{ containerPort: 80 }] }] })),
    ],
    [
      'Service',
      numbers.map((at) => named('svc', at, { selector: selects(at), ports: [{ port: 80 }] })),
    ],
    [
      'AuthorizationPolicy',
      numbers.map((at) =>
        named('policy', at, {
          selector: { matchLabels: selects(at) },
          rules: Array.from({ length: 10 }, (_, place) => rule(at, place)),
        }),
      ),
    ],
    [
      'PeerAuthentication',
      numbers.map((at) => named('peer', at, { selector: { matchLabels: selects(at) } })),
    ],
    [
      'NetworkPolicy',
      numbers.map((at) =>
        named('network', at, {
          podSelector: { matchLabels: selects(at) },
          ingress: [{ ports: [{ port: 80 }, { port: 15_008 }] }],
        }),
      ),
    ],
  ])
  return objectsOf(byKind, new Map(ALL_KINDS.map((kind) => [kind, 'all'])))
}

const CLUSTERS: readonly (readonly [string, Shape, (at: number) => object])[] = [
  [
    'of a hundred namespaces',
    (at) => ({ namespace: `n-${at % 100}`, labels: { app: `a-${at % 1_000}` } }),
    (at) => ({ app: `a-${at % 1_000}` }),
  ],
  [
    'of one namespace, each pod for itself',
    (at) => ({ namespace: 'one', labels: { app: `a-${at}` } }),
    (at) => ({ app: `a-${at}` }),
  ],
  [
    'of one namespace, all pods alike',
    () => ({ namespace: 'one', labels: { app: 'a' } }),
    () => ({ app: 'a' }),
  ],
]

for (const [name, shape, selects] of CLUSTERS)
  void t.test(`${COUNT} policies, pods and Services ${name} take seconds`, (t) => {
    const objects = cluster(shape, selects)
    const before = process.threadCpuUsage()
    const { findings } = analyze(objects, OPTIONS)
    const { user, system } = process.threadCpuUsage(before)
    const tookMs = (user + system) / 1000
    t.comment(`${Math.round(tookMs)} ms, ${findings.length} findings`)
    t.ok(tookMs < LONGEST_MS, `${Math.round(tookMs)} ms`)
    // The namespaces of the principals are not there: each rule that names one is found, up to the bound of a policy.
    t.equal(findings.filter(({ code }) => code === 'AMB103').length, COUNT * 10)
    t.end()
  })
