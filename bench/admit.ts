// SPDX-License-Identifier: Apache-2.0
// What policies cost a call: 10,000 of 10 rules that all concern one workload, of several shapes, and a call that none of them
// matches; and what it costs to make them ready. By itself: node --expose-gc bench/admit.ts

import { parseIpAddress } from '../mesh/model/address.ts'
import { EMPTY_MATCH, type Policy, type PolicyKey, type PolicyMatch } from '../mesh/model/policy.ts'
import type { IpAddress, SpiffeId } from '../mesh/model/types.ts'
import { PolicySet } from '../mesh/policy/evaluate.ts'
import type { PolicyCall } from '../mesh/policy/types.ts'

const POLICIES = 10_000
const RULES = 10
const CALLS = 200_000
const WARM_UP = 20_000

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
  /** Nothing to file by: every rule is asked. */
  'negations alone': (index) => [
    { notPrincipals: [exact('cluster.local/ns/shop/sa/frontend'), exact(`a/${index}`)] },
    {},
  ],
}

function policiesOf(shape: Shape): readonly Policy[] {
  return Array.from({ length: POLICIES }, (_, policy) => ({
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
  }))
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
  const policies = policiesOf(shape)
  const before = heapBytes()
  const began = cpuMilliseconds()
  const set = new PolicySet(policies)
  const made = cpuMilliseconds() - began
  const held = heapBytes() - before
  const again = cpuMilliseconds()
  new PolicySet(policies)
  const remade = cpuMilliseconds() - again
  const share = name === 'negations alone' ? 0.001 : 1
  microsecondsPerCall(set, WARM_UP * share)
  const perCall = microsecondsPerCall(set, CALLS * share)
  return {
    [`${name}: us a call`]: perCall,
    [`${name}: ms to make`]: made,
    [`${name}: ms to make again`]: remade,
    ...(globalThis.gc === undefined ? {} : { [`${name}: MB`]: held / 1e6 }),
  }
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
