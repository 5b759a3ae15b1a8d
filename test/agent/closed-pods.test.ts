// SPDX-License-Identifier: Apache-2.0
// Given a pod that takes no calls because a policy of it is missing, then its owner and the operator are told, once, and why.

import { pino } from 'pino'
import t from 'tap'
import { ClosedPods } from '../../agent/closed-pods.ts'
import { POLICY_WAIT_MS } from '../../agent/proxy/decision/policy-judge.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { newAddress, testPod } from '../proxy/loopback-world.ts'
import { garbled, gone, KNOWN, naming, policy, unreadable } from '../proxy/policies.ts'

await t.test('what is missing is told once it is too late, what nobody can read at once', (t) => {
  const catalog = testPod('catalog', newAddress())
  const other = testPod('other', newAddress(), 'elsewhere')
  const mesh = new MeshState()
  const events: string[] = []
  const logged: string[] = []
  let pods: readonly LocalPod[] = [catalog, other]
  let now = 0
  const closed = new ClosedPods({
    mesh,
    lastSaid: () => undefined,
    pods: () => pods,
    mode: 'refuse',
    events: {
      warn: (pod, reason, message) => void events.push(`${pod.name} ${reason} ${message}`),
    },
    log: pino({}, { write: (line: string) => void logged.push(line) }),
    now: () => now,
  })
  t.teardown(() => closed.close())
  const look = (): string[] => {
    closed.look()
    return events.splice(0)
  }
  t.same(look(), [], 'an agent that has just started waits')
  t.equal(closed.size, 0)
  now = POLICY_WAIT_MS
  t.same(look(), [], 'discovery may tell of a crowd a little later')
  t.equal(closed.size, 2, 'but calls are refused')
  t.same(logged, [])
  now = 30_000
  t.match(look(), [
    /^catalog PolicyMissing .*policies of the pod are not known yet: all calls into it are refused/,
    /^other PolicyMissing /,
  ])
  t.equal(closed.size, 2)
  t.same(look(), [], 'once')
  t.match(
    logged,
    [/"level":40.*AMB_POLICY_MISSING.*"pods":2.*\/catalog, elsewhere\/other: the/],
    'in one line',
  )

  mesh.apply([KNOWN, naming(catalog, ['shop/a']), naming(other, []), policy('shop/a')])
  t.same(look(), [])
  t.equal(closed.size, 0)

  mesh.apply([unreadable('shop/a')])
  t.match(look(), [/^catalog PolicyMissing .*policy shop\/a cannot be read: rules: garbled/])
  t.match(logged.at(-1), /"level":50.*AMB_POLICY_MISSING.*"policy":"shop\/a"/)
  t.equal(closed.size, 1)
  mesh.apply([garbled(other)])
  t.match(look(), [/^other .*what policies the pod names cannot be read/])
  mesh.apply([naming(other, [])])
  t.same(look(), [])
  mesh.apply([unreadable('istio-system/new')])
  t.match(look(), [/^catalog .*istio-system\/new/, /^other .*istio-system\/new/])
  mesh.apply([gone('shop/a'), gone('istio-system/new'), naming(catalog, ['shop/late'])])
  t.same(look(), [])
  pods = []
  t.same(look(), [])
  t.equal(closed.size, 0)
  t.end()
})
