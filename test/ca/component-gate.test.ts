// SPDX-License-Identifier: Apache-2.0
// Who is let in to discovery, and what the others are told: a code by which they know whether trying again helps.

import { Metadata, status } from '@grpc/grpc-js'
import t from 'tap'
import { componentGate } from '../../controller/auth/component-gate.ts'
import { TokenAuthenticator } from '../../controller/auth/token-authenticator.ts'
import { PODS, type Pod } from '../../mesh/kube/index.ts'
import { kubePod, type PodChoices } from '../core/objects.ts'
import { acceptedToken, ScriptedKube } from '../support/scripted-kube.ts'
import { startPodSource } from './pod-source.ts'

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

/** A cluster whose agents' pods are told of by a watch; gives what a caller with that token hears. */
function setting() {
  const kube = new ScriptedKube()
  const { index, upsert, remove } = startPodSource()
  const authenticator = new TokenAuthenticator(kube.api, { audience: 'istio-ca' })
  const gate = componentGate(
    authenticator,
    { api: kube.api, pods: index },
    { agent: new Set(['ambit-system/ambit-agent']) },
  )
  const call = (token: string) => {
    const metadata = new Metadata()
    if (token !== '') metadata.set('authorization', `Bearer ${token}`)
    return gate(metadata, AbortSignal.timeout(10_000), '10.0.0.1:4711')
  }
  kube.tokens.set('agent', acceptedToken('ambit-system', 'ambit-agent', AGENT_POD))
  return { kube, upsert, remove, call }
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
  kube.tokens.set('shop', acceptedToken('shop', 'catalog', { name: 'catalog', uid: 'uid-2' }))
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
