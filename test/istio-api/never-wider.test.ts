// SPDX-License-Identifier: Apache-2.0
// Random AuthorizationPolicies against a naive reading of what their YAML says: an ALLOW never allows more, a DENY never denies less,
// whatever of them is nonsense or is for waypoints; and one that is all layer 4 means exactly what it says.

import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import t from 'tap'
import { readAuthorizationPolicy } from '../../controller/istio-api/authorization-policy.ts'
import { authorizationOf } from '../../controller/istio-api/authorization-rules.ts'
import { POLICY } from '../../mesh/model/policy.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import type { PolicyCall } from '../../mesh/policy/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { CONFIG, ORIGIN } from '../core/objects.ts'
import { ip } from '../model/samples.ts'

const MESH = { ...CONFIG, trustDomain: 'prod', trustDomainAliases: ['old'] }

/** Whether something holds; `unknown`: nobody at layer 4 can tell. */
type Truth = 'yes' | 'no' | 'unknown'

const all = (truths: readonly Truth[]): Truth => {
  if (truths.includes('no')) return 'no'
  return truths.includes('unknown') ? 'unknown' : 'yes'
}
const any = (truths: readonly Truth[]): Truth => {
  if (truths.includes('yes')) return 'yes'
  return truths.includes('unknown') ? 'unknown' : 'no'
}
const not = (truth: Truth): Truth => (truth === 'unknown' ? truth : truth === 'yes' ? 'no' : 'yes')

const NAMES = ['a', 'ab', 'b']
const DOMAINS = ['prod', 'old', 'cluster.local', 'foreign']
const ADDRESSES = ['10.0.0.1', '10.0.1.1', '10.128.0.1', 'fd00::1', 'fd00:0:0:1::1']
const PORTS = [80, 81, 8080]

const call: fc.Arbitrary<PolicyCall> = fc
  .record({
    identity: fc.option(
      fc.tuple(
        fc.constantFrom('prod', 'old', 'foreign'),
        fc.constantFrom(...NAMES),
        fc.constantFrom(...NAMES),
      ),
      { nil: undefined },
    ),
    source: fc.constantFrom(...ADDRESSES),
    address: fc.constantFrom(...ADDRESSES),
    port: fc.constantFrom(...PORTS),
  })
  .map(({ identity, source, address, port }) => ({
    identity:
      identity === undefined
        ? undefined
        : (`spiffe://${identity[0]}/ns/${identity[1]}/sa/${identity[2]}` as SpiffeId),
    source: ip(source),
    destination: { address: ip(address), port },
  }))

type Compare = (value: string, call: PolicyCall) => boolean

function matchesText(pattern: string, text: string): boolean {
  if (text === '') return false
  if (pattern === '*') return true
  if (pattern.startsWith('*')) return text.endsWith(pattern.slice(1))
  return pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : text === pattern
}

const partsOf = (call: PolicyCall): readonly string[] => call.identity?.split('/') ?? []

const COMPARE: Readonly<Record<string, Compare>> = {
  // What the mesh calls itself stands for each of its names.
  principals: (value, { identity = '' }) => {
    const text = identity.slice('spiffe://'.length)
    const [domain = '', ...rest] = value.split('/')
    const isOwn = rest.length > 0 && ['prod', 'old', 'cluster.local'].includes(domain)
    return isOwn
      ? ['prod', 'old'].some((name) => matchesText([name, ...rest].join('/'), text))
      : matchesText(value, text)
  },
  namespaces: (value, each) => matchesText(value, partsOf(each)[4] ?? ''),
  serviceAccounts: (value, each) => {
    const parts = partsOf(each)
    return (value.includes('/') ? value : `shop/${value}`) === `${parts[4]}/${parts[6]}`
  },
  ipBlocks: (value, { source }) => isWithin(source, value),
  destinationIps: (value, { destination }) => isWithin(destination.address, value),
  ports: (value, { destination }) => value === String(destination.port),
}

function isWithin(address: string, block: string): boolean {
  const parsed = ipaddr.process(address)
  const [base = '', bits] = block.split('/')
  const network = ipaddr.process(base)
  if (network.kind() !== parsed.kind()) return false
  const length = bits === undefined ? (network.kind() === 'ipv4' ? 32 : 128) : Number(bits)
  return network instanceof ipaddr.IPv4 && parsed instanceof ipaddr.IPv4
    ? parsed.match(network, length)
    : (parsed as ipaddr.IPv6).match(network, length)
}

const text = fc.oneof(
  fc.constant('*'),
  fc.constantFrom(...NAMES),
  fc.constantFrom(...NAMES).map((each) => `${each}*`),
  fc.constantFrom(...NAMES).map((each) => `*${each}`),
)
const principal = fc.oneof(
  fc.constant('*'),
  fc
    .tuple(fc.constantFrom(...DOMAINS), fc.constantFrom(...NAMES), fc.constantFrom(...NAMES))
    .chain(([domain, namespace, account]) =>
      fc.constantFrom(
        `${domain}/ns/${namespace}/sa/${account}`,
        `${domain}/ns/${namespace}/*`,
        `${domain}/*`,
        `*/sa/${account}`,
      ),
    ),
)
const block = fc.oneof(
  fc.constantFrom(...ADDRESSES),
  fc.constantFrom(...ADDRESSES).chain((address) => {
    const longest = address.includes(':') ? 128 : 32
    return fc.nat(longest).map((bits) => `${address}/${bits}`)
  }),
)
const VALUES: Readonly<Record<string, fc.Arbitrary<string>>> = {
  principals: principal,
  namespaces: text,
  serviceAccounts: fc.oneof(
    fc.constantFrom(...NAMES),
    fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...NAMES)).map((pair) => pair.join('/')),
  ),
  ipBlocks: block,
  destinationIps: block,
  ports: fc.constantFrom(...PORTS.map(String)),
}

/** One field of a source or operation, or one condition, and what it says of a call. */
interface Said {
  readonly name: string
  readonly value: unknown
  readonly isFlawed: boolean
  readonly holds: (call: PolicyCall) => Truth
}

const negated = (name: string): string => `not${name.charAt(0).toUpperCase()}${name.slice(1)}`

function plain(name: string, isNegated: boolean): fc.Arbitrary<Said> {
  const values = VALUES[name] ?? fc.constant('')
  return fc.array(values, { minLength: 1, maxLength: 3 }).map((list) => ({
    name: isNegated ? negated(name) : name,
    value: list,
    isFlawed: false,
    holds: (each) => {
      const compare = COMPARE[name] ?? (() => false)
      const truth = list.some((value) => compare(value, each)) ? 'yes' : 'no'
      return isNegated ? not(truth) : truth
    },
  }))
}

const unknown = (name: string, value: unknown): Said => ({
  name,
  value,
  isFlawed: true,
  holds: () => 'unknown',
})
const nonsense = fc.constantFrom<unknown>('a', 5, true, {}, [], [5], [null], [''], ['x*y'], [{}])

function fields(names: readonly string[], others: readonly string[]): fc.Arbitrary<Said[]> {
  const one = fc.oneof(
    {
      weight: 8,
      arbitrary: fc
        .tuple(fc.constantFrom(...names), fc.boolean())
        .chain(([name, no]) => plain(name, no)),
    },
    { weight: 1, arbitrary: fc.constantFrom(...others).map((name) => unknown(name, ['GET'])) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom(...names), nonsense)
        .map(([name, value]) => unknown(name, value)),
    },
  )
  return fc.uniqueArray(one, { minLength: 1, maxLength: 3, selector: ({ name }) => name })
}

const source = fields(
  ['principals', 'namespaces', 'ipBlocks'],
  ['requestPrincipals', 'remoteIpBlocks', 'trustDomains', 'surprise'],
)
const accounts = fc
  .boolean()
  .chain((no) => plain('serviceAccounts', no))
  .map((each) => [each])
const operation = fields(['ports'], ['methods', 'paths', 'hosts', 'notMethods', 'surprise'])

const KEYS = {
  'source.ip': 'ipBlocks',
  'source.namespace': 'namespaces',
  'source.principal': 'principals',
  'source.serviceAccount': 'serviceAccounts',
  'destination.ip': 'destinationIps',
  'destination.port': 'ports',
} as const
const condition: fc.Arbitrary<Said> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom(...(Object.keys(KEYS) as (keyof typeof KEYS)[])), fc.boolean())
      .chain(([key, no]) =>
        plain(KEYS[key], no).map((said) => ({
          ...said,
          value: { key, [no ? 'notValues' : 'values']: said.value },
        })),
      ),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('request.headers[x]', 'source.colour', 'connection.sni', 'remote.ip')
      .map((key) => unknown(key, { key, values: ['x'] })),
  },
)

interface Rule {
  readonly yaml: object
  readonly isFlawed: boolean
  readonly holds: (call: PolicyCall) => Truth
}

const alternatives = (one: fc.Arbitrary<Said[]>): fc.Arbitrary<Said[][] | undefined> =>
  fc.option(fc.array(one, { minLength: 1, maxLength: 2 }), { nil: undefined })

const rule: fc.Arbitrary<Rule> = fc
  .record({
    from: alternatives(
      fc.oneof({ weight: 3, arbitrary: source }, { weight: 1, arbitrary: accounts }),
    ),
    to: alternatives(operation),
    when: fc.option(fc.array(condition, { minLength: 1, maxLength: 2 }), { nil: undefined }),
  })
  .map(({ from, to, when }) => {
    const yamlOf = (inner: string, list: Said[][] | undefined) =>
      list?.map((said) => ({
        [inner]: Object.fromEntries(said.map(({ name, value }) => [name, value])),
      }))
    const holdsOne = (list: Said[][] | undefined, each: PolicyCall): Truth =>
      list === undefined
        ? 'yes'
        : any(list.map((said) => all(said.map(({ holds }) => holds(each)))))
    return {
      yaml: {
        ...(from && { from: yamlOf('source', from) }),
        ...(to && { to: yamlOf('operation', to) }),
        ...(when && { when: when.map(({ value }) => value) }),
      },
      isFlawed: [...(from ?? []), ...(to ?? []), when ?? []].flat().some((said) => said.isFlawed),
      holds: (each) =>
        all([
          holdsOne(from, each),
          holdsOne(to, each),
          all((when ?? []).map(({ holds }) => holds(each))),
        ]),
    }
  })

/** Whether the policy lets the call through, as it comes to an agent. */
function isLetIn(action: 'ALLOW' | 'DENY', rules: readonly Rule[], each: PolicyCall): boolean {
  const { facts } = readAuthorizationPolicy(
    {
      metadata: { name: 'p', namespace: 'shop' },
      spec: { action, rules: rules.map(({ yaml }) => yaml) },
    },
    ORIGIN,
  )
  const policy = facts === undefined ? undefined : authorizationOf(MESH, facts)?.policy
  if (policy === undefined) throw new Error('there is a policy')
  const sent = POLICY.decode(POLICY.encode(policy))
  if (!sent.ok) throw new Error(`agents cannot read it: ${sent.error.field} ${sent.error.reason}`)
  return PolicySet.of([sent.value]).evaluate(each).kind === 'allowed'
}

const policy = fc.array(rule, { maxLength: 3 })

void t.test('an ALLOW lets in nobody whom it does not certainly allow', async (t) => {
  const seen = { allowed: 0, refused: 0, plain: 0 }
  fc.assert(
    fc.property(policy, fc.array(call, { minLength: 1, maxLength: 8 }), (rules, calls) => {
      const isFlawed = rules.some((each) => each.isFlawed)
      for (const each of calls) {
        const truth = any(rules.map(({ holds }) => holds(each)))
        const isAllowed = isLetIn('ALLOW', rules, each)
        seen[isAllowed ? 'allowed' : 'refused'] += 1
        if (!isFlawed) seen.plain += 1
        if (isAllowed && truth !== 'yes') return false
        if (!isFlawed && isAllowed !== (truth === 'yes')) return false
      }
      return true
    }),
    { numRuns: 3000 },
  )
  t.ok(Math.min(...Object.values(seen)) > 500, JSON.stringify(seen))
})

void t.test('a DENY lets in nobody whom it may deny', async (t) => {
  const seen = { allowed: 0, refused: 0, plain: 0 }
  fc.assert(
    fc.property(policy, fc.array(call, { minLength: 1, maxLength: 8 }), (rules, calls) => {
      const isFlawed = rules.some((each) => each.isFlawed)
      for (const each of calls) {
        const truth = any(rules.map(({ holds }) => holds(each)))
        const isAllowed = isLetIn('DENY', rules, each)
        seen[isAllowed ? 'allowed' : 'refused'] += 1
        if (!isFlawed) seen.plain += 1
        if (isAllowed && truth !== 'no') return false
        if (!isFlawed && isAllowed !== (truth === 'no')) return false
      }
      return true
    }),
    { numRuns: 3000 },
  )
  t.ok(Math.min(...Object.values(seen)) > 500, JSON.stringify(seen))
})

void t.test('whatever stands in an object, reading it ends, and closes', async (t) => {
  const value = fc.jsonValue({ maxDepth: 4 })
  const odd = fc.record({
    spec: fc.oneof(
      value,
      fc.record(
        {
          selector: value,
          action: fc.oneof(fc.constantFrom('ALLOW', 'DENY', 'AUDIT'), value),
          rules: fc.oneof(
            value,
            fc.array(fc.record({ from: value, to: value, when: value }, { requiredKeys: [] })),
          ),
        },
        { requiredKeys: [] },
      ),
    ),
    status: value,
  })
  fc.assert(
    fc.property(odd, call, (object, each) => {
      const metadata = { name: 'p', namespace: 'shop' }
      const { facts, problems } = readAuthorizationPolicy({ metadata, ...object }, ORIGIN)
      if (facts === undefined) return false
      const placed = authorizationOf(CONFIG, facts)
      if (placed === undefined)
        return (
          facts.action === 'audit' || facts.action === 'custom' || facts.target.kind === 'attached'
        )
      const isInvalid = facts.flaws.length > 0
      t.equal(problems.length > 0, isInvalid)
      const verdict = PolicySet.of([placed.policy]).evaluate(each)
      // Of nonsense nothing is let in by an ALLOW; a DENY may have rules that are whole and do not match.
      return facts.action === 'audit' || facts.action === 'deny' || !isInvalid || facts.isDryRun
        ? true
        : verdict.kind !== 'allowed' || facts.rules.some(({ isPartial }) => !isPartial)
    }),
    { numRuns: 3000 },
  )
})
