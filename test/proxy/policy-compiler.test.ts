// SPDX-License-Identifier: Apache-2.0
// Policies by the ten thousand: what of them has to be compiled is done by and by, nobody is let in on what is not known yet, and one
// that changes is in force at once.

import t from 'tap'
import { type CompileLimits, PolicyCompiler } from '../../agent/proxy/decision/policy-compiler.ts'
import { PoliciesOfPods } from '../../agent/proxy/decision/pod-policies.ts'
import { POLICY_WAIT_MS, policyRefusal } from '../../agent/proxy/decision/policy-judge.ts'
import type { InboundCall } from '../../agent/proxy/admission.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { finish, type Sliced } from '../../mesh/async/sliced.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { PodUid } from '../../mesh/model/types.ts'
import type { PolicySet } from '../../mesh/policy/evaluate.ts'
import { sampleCall, samplePolicy } from '../policy/samples.ts'
import { newAddress, testPod } from './loopback-world.ts'
import { from, KNOWN, naming, policy, rule } from './policies.ts'

const LIMITS: CompileLimits = { atOnce: 2, manyChanged: 2, mostChanged: 4 }

/** Work that is done when a test says so. */
function laterWork() {
  const due: (() => void)[] = []
  return {
    work: (work: Sliced<PolicySet>, done: (set: PolicySet) => void): void => {
      due.push(() => done(finish(work)))
    },
    due,
    doIt: (): void => {
      for (const each of due.splice(0)) each()
    },
  }
}

const onPort = (name: string, ...ports: readonly number[]) =>
  samplePolicy(
    name,
    'deny',
    ports.map((port) => ({ destinationPorts: [port] })),
  )
const verdict = (set: PolicySet | undefined, port: number): string | undefined => {
  const { destination } = sampleCall()
  return set?.evaluate(sampleCall({ destination: { ...destination, port } })).kind
}

void t.test('few policies are compiled at once, each time', (t) => {
  const { work, due } = laterWork()
  const compiler = new PolicyCompiler(LIMITS, work)
  const never = () => t.fail('nothing is waited for')
  t.equal(verdict(compiler.compile([onPort('a', 1, 2)], never), 2), 'denied')
  t.equal(verdict(compiler.compile([onPort('a', 1, 3)], never), 2), 'allowed')
  t.equal(due.length, 0)
  t.end()
})

void t.test('many are compiled by and by; one that changes after that is in force at once', (t) => {
  const { work, due, doIt } = laterWork()
  const compiler = new PolicyCompiler(LIMITS, work)
  let ready = 0
  const compile = (...policies: readonly ReturnType<typeof onPort>[]) =>
    compiler.compile(policies, () => {
      ready += 1
    })
  const [a, b, c] = [onPort('a', 1, 2), onPort('b', 3, 4), onPort('c', 5)]
  t.equal(compile(a, b), undefined)
  t.equal(compile(a, b, c), undefined, 'asked again meanwhile, nothing more is begun')
  t.equal(due.length, 1)
  doIt()
  t.equal(ready, 1)
  t.equal(verdict(compile(a, b, c), 5), 'denied', 'what has come meanwhile is laid over it')
  t.equal(verdict(compile(a, b, c), 4), 'denied')
  t.equal(due.length, 0)

  const other = onPort('b', 6)
  const changed = compile(a, other, c)
  t.same(
    [2, 3, 4, 5, 6].map((port) => verdict(changed, port)),
    ['denied', 'allowed', 'allowed', 'denied', 'denied'],
  )
  t.equal(due.length, 1, 'so much has changed that it is compiled whole meanwhile')
  doIt()
  t.equal(ready, 2)
  t.equal(verdict(compile(a, other, c), 6), 'denied')
  t.equal(due.length, 0)

  t.equal(compile(onPort('x', 1, 2), onPort('y', 7, 8)), undefined, 'all others: they wait')
  doIt()
  t.equal(verdict(compile(onPort('x', 1, 2), onPort('y', 7, 8)), 8), undefined, 'not the same ones')
  t.end()
})

const MANY = 2_000

function callOf(pod: LocalPod, caller: string, port: number): InboundCall {
  const [address] = pod.addresses
  if (address === undefined) throw new Error('a pod without an address')
  return {
    peer: { address: newAddress(), port: 40_000 },
    peerIdentity: testPod(caller).identity,
    destination: pod.uid,
    target: { address, port },
    via: 'hbone',
  }
}

void t.test('while policies are being compiled calls wait, and nothing is let in', async (t) => {
  const pod = testPod('catalog', newAddress())
  const mesh = new MeshState()
  const news: (readonly PodUid[])[] = []
  const ready = Promise.withResolvers<undefined>()
  let isAwaited = false
  const policies = new PoliciesOfPods(mesh, ({ pods }) => {
    news.push(pods)
    if (isAwaited) ready.resolve(undefined)
  })
  policies.follow(pod)
  mesh.apply([
    KNOWN,
    naming(pod, ['shop/own']),
    policy('shop/own', { action: 'deny', rules: [rule({ destinationPorts: [9] })] }),
    ...Array.from({ length: MANY }, (_, index) =>
      policy(`shop/p${index}`, {
        scope: 'namespace',
        action: 'allow',
        rules: [rule({ ...from(`caller-${index}`), destinationPorts: [8080] })],
      }),
    ),
  ])
  isAwaited = true
  const ask = (caller: string, port = 8080, nowMs = 0, mode: 'refuse' | 'serve' = 'refuse') =>
    policyRefusal(policies.of(pod), callOf(pod, caller, port), mode, nowMs)
  t.match(ask('caller-7'), { reason: 'policyMissing', pendingUntilMs: POLICY_WAIT_MS })
  t.match(ask('caller-7', 8080, POLICY_WAIT_MS, 'serve'), {
    message: 'policies of the pod are being compiled',
  })
  t.match(ask('caller-7', 9), { reason: 'policyDenied' }, 'what is denied is not waited for')
  await ready.promise
  t.same(news.at(-1), [pod.uid], 'who waits is told')
  t.equal(ask('caller-7'), undefined)
  t.match(ask('enemy'), { reason: 'policyDenied' })

  mesh.apply([
    policy('shop/p7', { scope: 'namespace', action: 'allow', rules: [rule(from('enemy'))] }),
  ])
  t.equal(ask('enemy'), undefined, 'a change is in force at once')
  t.match(ask('caller-7'), { reason: 'policyDenied' })
  policies.close()
})
