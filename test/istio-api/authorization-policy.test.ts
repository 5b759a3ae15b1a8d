// SPDX-License-Identifier: Apache-2.0
// What an AuthorizationPolicy becomes: field by field, and never wider than it is written.

import t from 'tap'
import { readAuthorizationPolicy } from '../../controller/istio-api/authorization-policy.ts'
import { authorizationOf } from '../../controller/istio-api/authorization-rules.ts'
import { EMPTY_MATCH, POLICY, type PolicyMatch } from '../../mesh/model/policy.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { CONFIG, ORIGIN } from '../core/objects.ts'

interface Choices {
  readonly namespace?: string
  readonly annotations?: unknown
  readonly config?: typeof CONFIG
}

/** What comes of a policy with this spec in the namespace shop. */
function convert(spec: unknown, { namespace = 'shop', annotations, config }: Choices = {}) {
  const metadata = { name: 'p', namespace, ...(annotations === undefined ? {} : { annotations }) }
  const { facts, problems } = readAuthorizationPolicy({ metadata, spec }, ORIGIN)
  if (facts === undefined) throw new Error('no facts')
  const placed = authorizationOf(config ?? CONFIG, facts)
  return { facts, problems, placed, policy: placed?.policy, flaws: facts.flaws }
}

/** The one match of a policy with one rule. */
function matchOf(rule: unknown, choices?: Choices): Partial<PolicyMatch> | undefined {
  const { policy, flaws } = convert({ rules: [rule] }, choices)
  if (flaws.length > 0) throw new Error(JSON.stringify(flaws))
  const [clause, ...others] = policy?.rules[0]?.clauses ?? []
  const match = clause?.matches[0]
  if (match === undefined || others.length > 0 || clause?.matches.length !== 1) return undefined
  return Object.fromEntries(
    Object.entries(match).filter(([name, value]) => value !== EMPTY_MATCH[name as never]),
  )
}

const source = (fields: object) => ({ from: [{ source: fields }] })
const operation = (fields: object) => ({ to: [{ operation: fields }] })
const when = (key: string, values: readonly unknown[]) => ({ when: [{ key, values }] })
const whenNot = (key: string, notValues: readonly unknown[]) => ({ when: [{ key, notValues }] })

void t.test('each condition of layer 4 becomes its field, with its negation', async (t) => {
  const texts = ['exact', 'prefix*', '*suffix', '*']
  const matches = [
    { kind: 'exact', text: 'exact' },
    { kind: 'prefix', text: 'prefix' },
    { kind: 'suffix', text: 'suffix' },
    { kind: 'present' },
  ]
  const accounts = [
    { namespace: 'front', serviceAccount: 'web' },
    { namespace: 'shop', serviceAccount: 'own' },
  ]
  const ranges = [
    { address: '10.0.0.1', length: 32 },
    { address: '10.0.0.0', length: 8 },
    { address: 'fd00::1', length: 128 },
    { address: 'fd00::', length: 64 },
    { address: '10.1.0.0', length: 16 },
  ]
  const blocks = ['10.0.0.1', '10.0.0.0/8', 'FD00::1', 'fd00::/64', '::ffff:10.1.0.0/112']
  const names = ['front/web', 'own']
  const cases: readonly (readonly [object, object])[] = [
    [source({ principals: texts }), { principals: matches }],
    [source({ notPrincipals: texts }), { notPrincipals: matches }],
    [source({ namespaces: texts }), { namespaces: matches }],
    [source({ notNamespaces: texts }), { notNamespaces: matches }],
    [source({ serviceAccounts: names }), { serviceAccounts: accounts }],
    [source({ notServiceAccounts: names }), { notServiceAccounts: accounts }],
    [source({ ipBlocks: blocks }), { sourceIps: ranges }],
    [source({ notIpBlocks: blocks }), { notSourceIps: ranges }],
    [operation({ ports: ['80', '65535'] }), { destinationPorts: [80, 65_535] }],
    [operation({ notPorts: ['1'] }), { notDestinationPorts: [1] }],
    [when('source.ip', blocks), { sourceIps: ranges }],
    [whenNot('source.ip', blocks), { notSourceIps: ranges }],
    [when('source.namespace', texts), { namespaces: matches }],
    [whenNot('source.namespace', texts), { notNamespaces: matches }],
    [when('source.principal', texts), { principals: matches }],
    [whenNot('source.principal', texts), { notPrincipals: matches }],
    [when('source.serviceAccount', names), { serviceAccounts: accounts }],
    [whenNot('source.serviceAccount', names), { notServiceAccounts: accounts }],
    [when('destination.ip', blocks), { destinationIps: ranges }],
    [whenNot('destination.ip', blocks), { notDestinationIps: ranges }],
    [when('destination.port', ['80']), { destinationPorts: [80] }],
    [whenNot('destination.port', ['80']), { notDestinationPorts: [80] }],
    [
      source({ principals: ['spiffe://cluster.local/ns/a/sa/b'] }),
      { principals: [{ kind: 'exact', text: 'cluster.local/ns/a/sa/b' }] },
    ],
    [
      { when: [{ key: 'destination.port', values: ['80'], notValues: ['81'] }] },
      { destinationPorts: [80], notDestinationPorts: [81] },
    ],
    [
      source({ principals: ['a'], notNamespaces: ['b'], ipBlocks: ['10.0.0.1'] }),
      {
        principals: [{ kind: 'exact', text: 'a' }],
        notNamespaces: [{ kind: 'exact', text: 'b' }],
        sourceIps: [{ address: '10.0.0.1', length: 32 }],
      },
    ],
  ]
  for (const [rule, expected] of cases) t.strictSame(matchOf(rule), expected, JSON.stringify(rule))
})

void t.test('rules and alternatives are any of, the parts of a rule all of', async (t) => {
  const { policy } = convert({
    rules: [
      {
        from: [{ source: { namespaces: ['a'] } }, { source: { namespaces: ['b'] } }],
        to: [{ operation: { ports: ['80'] } }, { operation: { ports: ['81'] } }],
        when: [
          { key: 'source.ip', values: ['10.0.0.1'] },
          { key: 'destination.port', notValues: ['82'] },
        ],
      },
      {},
    ],
  })
  const fields = policy?.rules.map(({ place, clauses }) => [
    place,
    clauses.map(({ matches }) =>
      matches.map((match) =>
        Object.keys(match).filter((name) => match[name as never] !== EMPTY_MATCH[name as never]),
      ),
    ),
  ])
  t.strictSame(fields, [
    [
      0,
      [
        [['namespaces'], ['namespaces']],
        [['destinationPorts'], ['destinationPorts']],
        [['sourceIps']],
        [['notDestinationPorts']],
      ],
    ],
    [1, []],
  ])
})

void t.test('scope follows from where a policy lies and what it selects', async (t) => {
  const selector = { matchLabels: { version: 'v1', app: 'web' } }
  t.match(convert({}).placed, { area: 'shop', selector: undefined, policy: { scope: 'namespace' } })
  t.match(convert({}, { namespace: 'istio-system' }).placed, {
    area: '*',
    policy: { scope: 'mesh', key: 'istio-system/p' },
  })
  const labels = new Map([
    ['app', 'web'],
    ['version', 'v1'],
  ])
  t.strictSame(convert({ selector }).placed?.selector, labels)
  t.match(convert({ selector }).placed, { area: 'shop', policy: { scope: 'workload' } })
  t.match(convert({ selector }, { namespace: 'istio-system' }).placed, {
    area: '*',
    policy: { scope: 'workload' },
  })
  for (const all of [{ selector: {} }, { selector: { matchLabels: {} } }, { targetRefs: [] }])
    t.match(convert(all), { placed: { policy: { scope: 'namespace' } }, flaws: [] })
  for (const attached of [
    { targetRefs: [{ kind: 'Service', group: '', name: 'web' }], rules: [{}] },
    { targetRef: { kind: 'Gateway', name: 'w' } },
    { targetRefs: 5 },
  ])
    t.match(convert(attached), { placed: undefined, facts: { target: { kind: 'attached' } } })
})

void t.test('actions, trials and what is not for agents', async (t) => {
  t.match(convert(undefined).policy, {
    action: 'allow',
    rules: [],
    isDryRun: false,
    isAudit: false,
  })
  t.match(convert({ action: 'ALLOW', rules: [{}] }).policy, { action: 'allow', rules: [{}] })
  t.match(convert({ action: 'DENY' }).policy, { action: 'deny', rules: [] })
  t.match(convert({ action: 'AUDIT', rules: [{}] }).policy, {
    action: 'deny',
    isAudit: true,
    isDryRun: true,
  })
  t.match(convert({ action: 'CUSTOM', provider: { name: 'x' }, rules: [{}] }), {
    placed: undefined,
    facts: { action: 'custom' },
  })
  const dryRun = (text: unknown) => convert({}, { annotations: { 'istio.io/dry-run': text } })
  for (const yes of ['true', 'True', '1', 't']) t.equal(dryRun(yes).policy?.isDryRun, true, yes)
  for (const no of ['false', '0']) t.match(dryRun(no), { policy: { isDryRun: false }, flaws: [] })
  for (const odd of ['yes', '', 5])
    t.match(dryRun(odd), {
      policy: { isDryRun: false },
      flaws: [{ kind: 'invalid', field: 'metadata.annotations[istio.io/dry-run]' }],
    })
})

void t.test('principals of the mesh are those of each name of its trust domain', async (t) => {
  const config = { ...CONFIG, trustDomain: 'prod', trustDomainAliases: ['old', 'older'] }
  const principals = (values: readonly string[]) =>
    matchOf(source({ principals: values }), { config })?.principals?.map((match) =>
      match.kind === 'present' ? '*' : `${match.kind} ${match.text}`,
    )
  const each = (rest: string, kind = 'exact') =>
    ['prod', 'old', 'older'].map((domain) => `${kind} ${domain}${rest}`)
  t.strictSame(principals(['cluster.local/ns/a/sa/b']), each('/ns/a/sa/b'))
  t.strictSame(principals(['prod/ns/a/sa/b']), each('/ns/a/sa/b'))
  t.strictSame(principals(['old/ns/a/*']), each('/ns/a/', 'prefix'))
  t.strictSame(principals(['other/ns/a/sa/b', '*/sa/b', '*', 'pro*', 'prod']), [
    'exact other/ns/a/sa/b',
    'suffix /sa/b',
    '*',
    'prefix pro',
    'exact prod',
  ])
  const not = matchOf(source({ notPrincipals: ['prod/ns/a/sa/b'] }), { config })
  t.equal(not?.notPrincipals?.length, 3, 'who is left out is so under each name')
})

/** What cannot be evaluated, as a rule of which it is one half and the port 80 the other. */
const UNEVALUABLE: readonly (readonly [string, 'invalid' | 'unsupported', object, string])[] = [
  ...['requestPrincipals', 'notRequestPrincipals', 'remoteIpBlocks', 'notRemoteIpBlocks'].map(
    (name) =>
      [
        name,
        'unsupported',
        source({ [name]: ['x'] }),
        `spec.rules[0].from[0].source.${name}`,
      ] as const,
  ),
  ...['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'].map(
    (name) =>
      [
        name,
        'unsupported',
        { to: [{ operation: { ports: ['80'], [name]: ['x'] } }] },
        `spec.rules[0].to[0].operation.${name}`,
      ] as const,
  ),
  ...[
    'request.headers[x-y]',
    'request.auth.principal',
    'request.auth.claims[a][b]',
    'remote.ip',
    'connection.sni',
    'source.trustDomain',
    'experimental.envoy.filters.network.mysql_proxy[db.table]',
  ].map((key) => [key, 'unsupported', when(key, ['x']), 'spec.rules[0].when[0].values'] as const),
  ...[
    ['principals', ['']],
    ['principals', ['a*b']],
    ['principals', ['*a*']],
    ['principals', ['**']],
    ['principals', []],
    ['principals', 'a'],
    ['principals', [5]],
    ['principals', [null]],
    ['principals', ['x'.repeat(1000)]],
    ['namespaces', [{}]],
    ['ipBlocks', ['10.0.0.0/33']],
    ['ipBlocks', ['10.0.0.0/08']],
    ['ipBlocks', ['10.0.0.0/']],
    ['ipBlocks', ['10.0.0']],
    ['ipBlocks', ['fe80::1%eth0']],
    ['ipBlocks', ['::ffff:10.0.0.0/90']],
    ['ipBlocks', ['fd00::/129']],
    ['serviceAccounts', ['a/b/c']],
    ['serviceAccounts', ['a/*']],
    ['serviceAccounts', ['/a']],
    ['serviceAccounts', new Array(17).fill('a')],
    ['surprise', ['x']],
    ['__proto__', ['x']],
  ].map(([name, value]) => {
    // As JSON has it: a field of that name, whatever the language makes of it.
    const fields = JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`) as object
    return [
      `${String(name)} ${JSON.stringify(value).slice(0, 30)}`,
      'invalid',
      source(fields),
      `spec.rules[0].from[0].source.${String(name)}`,
    ] as const
  }),
  ...['0', '65536', '080', ' 80', '-1', '1e3', '', 'http', 80].map(
    (port) =>
      [
        `port ${JSON.stringify(port)}`,
        'invalid',
        operation({ ports: [port] }),
        'spec.rules[0].to[0].operation.ports[0]',
      ] as const,
  ),
  ['no source', 'invalid', { from: [{}] }, 'spec.rules[0].from[0].source'],
  ['an empty source', 'invalid', source({}), 'spec.rules[0].from[0].source'],
  ['a source of nothing', 'invalid', source({ principals: null }), 'spec.rules[0].from[0].source'],
  ['no alternative', 'invalid', { from: [] }, 'spec.rules[0].from'],
  ['no list', 'invalid', { from: {} }, 'spec.rules[0].from'],
  ['an unknown part', 'invalid', { form: [] }, 'spec.rules[0].form'],
  ['an unknown key', 'invalid', when('source.colour', ['x']), 'spec.rules[0].when[0].key'],
  ['no values', 'invalid', { when: [{ key: 'source.ip' }] }, 'spec.rules[0].when[0]'],
  [
    'accounts beside principals',
    'invalid',
    source({ serviceAccounts: ['a'], principals: ['b'] }),
    'spec.rules[0].from[0].source',
  ],
]

void t.test('a rule with a condition that cannot be evaluated allows nothing', async (t) => {
  for (const [name, kind, rule, field] of UNEVALUABLE) {
    const { policy, flaws, problems } = convert({ rules: [rule, { to: [] }, {}] })
    t.strictSame(
      policy?.rules.map(({ place }) => place),
      [2],
      name,
    )
    const [flaw] = flaws
    t.equal(flaw?.kind, kind, `${name}: ${flaw?.reason}`)
    t.ok(flaw?.field.startsWith(field), `${name}: ${flaw?.field}`)
    t.equal(problems[0]?.kind, 'AuthorizationPolicy', 'and it is in the log')
  }
})

void t.test(
  'of a denial it is left out: the rest denies, and nothing left denies all',
  async (t) => {
    for (const [name, , rule] of UNEVALUABLE) {
      // The condition with nothing beside it, and beside a port.
      const { policy } = convert({ action: 'DENY', rules: [rule] })
      t.equal(policy?.rules.length, 1, name)
      const beside = { ...rule, when: [...('when' in rule ? (rule.when as []) : []), PORT_81] }
      const left = convert({ action: 'DENY', rules: [beside] }).policy?.rules[0]?.clauses ?? []
      t.ok(
        left.some(({ matches }) => matches[0]?.destinationPorts[0] === 81),
        name,
      )
      t.notOk(
        left.some(({ matches }) => matches.some((match) => match.principals.length > 0)),
        `${name}: no value of a list that is not read whole`,
      )
    }
    const all = convert({ action: 'DENY', rules: [operation({ methods: ['GET'] })] })
    t.strictSame(all.policy?.rules, [{ place: 0, clauses: [] }], 'never a denial without effect')
    const anyOf = {
      from: [{ source: { principals: ['a'] } }, { source: { requestPrincipals: ['b'] } }],
    }
    t.strictSame(
      convert({ action: 'DENY', rules: [anyOf] }).policy?.rules,
      [{ place: 0, clauses: [] }],
      'an alternative that could be anything is everything',
    )
  },
)

const PORT_81 = { key: 'destination.port', values: ['81'] }

void t.test('an object that cannot be read is closed for all that it may concern', async (t) => {
  const selector = { matchLabels: { app: 'web' } }
  const closed = [{ clauses: [], place: undefined }]
  const cases: readonly (readonly [string, unknown, object])[] = [
    ['no map', 'text', { action: 'deny', scope: 'namespace', rules: closed }],
    [
      'an action that is none',
      { action: 'ALLOWED', selector, rules: [{}] },
      { action: 'deny', scope: 'workload', rules: closed },
    ],
    [
      'an action of another type',
      { action: 7 },
      { action: 'deny', scope: 'namespace', rules: closed },
    ],
    ['rules that are no list', { rules: {} }, { action: 'allow', rules: [] }],
    [
      'no rules of a denial',
      { action: 'DENY', rules: 5, selector },
      { action: 'deny', scope: 'workload', rules: closed },
    ],
    ['a field that nobody knows', { rules: [{}], exempt: ['web'] }, { action: 'allow', rules: [] }],
    [
      'the same of a denial',
      { action: 'DENY', rules: [], alsoDeny: 1 },
      { action: 'deny', rules: closed },
    ],
    [
      'two kinds of target',
      { selector, targetRefs: [{}], rules: [{}] },
      { action: 'allow', scope: 'workload', rules: [] },
    ],
    ...[
      5,
      [],
      { matchLabels: [] },
      { matchLabels: { app: 5 } },
      { matchLabels: { app: '*' } },
      { matchLabels: { '': 'x' } },
      { matchExpressions: [] },
    ].map(
      (bad) =>
        [
          `the selector ${JSON.stringify(bad)}`,
          { selector: bad, rules: [{}] },
          { action: 'allow', scope: 'namespace', rules: [] },
        ] as const,
    ),
  ]
  for (const [name, spec, expected] of cases) {
    const { policy, flaws } = convert(spec)
    t.match(policy, expected, name)
    t.equal(policy?.rules.length, (expected as { rules: unknown[] }).rules.length, name)
    t.equal(flaws[0]?.kind, 'invalid', name)
  }
  const denied = convert({ action: 'DENY', selector: 5, rules: [operation({ ports: ['80'] })] })
  t.match(denied.policy, { scope: 'namespace', rules: [{ clauses: [{}] }] }, 'as written, for all')
  t.equal(convert({ selector: 5 }, { namespace: 'istio-system' }).policy?.scope, 'mesh')
  t.equal(convert({ action: 'AUDIT', selector: 5, rules: [{}] }).placed, undefined)
})

void t.test('a policy of any size is read, bounded, and never opens', async (t) => {
  const many = Array.from({ length: 100_000 }, (_, place) => operation({ ports: [String(place)] }))
  for (const action of ['ALLOW', 'DENY']) {
    const { policy, flaws } = convert({ action, rules: many })
    t.equal(policy?.rules.length, action === 'DENY' ? 1 : 0)
    t.match(flaws.at(-1), { field: 'spec.rules', reason: /more than 10000/ })
  }
  const config = { ...CONFIG, trustDomainAliases: ['a', 'b', 'c'] }
  const principals = Array.from({ length: 9_000 }, (_, place) => `cluster.local/ns/n/sa/${place}`)
  t.strictSame(convert({ rules: [source({ principals })] }, { config }).policy?.rules, [])
  const long = Array.from({ length: 9_000 }, () => 'x'.repeat(700))
  t.strictSame(convert({ rules: [source({ namespaces: long })] }).policy?.rules, [])
  const text = 'x'.repeat(10_000_000)
  t.match(convert({ rules: [source({ principals: [text] })] }).flaws[0]?.reason, /longer than/)
  t.match(convert({ action: text }).policy, { action: 'deny' })

  const largest = convert({ rules: [source({ namespaces: principals })] }).policy
  if (largest === undefined) throw new Error('no policy')
  t.equal(largest.rules.length, 1)
  t.equal(AUTHORIZATION.decode(largest.key, POLICY.encode(largest)).ok, true, 'agents take it')
  for (let bits = 0; bits <= 128; bits += 1) {
    const ipBlocks = [`fd00::/${bits}`, ...(bits <= 32 ? [`10.0.0.0/${bits}`] : [])]
    t.equal(matchOf(source({ ipBlocks }))?.sourceIps?.[0]?.length, bits)
  }
})
