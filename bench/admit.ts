// SPDX-License-Identifier: Apache-2.0
// What policies cost a call: 10,000 of 10 rules that all concern one workload, of several shapes, and a call that none of them
// matches; and what it costs to make them ready. By itself: node --expose-gc bench/admit.ts

import { parseIpAddress } from '../mesh/model/address.ts'
import { EMPTY_MATCH, type Policy, type PolicyKey, type PolicyMatch } from '../mesh/model/policy.ts'
import type { IpAddress, SpiffeId } from '../mesh/model/types.ts'
import { PolicySet } from '../mesh/policy/evaluate.ts'
import type { PolicyCall } from '../mesh/policy/types.ts'
import { quantile } from './statistics.ts'

const POLICIES = 10_000
const RULES = 10
const CALLS = 200_000
const WARM_UP = 20_000
const CHANGES = 25

function ip(text: string): IpAddress {
  const address = parseIpAddress(text)
  if (address === undefined) throw new Error(`not an address: ${text}`)
  return address
}

const CALL: PolicyCall = {
  identity: 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId,
  source: ip('10.244.3.7'),
  destination: { address: ip('10.244.1.9'), port: 8080 },
}

/** From and to of the rule with this number. */
type Shape = (index: number) => readonly [Partial<PolicyMatch>, Partial<PolicyMatch>]

const exact = (text: string) => ({ kind: 'exact', text }) as const

const SHAPES: Readonly<Record<string, Shape>> = {
  /** A thousand callers on two ports, as policies of large meshes are. */
  principals: (index) => [
    { principals: [exact(`cluster.local/ns/ns-${index % 50}/sa/caller-${index % 1000}`)] },
    { destinationPorts: [index % 2 === 0 ? 8080 : 9090] },
  ],
  /** The caller is named by one rule in a thousand, with ports that it does not call. */
  'own principal': (index) => [
    {
      principals: [
        exact(`cluster.local/ns/shop/sa/${index % 1000 === 0 ? 'frontend' : `caller-${index}`}`),
      ],
    },
    { destinationPorts: [9000 + (index % 100)] },
  ],
  prefixes: (index) => [
    { principals: [{ kind: 'prefix', text: `cluster.local/ns/shop/sa/f-${index}` }] },
    { destinationPorts: [8080] },
  ],
  suffixes: (index) => [
    { principals: [{ kind: 'suffix', text: `/sa/frontend-${index}` }] },
    { destinationPorts: [8080] },
  ],
  accounts: (index) => [
    { serviceAccounts: [{ namespace: 'shop', serviceAccount: `caller-${index}` }] },
    { destinationPorts: [8080] },
  ],
  'ip blocks': (index) => [
    {
      sourceIps: [
        { address: ip(`11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`), length: 32 },
      ],
    },
    { destinationPorts: [8080] },
  ],
  /** All rules name the caller's namespace and port: what tells them apart is the address. */
  'shared namespace': (index) => [
    {
      namespaces: [exact('shop')],
      sourceIps: [{ address: ip(`10.${(index >> 8) & 255}.${index & 255}.0`), length: 25 }],
      notSourceIps: [{ address: ip('10.244.3.0'), length: 24 }],
    },
    { destinationPorts: [8080] },
  ],
  /** Nothing to file by. */
  'negations alone': (index) => [
    { notPrincipals: [exact('cluster.local/ns/shop/sa/frontend'), exact(`a/${index}`)] },
    {},
  ],
  /** By turns excepted by name, by port and by address. */
  'mixed negations': (index) => [
    [
      { notPrincipals: [exact('cluster.local/ns/shop/sa/frontend'), exact(`a/${index}`)] },
      { notDestinationPorts: [8080, 10_000 + (index % 1000)] },
      { notSourceIps: [{ address: ip('10.244.0.0'), length: 16 + (index % 7) }] },
    ][index % 3] ?? {},
    {},
  ],
  /** What they require is what everybody has, and what they except is as well. */
  'shared namespace, negations': (index) => [
    {
      namespaces: [exact('shop')],
      notPrincipals: [exact('cluster.local/ns/shop/sa/frontend'), exact(`a/${index}`)],
    },
    { destinationPorts: [8080] },
  ],
  /** Two things that thousands of rules require, of which a call has one. */
  'equal rules': (index) => [
    { principals: [exact(`cluster.local/ns/shop/sa/${index % 2 === 0 ? 'frontend' : 'basket'}`)] },
    { destinationPorts: [index % 2 === 0 ? 9090 : 8080] },
  ],
}

function policyOf(shape: Shape, policy: number): Policy {
  return {
    key: `shop/policy-${policy}` as PolicyKey,
    namespace: 'shop',
    name: `policy-${policy}`,
    scope: 'namespace',
    action: 'deny',
    rules: Array.from({ length: RULES }, (_, place) => ({
      clauses: shape(policy * RULES + place)
        .filter((match) => Object.keys(match).length > 0)
        .map((match) => ({ matches: [{ ...EMPTY_MATCH, ...match }] })),
      place,
    })),
    isDryRun: false,
    isAudit: false,
    madeOf: '',
  }
}

function microsecondsPerCall(set: PolicySet, calls: number): number {
  const began = cpuMilliseconds()
  for (let index = 0; index < calls; index += 1) {
    const { kind } = set.evaluate(CALL)
    if (kind !== 'allowed') throw new Error(`the call was to be allowed, and is ${kind}`)
  }
  return ((cpuMilliseconds() - began) * 1000) / calls
}

/** The figures of one shape: us a call, ms to make the set, with policies seen for the first time and again. */
function measure(name: string, shape: Shape): Readonly<Record<string, number>> {
  const policies = Array.from({ length: POLICIES }, (_, policy) => policyOf(shape, policy))
  const before = heapBytes()
  const began = cpuMilliseconds()
  const set = PolicySet.of(policies)
  const made = cpuMilliseconds() - began
  const held = heapBytes() - before
  const again = cpuMilliseconds()
  PolicySet.of(policies)
  const remade = cpuMilliseconds() - again
  const change = millisecondsPerChange(set, policies, shape)
  const longest = longestStep(policies.map((policy) => ({ ...policy })))
  microsecondsPerCall(set, WARM_UP)
  const perCall = microsecondsPerCall(set, CALLS)
  return {
    [`${name}: us a call`]: perCall,
    [`${name}: ms to make`]: made,
    [`${name}: ms to make again`]: remade,
    [`${name}: ms of the longest step of that`]: longest,
    [`${name}: ms for a policy that changes`]: change,
    ...(globalThis.gc === undefined ? {} : { [`${name}: MB`]: held / 1e6 }),
  }
}

/** Median of what it costs, with a set in force, that another policy changes each time. */
function millisecondsPerChange(set: PolicySet, policies: readonly Policy[], shape: Shape): number {
  const samples: number[] = []
  for (let index = 0; index < CHANGES; index += 1) {
    const next = policies.with(index, policyOf(shape, index))
    const began = threadMilliseconds()
    if (set.changed(next, RULES * 2) === undefined) throw new Error('it was to be a small change')
    samples.push(threadMilliseconds() - began)
  }
  return quantile(samples, 0.5)
}

/** Of all breaks in the making of a set the two that lie furthest apart; garbage that is collected in between counts. */
function longestStep(policies: readonly Policy[]): number {
  const work = PolicySet.sliced(policies)
  let longest = 0
  for (let isDone = false; !isDone; ) {
    const began = threadMilliseconds()
    isDone = work.next().done === true
    longest = Math.max(longest, threadMilliseconds() - began)
  }
  return longest
}

function threadMilliseconds(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** Of this process, in user mode: a busy neighbour does not count. */
function cpuMilliseconds(): number {
  return process.cpuUsage().user / 1000
}

function heapBytes(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

/** Each figure with its shape's name. */
export function measureAdmit(): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(SHAPES).flatMap(([name, shape]) => Object.entries(measure(name, shape))),
  )
}

if (import.meta.main)
  for (const [name, value] of Object.entries(measureAdmit()))
    console.log(`${name} ${value.toFixed(2)}`)
