// SPDX-License-Identifier: Apache-2.0
// The decisions of a pod's life, by table: what is known gives what is desired, what is desired gives the next step.

import t from 'tap'
import { DEFAULT_ELIGIBILITY } from '../../agent/enrolment/eligibility.ts'
import {
  desiredOf,
  learn,
  NOTHING_KNOWN,
  type Desired,
  type Fact,
  type Knowledge,
  type PodNetwork,
} from '../../agent/enrolment/facts.ts'
import { nextStep, type Actual, type Step } from '../../agent/enrolment/next-step.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AMBIENT } from './node-setting.ts'

const HERE = { device: 1, inode: 10 }
const ELSEWHERE = { device: 1, inode: 11 }

const network = (containerId: string | undefined, identity = HERE): PodNetwork => ({
  netnsPath: '/run/netns/x',
  identity,
  addresses: ['10.244.1.7' as IpAddress],
  containerId,
})
const pod = (metadata: Pod['metadata'] = {}): Pod => ({
  metadata: { namespace: 'shop', name: 'web', uid: 'u', ...metadata },
  spec: { containers: [] },
})
const object: Fact = { kind: 'object', object: pod() }
const labelled: Fact = { kind: 'namespaceLabels', labels: AMBIENT }
const sandbox: Fact = { kind: 'sandbox', object: pod(), network: network('c1') }
const found: Fact = { kind: 'networkFound', network: network(undefined) }
const remembered: Fact = { kind: 'remembered', network: network('c1'), isEnrolled: true }

const known = (...facts: readonly Fact[]): Knowledge => facts.reduce(learn, NOTHING_KNOWN)
const wanted = (netns: typeof HERE | undefined, isDraining = false): Desired => ({
  kind: 'captured',
  netns,
  isDraining,
})

void t.test('what is desired follows from the facts', (t) => {
  const leaving = pod({ deletionTimestamp: '2026-01-01T00:00:00Z' })
  const cases: readonly [string, readonly Fact[], object][] = [
    ['nothing', [], { kind: 'unknown' }],
    ['a labelled pod', [object, labelled], { kind: 'captured', netns: undefined }],
    ['one with a sandbox', [labelled, sandbox], { kind: 'captured', netns: HERE }],
    ['a pod whose namespace is not known', [object], { kind: 'unknown', reason: /namespace shop/ }],
    [
      'a namespace that lost its label',
      [sandbox, labelled, { kind: 'namespaceLabels', labels: {} }],
      { kind: 'plain', livesOn: true, reason: 'notLabelled' },
    ],
    ['one of an earlier agent', [remembered], { kind: 'captured', netns: HERE }],
    ['the same, when the API has told of it', [remembered, object], { kind: 'unknown' }],
    [
      'one on its way out',
      [labelled, sandbox, { kind: 'object', object: leaving }],
      { kind: 'captured', isDraining: true },
    ],
    [
      'one whose object is gone and whose namespace is not',
      [labelled, sandbox, { kind: 'deleted' }],
      { kind: 'captured', netns: HERE, isDraining: true },
    ],
    [
      'the same, when its namespace has gone',
      [labelled, sandbox, { kind: 'deleted' }, { kind: 'networkGone', identity: HERE }],
      { kind: 'plain', livesOn: false },
    ],
    [
      'the same, when its sandbox has gone',
      [labelled, sandbox, { kind: 'deleted' }, { kind: 'sandboxGone', containerId: 'c1' }],
      { kind: 'plain', livesOn: false },
    ],
    [
      'one of an earlier agent that the API does not know any more',
      [remembered, { kind: 'deleted' }],
      { kind: 'captured', netns: HERE, isDraining: true },
    ],
    [
      'one that was never enrolled, and is gone',
      [sandbox, { kind: 'deleted' }],
      { kind: 'plain', livesOn: false },
    ],
    [
      'one that was evicted and runs for its grace',
      [labelled, sandbox, { kind: 'object', object: { ...pod(), status: { phase: 'Failed' } } }],
      { kind: 'captured', netns: HERE, isDraining: true },
    ],
    [
      'one that has finished, and nobody knows where it was',
      [labelled, { kind: 'object', object: { ...pod(), status: { phase: 'Succeeded' } } }],
      { kind: 'plain', livesOn: false },
    ],
    [
      'one without its sandbox',
      [labelled, sandbox, { kind: 'sandboxGone', containerId: 'c1' }],
      { kind: 'plain', livesOn: false },
    ],
    [
      'one whose former sandbox goes late',
      [labelled, sandbox, { kind: 'sandboxGone', containerId: 'c0' }],
      { kind: 'captured', netns: HERE },
    ],
    [
      'one found in /proc, when a sandbox elsewhere goes',
      [
        object,
        labelled,
        found,
        { kind: 'sandboxGone', containerId: 'c0', identity: ELSEWHERE },
        { kind: 'sandboxGone', containerId: 'c0' },
      ],
      { kind: 'captured', netns: HERE },
    ],
    [
      'one found in /proc, when the sandbox there goes',
      [object, labelled, found, { kind: 'sandboxGone', containerId: 'c0', identity: HERE }],
      { kind: 'plain', reason: 'the sandbox is gone' },
    ],
    [
      'one that is still looked for, when any sandbox goes',
      [object, labelled, { kind: 'sandboxGone', containerId: 'c0', identity: ELSEWHERE }],
      { kind: 'captured', netns: undefined },
    ],
    [
      'one whose sandbox goes after its path',
      [
        labelled,
        sandbox,
        { kind: 'networkGone', identity: HERE },
        { kind: 'sandboxGone', containerId: 'c1' },
      ],
      { kind: 'plain', reason: 'the sandbox is gone' },
    ],
    [
      'one with another sandbox',
      [labelled, sandbox, { kind: 'sandboxGone', containerId: 'c1' }, sandbox],
      { kind: 'captured', netns: HERE },
    ],
    ['one at an uninstallation', [labelled, sandbox, { kind: 'uninstalled' }], { kind: 'plain' }],
    [
      'a namespace found after CNI told of another',
      [labelled, sandbox, { kind: 'networkFound', network: network(undefined, ELSEWHERE) }],
      { netns: HERE },
    ],
    [
      'a namespace found after the sandbox has gone',
      [
        labelled,
        sandbox,
        { kind: 'sandboxGone', containerId: 'c1' },
        { kind: 'networkFound', network: network(undefined) },
      ],
      { kind: 'plain', reason: 'the sandbox is gone' },
    ],
    [
      'a path that led elsewhere',
      [labelled, sandbox, { kind: 'networkGone', identity: HERE }],
      { netns: undefined },
    ],
    [
      'a path that led elsewhere before the next sandbox',
      [labelled, sandbox, { kind: 'networkGone', identity: ELSEWHERE }],
      { netns: HERE },
    ],
  ]
  for (const [what, facts, expected] of cases)
    t.match(desiredOf(known(...facts), DEFAULT_ELIGIBILITY), expected, what)
  t.end()
})

void t.test('the next step follows from what is desired and what is', (t) => {
  const served: Extract<Actual, { kind: 'captured' }> = {
    kind: 'captured',
    netns: HERE,
    isServed: true,
    isDraining: false,
  }
  const left: Extract<Actual, { kind: 'left' }> = {
    kind: 'left',
    netns: HERE,
    isServed: true,
    isForgotten: false,
  }
  const plain: Desired = { kind: 'plain', reason: 'r', livesOn: true }
  const gone: Desired = { kind: 'plain', reason: 'r', livesOn: false }
  const unknown: Desired = { kind: 'unknown', reason: 'r' }
  const is = {
    plain: { kind: 'plain' },
    uncertain: { kind: 'uncertain' },
    astray: { kind: 'astray' },
  } as const
  const reason = 'another namespace is captured in its name'
  const letGo: Step = { kind: 'withdraw', reason, livesOn: true }
  const cases: readonly [Desired, Actual, Step][] = [
    [gone, is.astray, { ...letGo, livesOn: false }],
    [unknown, is.astray, letGo],
    [wanted(HERE), is.plain, { kind: 'enrol' }],
    [wanted(HERE), is.uncertain, { kind: 'enrol' }],
    [wanted(HERE), is.astray, letGo],
    [wanted(undefined), is.astray, letGo],
    [wanted(HERE), served, { kind: 'rest' }],
    [wanted(undefined), served, { kind: 'rest' }],
    [wanted(HERE), { ...served, isServed: false }, { kind: 'enrol' }],
    [wanted(HERE), left, { kind: 'enrol' }],
    [wanted(HERE), { ...left, isForgotten: true }, { kind: 'enrol' }],
    [wanted(HERE, true), served, { kind: 'drain' }],
    [wanted(HERE, true), { ...served, isDraining: true }, { kind: 'rest' }],
    [wanted(HERE, true), { ...served, isServed: false }, { kind: 'enrol' }],
    [
      wanted(ELSEWHERE),
      served,
      { kind: 'withdraw', reason: 'the pod has a new sandbox', livesOn: true },
    ],
    [plain, is.plain, { kind: 'rest' }],
    [plain, is.uncertain, { kind: 'withdraw', reason: 'r', livesOn: true }],
    [plain, is.astray, letGo],
    [plain, served, { kind: 'leave', reason: 'r' }],
    [plain, { ...served, isServed: false }, { kind: 'leave', reason: 'r' }],
    [plain, left, { kind: 'rest' }],
    [plain, { ...left, isServed: false }, { kind: 'leave', reason: 'r' }],
    [
      plain,
      { ...left, isForgotten: true },
      { kind: 'withdraw', reason: 'its peers know', livesOn: true },
    ],
    [gone, left, { kind: 'withdraw', reason: 'r', livesOn: false }],
    [unknown, left, { kind: 'wait', reason: 'r' }],
    [unknown, { ...left, isServed: false }, { kind: 'leave', reason: 'r' }],
    [gone, served, { kind: 'withdraw', reason: 'r', livesOn: false }],
    [unknown, is.plain, { kind: 'wait', reason: 'r' }],
    [unknown, served, { kind: 'wait', reason: 'r' }],
    [unknown, { ...served, isServed: false }, { kind: 'enrol' }],
  ]
  for (const [desired, actual, step] of cases)
    t.strictSame(nextStep(desired, actual), step, JSON.stringify([desired, actual]))
  t.end()
})
