// SPDX-License-Identifier: Apache-2.0
// Who must prove who they are: what PeerAuthentications of mesh, namespace and workload come to, and that the policies made of them
// refuse exactly those. The witness is a table: of each port the first mode that is said, from the innermost outwards.

import fc from 'fast-check'
import t from 'tap'
import { POLICY } from '../../mesh/model/policy.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import {
  type InForce,
  mutualTlsOf,
  type MutualTlsMode,
  oldest,
  type PeerAuthentication,
  policyOfMutualTls,
} from '../../mesh/policy/peer-authentication.ts'
import { ip } from '../model/samples.ts'
import { sampleCall } from './samples.ts'

const ROOT = 'istio-system'
interface Asked {
  readonly namespace: string
  readonly labels: ReadonlyMap<string, string>
}

const WEB: Asked = { namespace: 'shop', labels: new Map([['app', 'web']]) }

function auth(
  name: string,
  mode: MutualTlsMode,
  overrides: Partial<PeerAuthentication> = {},
): PeerAuthentication {
  return {
    namespace: 'shop',
    name,
    createdAt: '2026-01-01T00:00:00Z',
    selector: undefined,
    mode,
    ports: new Map(),
    ...overrides,
  }
}

const app = (value: string): ReadonlyMap<string, string> => new Map([['app', value]])

/** What stands in force for a workload out of all there are; in the root namespace, what has no selector is of the whole mesh. */
function inForceFor(
  objects: readonly PeerAuthentication[],
  rootNamespace: string,
  workload: Asked,
): InForce {
  const { namespace, labels } = workload
  const ofAll = (place: string): PeerAuthentication | undefined =>
    oldest(objects.filter((each) => each.namespace === place && each.selector === undefined))
  return {
    mesh: ofAll(rootNamespace),
    // Else what is of the mesh would be asked twice, with the same answer.
    namespace: namespace === rootNamespace ? undefined : ofAll(namespace),
    workload: oldest(
      objects.filter(
        ({ namespace: place, selector }) => place === namespace && selects(selector, labels),
      ),
    ),
  }
}

function selects(
  selector: ReadonlyMap<string, string> | undefined,
  labels: ReadonlyMap<string, string>,
): boolean {
  return selector !== undefined && [...selector].every(([key, value]) => labels.get(key) === value)
}

function policyFor(objects: readonly PeerAuthentication[], workload = WEB) {
  return policyOfMutualTls(ROOT, mutualTlsOf(inForceFor(objects, ROOT, workload)))
}

/** Whether a call in plain text comes in, at these ports. */
function admitsPlaintext(
  objects: readonly PeerAuthentication[],
  ports: readonly number[],
  workload = WEB,
): readonly boolean[] {
  const policy = policyFor(objects, workload)
  const set = PolicySet.of(policy === undefined ? [] : [policy])
  const asked = (identity: ReturnType<typeof sampleCall>['identity'], port: number): boolean =>
    set.evaluate(sampleCall({ identity, destination: { address: ip('10.244.1.9'), port } }))
      .kind === 'allowed'
  // Who proves who it is is refused by none of it.
  for (const port of ports)
    if (!asked(sampleCall().identity, port)) throw new Error(`mutual TLS is refused at ${port}`)
  return ports.map((port) => asked(undefined, port))
}

void t.test('nothing said is permissive, and says no policy', (t) => {
  t.equal(policyFor([]), undefined)
  t.equal(policyFor([auth('a', 'unset')]), undefined)
  t.equal(policyFor([auth('a', 'disable')]), undefined)
  t.equal(policyFor([auth('other', 'strict', { namespace: 'bank' })]), undefined)
  t.equal(policyFor([auth('other', 'strict', { selector: app('db') })]), undefined)
  t.end()
})

void t.test('a strict mesh is Istio’s static policy, and says which object asks for it', (t) => {
  const policy = policyFor([auth('default', 'strict', { namespace: ROOT })])
  t.match(policy, {
    key: 'istio-system/istio_converted_static_strict',
    scope: 'workload',
    action: 'deny',
    madeOf: 'PeerAuthentication istio-system/default',
    rules: [{ clauses: [{ matches: [{ notPrincipals: [{ kind: 'present' }] }] }] }],
  })
  t.end()
})

void t.test('the namespace decides before the mesh, the workload before both', (t) => {
  const mesh = (mode: MutualTlsMode) => auth('default', mode, { namespace: ROOT })
  const namespace = (mode: MutualTlsMode) => auth('all', mode)
  const workload = (mode: MutualTlsMode) => auth('web', mode, { selector: app('web') })
  t.match(policyFor([mesh('permissive'), namespace('strict')]), {
    key: 'shop/converted_peer_authentication_all',
    madeOf: 'PeerAuthentication shop/all',
  })
  t.equal(policyFor([mesh('strict'), namespace('disable')]), undefined)
  t.equal(policyFor([mesh('strict'), namespace('strict'), workload('permissive')]), undefined)
  t.match(policyFor([mesh('strict'), namespace('unset'), workload('unset')]), {
    madeOf: 'PeerAuthentication istio-system/default',
  })
  t.match(policyFor([mesh('permissive'), workload('strict')]), {
    madeOf: 'PeerAuthentication shop/web',
  })
  t.end()
})

void t.test('a port of a workload that is permissive is open under a strict namespace', (t) => {
  const objects = [
    auth('all', 'strict'),
    auth('web', 'unset', {
      selector: app('web'),
      ports: new Map([
        [9090, 'permissive'],
        [8080, 'unset'],
        [8443, 'strict'],
      ]),
    }),
  ]
  t.strictSame(admitsPlaintext(objects, [9090, 8080, 8443, 1]), [true, false, false, false])
  t.match(policyFor(objects), {
    key: 'shop/converted_peer_authentication_web',
    madeOf: 'PeerAuthentication shop/web',
  })
  // Its neighbour in the namespace has no such port.
  const other = { namespace: 'shop', labels: app('db') }
  t.strictSame(admitsPlaintext(objects, [9090], other), [false])
  t.end()
})

void t.test('a strict port of a permissive workload is closed, and no other', (t) => {
  const objects = [
    auth('web', 'permissive', {
      selector: app('web'),
      ports: new Map([
        [443, 'strict'],
        [444, 'strict'],
        [80, 'disable'],
      ]),
    }),
  ]
  t.strictSame(admitsPlaintext(objects, [443, 444, 80, 8080]), [false, false, true, true])
  t.end()
})

void t.test('ports without a selector mean nothing', (t) => {
  const ports = new Map<number, MutualTlsMode>([[80, 'strict']])
  t.equal(policyFor([auth('all', 'permissive', { ports })]), undefined)
  t.end()
})

void t.test('of two for the same the oldest counts, of equally old ones the first by name', (t) => {
  const at = (name: string, mode: MutualTlsMode, createdAt: string) =>
    auth(name, mode, { createdAt, selector: app('web') })
  const early = '2026-01-01T00:00:00Z'
  const late = '2026-01-02T00:00:00Z'
  for (const objects of [
    [at('b', 'strict', early), at('a', 'permissive', late)],
    [at('a', 'permissive', late), at('b', 'strict', early)],
    [at('b', 'strict', early), at('c', 'permissive', early)],
  ])
    t.match(policyFor(objects), { madeOf: 'PeerAuthentication shop/b' })
  t.end()
})

void t.test('what has a selector in the root namespace is of its own workloads alone', (t) => {
  const objects = [auth('gate', 'strict', { namespace: ROOT, selector: app('web') })]
  t.equal(policyFor(objects), undefined)
  t.match(policyFor(objects, { namespace: ROOT, labels: app('web') }), {
    key: 'istio-system/converted_peer_authentication_gate',
  })
  t.end()
})

const MODES: readonly MutualTlsMode[] = ['unset', 'disable', 'permissive', 'strict']
const PORTS = [1, 80, 443, 8080]
const mode = fc.constantFrom(...MODES)
const anyAuth: fc.Arbitrary<Omit<PeerAuthentication, 'name'>> = fc.record({
  namespace: fc.constantFrom(ROOT, 'shop', 'bank'),
  createdAt: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
  selector: fc.option(
    fc.constantFrom(app('web'), app('db'), new Map([...app('web'), ['v', '2']])),
    {
      nil: undefined,
    },
  ),
  mode,
  ports: fc
    .array(fc.tuple(fc.constantFrom(...PORTS), mode), { maxLength: 4 })
    .map((entries) => new Map(entries)),
})

/** Of one port: the first that is said, from the innermost outwards. */
function isStrict(objects: readonly PeerAuthentication[], workload: Asked, port: number): boolean {
  const firstOf = (list: readonly PeerAuthentication[]): PeerAuthentication | undefined =>
    list.toSorted((left, right) =>
      `${left.createdAt} ${left.name}`.localeCompare(`${right.createdAt} ${right.name}`),
    )[0]
  const own = firstOf(
    objects.filter(
      ({ namespace, selector }) =>
        namespace === workload.namespace &&
        selector !== undefined &&
        [...selector].every(([key, value]) => workload.labels.get(key) === value),
    ),
  )
  const around = [workload.namespace, ROOT].map((place) =>
    firstOf(objects.filter(({ namespace, selector }) => namespace === place && !selector)),
  )
  const said = [own?.ports.get(port), own?.mode, ...around.map((each) => each?.mode)]
  return said.find((each) => each !== undefined && each !== 'unset') === 'strict'
}

void t.test('the policies refuse whom the objects refuse, at every port', (t) => {
  const seen = { open: 0, closed: 0 }
  const workload = fc.record({
    namespace: fc.constantFrom(ROOT, 'shop', 'bank'),
    labels: fc.constantFrom(app('web'), app('db'), new Map([...app('web'), ['v', '2']])),
  })
  fc.assert(
    fc.property(fc.array(anyAuth, { maxLength: 7 }), workload, (unnamed, of) => {
      const objects = unnamed.map((each, index) => ({ ...each, name: `a${index}` }))
      const ports = [...PORTS, 9999]
      const admitted = admitsPlaintext(objects, ports, of)
      for (const [index, port] of ports.entries()) {
        seen[admitted[index] === true ? 'open' : 'closed'] += 1
        if (admitted[index] === isStrict(objects, of, port))
          throw new Error(`port ${port}: ${admitted[index]}`)
      }
      const policy = policyFor(objects, of)
      // What agents read of it over the wire is the same.
      if (policy !== undefined)
        t.strictSame(POLICY.decode(POLICY.encode(policy)), { ok: true, value: policy })
    }),
    { numRuns: 2_000 },
  )
  t.ok(seen.open > 1_000 && seen.closed > 1_000, JSON.stringify(seen))
  t.end()
})
