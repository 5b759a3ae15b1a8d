// SPDX-License-Identifier: Apache-2.0
// Who is let in to discovery, and what the others are told: a code by which they know whether trying again helps.

import { Metadata, status } from '@grpc/grpc-js'
import t from 'tap'
import { type ComponentDirectory, componentGate } from '../../controller/auth/component-gate.ts'
import { standingOf } from '../../controller/auth/standing.ts'
import { TokenAuthenticator } from '../../controller/auth/token-authenticator.ts'
import { PODS, type Pod } from '../../mesh/kube/index.ts'
import { kubePod, type PodChoices } from '../core/objects.ts'
import { acceptedToken, ScriptedKube } from '../support/scripted-kube.ts'
import { startPodSource } from './pod-source.ts'

/** The Gateways that are waypoints, with the account of their pods. */
const GATEWAYS: ReadonlyMap<string, string> = new Map([
  ['shop/waypoint', 'waypoint'],
  ['shop/other', 'other'],
  ['bank/waypoint', 'waypoint'],
])
const AGENT_POD = { name: 'agent-b', uid: 'uid-1' }

function agentPod(choices: PodChoices = {}): Pod {
  const spec = { nodeName: 'node-b', serviceAccountName: 'ambit-agent' }
  return kubePod(AGENT_POD.name, {
    namespace: 'ambit-system',
    uid: AGENT_POD.uid,
    spec,
    ...choices,
  })
}

/** A pod of the shop, or of another namespace, with its account and perhaps of a Gateway. */
function shopPod(name: string, account: string, gateway?: string, namespace = 'shop'): Pod {
  return kubePod(name, {
    namespace,
    uid: `uid-${name}`,
    labels: gateway === undefined ? {} : { 'gateway.networking.k8s.io/gateway-name': gateway },
    spec: { nodeName: 'node-b', serviceAccountName: account },
  })
}

/** A cluster whose agents' pods are told of by a watch; gives what a caller with that token hears. */
function setting() {
  const kube = new ScriptedKube()
  const { index, upsert, remove } = startPodSource()
  const authenticator = new TokenAuthenticator(kube.api, { audience: 'istio-ca' })
  const directory: ComponentDirectory = {
    agents: new Set(['ambit-system/ambit-agent']),
    waypoints: { accountOf: (namespace, gateway) => GATEWAYS.get(`${namespace}/${gateway}`) },
  }
  const gate = componentGate(authenticator, { api: kube.api, pods: index }, directory)
  const call = (token: string) => {
    const metadata = new Metadata()
    if (token !== '') metadata.set('authorization', `Bearer ${token}`)
    return gate(metadata, AbortSignal.timeout(10_000), '10.0.0.1:4711')
  }
  kube.tokens.set('agent', acceptedToken('ambit-system', 'ambit-agent', AGENT_POD))
  /** A token of the pod, by its name. */
  const token = ({ metadata, spec }: Pod): void => {
    const { namespace = '', name = '', uid = '' } = metadata ?? {}
    kube.tokens.set(name, acceptedToken(namespace, spec?.serviceAccountName ?? '', { name, uid }))
  }
  return { kube, index, directory, upsert, remove, call, token }
}

void t.test('an agent in its pod is let in, whoever heard of the pod first', async (t) => {
  const { kube, upsert, call } = setting()
  const pod = kube.put(PODS, agentPod())
  t.match(await call('agent'), { ok: true, value: { role: 'agent' } }, 'the API server knows it')
  upsert(pod)
  t.match(await call('agent'), { ok: true, value: { name: 'ambit-system/agent-b' } })
})

void t.test('the code tells a caller whether trying again helps', async (t) => {
  const { kube, call } = setting()
  t.match(await call(''), { error: { code: status.UNAUTHENTICATED } })
  t.match(await call('made-up'), { error: { code: status.UNAUTHENTICATED } })
  kube.put(PODS, shopPod('catalog', 'catalog'))
  kube.tokens.set('shop', acceptedToken('shop', 'catalog', { name: 'catalog', uid: 'uid-catalog' }))
  t.match(await call('shop'), {
    error: { code: status.PERMISSION_DENIED, message: /shop\/catalog is no component of the mesh/ },
  })
  kube.isAway = true
  t.match(await call('another'), { error: { code: status.UNAVAILABLE } })
  t.match(await call('agent'), { error: { code: status.UNAVAILABLE } }, 'not refused for good')
})

void t.test('the token of a pod that is no more is worth nothing', async (t) => {
  const { kube, upsert, remove, call } = setting()
  upsert(kube.put(PODS, agentPod()))
  t.match(await call('agent'), { ok: true })

  upsert(kube.put(PODS, agentPod({ status: { phase: 'Failed' } })))
  t.match(
    await call('agent'),
    { error: { code: status.PERMISSION_DENIED, message: /agent-b has ended/ } },
    'evicted, and nobody has deleted it yet',
  )
  // Deleted, and made again under the same name.
  remove('ambit-system', 'agent-b')
  upsert(kube.put(PODS, agentPod({ uid: 'uid-9' })))
  t.match(await call('agent'), {
    error: { code: status.PERMISSION_DENIED, message: /agent-b does not exist any more/ },
  })
})

void t.test('a waypoint in its pod is let in as that of its Gateway', async (t) => {
  const { kube, upsert, call, token } = setting()
  const pod = kube.put(PODS, shopPod('waypoint-1', 'waypoint', 'waypoint'))
  token(pod)
  const waypoint = { name: 'shop/waypoint-1', namespace: 'shop', role: 'waypoint', node: 'node-b' }
  const expected = { ok: true, value: { ...waypoint, gateway: 'waypoint' } }
  t.strictSame(await call('waypoint-1'), expected, 'whether or not a watch has told of the pod')
  upsert(pod)
  t.strictSame(await call('waypoint-1'), expected)
})

void t.test('a label makes no waypoint: Gateway, namespace and account must fit', async (t) => {
  const { kube, call, token } = setting()
  const cases: readonly (readonly [Pod, RegExp])[] = [
    [
      shopPod('plain', 'waypoint'),
      /shop\/waypoint is no component of the mesh and may not read its state/,
    ],
    [
      shopPod('made-up', 'made-up', 'made-up'),
      /shop\/made-up says that it is of Gateway shop\/made-up, which is not there/,
    ],
    [
      shopPod('thief', 'catalog', 'waypoint'),
      /shop\/thief runs as shop\/catalog, and those of Gateway shop\/waypoint as shop\/waypoint/,
    ],
    [
      shopPod('neighbour', 'waypoint', 'other'),
      /runs as shop\/waypoint, and those of Gateway shop\/other as shop\/other/,
    ],
    [
      shopPod('elsewhere', 'other', 'other', 'bank'),
      /of Gateway bank\/other, which is not there or is no waypoint/,
    ],
  ]
  for (const [pod, message] of cases) {
    token(kube.put(PODS, pod))
    const code = status.PERMISSION_DENIED
    t.match(await call(pod.metadata?.name ?? ''), { error: { code, message } })
  }
  kube.tokens.set('unbound', acceptedToken('shop', 'waypoint'))
  t.match(await call('unbound'), { error: { message: /must be bound to a pod/ } })
})

void t.test(
  'calls of a waypoint are those of one only once its pod is known to be one',
  async (t) => {
    const { index, upsert, directory } = setting()
    const caller = (name: string, serviceAccount: string, namespace = 'shop') =>
      standingOf({ namespace, serviceAccount, pod: { name, uid: `uid-${name}` } }, directory, index)
    t.equal(caller('waypoint-1', 'waypoint'), 'ordinary')
    upsert(shopPod('waypoint-1', 'waypoint', 'waypoint'))
    upsert(shopPod('catalog', 'catalog'))
    t.equal(caller('waypoint-1', 'waypoint'), 'waypoint')
    t.equal(caller('catalog', 'catalog'), 'ordinary')
    t.equal(caller('agent-b', 'ambit-agent', 'ambit-system'), 'agent')
  },
)
