// SPDX-License-Identifier: Apache-2.0
// What policies of waypoints say of requests: as the specification reads, and as people write it.

import fc from 'fast-check'
import t from 'tap'
import { EMPTY_MATCH } from '../../../mesh/model/policy.ts'
import {
  EMPTY_REQUEST_MATCH as EMPTY,
  type RequestMatch,
  type WaypointPolicy,
} from '../../../mesh/model/waypoint-policy.ts'
import { RequestPolicies } from '../../../mesh/policy/request/request-policies.ts'
import type { JudgedCall, RequestHit, RequestVerdict } from '../../../mesh/policy/request/types.ts'
import { sampleCall } from '../samples.ts'
import { naiveAudited, naiveRequestVerdict, type PlainRequest } from './naive.ts'
import { anyCall, anyPolicies, anyRequest, judged, waypointPolicy } from './samples.ts'

const CALL: JudgedCall = { connection: sampleCall(), sni: '' }
const GET: PlainRequest = { method: 'GET', path: '/', authority: 'catalog.shop', headers: {} }

const hitText = ({ policy, rule }: RequestHit): string =>
  `${policy.key}#${policy.rules.indexOf(rule)}`

function textOf(verdict: RequestVerdict): string {
  switch (verdict.kind) {
    case 'denied':
    case 'unknown':
      return `${verdict.kind} ${hitText(verdict.by)}`
    case 'notAllowed':
      return `notAllowed ${verdict.policies.map(({ key }) => key).join(' ')}`
    case 'allowed':
      return verdict.by === undefined ? 'allowed' : `allowed ${hitText(verdict.by)}`
  }
}

void t.test('requests and connections are judged as the specification reads', (t) => {
  fc.assert(
    fc.property(
      anyPolicies,
      anyCall,
      fc.array(anyRequest, { minLength: 1 }),
      (policies, call, requests) => {
        const set = RequestPolicies.of(policies)
        const enforced = policies.filter(({ isDryRun, isAudit }) => !isDryRun && !isAudit)
        const trial = policies.filter(({ isDryRun, isAudit }) => isDryRun && !isAudit)
        const seen = set.see(call)
        for (const request of [undefined, ...requests]) {
          const shown = request && judged(request)
          const verdict = shown === undefined ? set.judgeConnection(seen) : set.judge(seen, shown)
          t.equal(textOf(verdict), naiveRequestVerdict(enforced, call, request))
          const tried = set.tried(seen, shown)
          if (trial.length > 0)
            t.equal(tried && textOf(tried), naiveRequestVerdict(trial, call, request))
          t.strictSame(set.audited(seen, shown).map(hitText), naiveAudited(policies, call, request))
        }
      },
    ),
    { numRuns: 1_000 },
  )
  t.end()
})

/** Whether a rule of this one match matches. */
function matches(match: Partial<RequestMatch>, request: Partial<PlainRequest>): boolean {
  const set = RequestPolicies.of([waypointPolicy('p', 'deny', [match])])
  return set.judge(set.see(CALL), judged({ ...GET, ...request })).kind === 'denied'
}

const exact = (text: string) => ({ kind: 'exact', text }) as const
const prefix = (text: string) => ({ kind: 'prefix', text }) as const
const suffix = (text: string) => ({ kind: 'suffix', text }) as const
const template = (text: string) => ({ kind: 'template', text }) as const
const PRESENT = { kind: 'present' } as const

void t.test('hosts are compared without regard to case, with the port that was written', (t) => {
  const hosts = [exact('Catalog.Shop')]
  t.ok(matches({ hosts }, { authority: 'cataLOG.shop' }))
  t.notOk(matches({ hosts }, { authority: 'catalog.shop:8080' }), 'a port is part of the host')
  t.ok(matches({ hosts: [prefix('catalog.shop:')] }, { authority: 'catalog.shop:8080' }))
  t.ok(matches({ hosts: [suffix('.SHOP')] }, { authority: 'catalog.shop' }))
  for (const authority of ['catalog.shop.', 'Catalog.SHOP.'])
    t.ok(matches({ hosts }, { authority }), 'the dot at the end says nothing')
  t.ok(matches({ hosts: [exact('catalog.shop:80')] }, { authority: 'catalog.shop.:80' }))
  t.ok(matches({ hosts: [suffix('.shop.')] }, { authority: 'catalog.shop' }))
  t.ok(matches({ hosts: [exact('catalog.shop.')] }, { authority: 'catalog.shop.' }))
  t.notOk(matches({ hosts: [prefix('catalog.')] }, { authority: 'catalog' }))
  t.notOk(matches({ hosts }, { authority: 'catalog.shop..' }), 'two are no name')
  t.ok(matches({ hosts: [PRESENT] }, {}))
  t.notOk(matches({ hosts: [PRESENT] }, { authority: '' }))
  t.ok(
    matches({ notHosts: [exact('other')] }, { authority: '' }),
    'who names none names not that one',
  )
  t.end()
})

void t.test('paths are compared with regard to case; templates segment by segment', (t) => {
  const paths = (...those: RequestMatch['paths']) => ({ paths: those })
  t.ok(matches(paths(exact('/admin')), { path: '/admin' }))
  for (const other of ['/admin/', '/Admin', '//admin', '/admin/x', '/'])
    t.notOk(matches(paths(exact('/admin')), { path: other }), other)
  t.ok(matches(paths(prefix('/adm')), { path: '/administration' }), 'a prefix is of characters')
  t.ok(matches(paths(suffix('/info')), { path: '/a/info' }))
  t.ok(matches(paths(exact('/a%2fb')), { path: '/a%2Fb' }), 'escapes are normalised on both sides')
  t.ok(matches(paths(exact('/caf\u00e9')), { path: '/caf%C3%A9' }))
  // What a request for it is normalised to: else a DENY of it would deny nobody.
  t.ok(matches(paths(exact('/%7Ejoe/%61dmin')), { path: '/~joe/admin' }))
  t.ok(matches(paths(prefix('/%61')), { path: '/admin' }))
  t.ok(matches(paths(suffix('%2Dx')), { path: '/a-x' }))
  t.ok(matches(paths(template('/%7E{*}/x')), { path: '/~joe/x' }))
  t.ok(matches(paths(exact('/100%')), { path: '/100%25' }))
  t.ok(matches(paths(exact('/a\\b')), { path: '/a/b' }))
  for (const begun of ['/a%', '/a%2', '/a%2f'])
    t.ok(matches(paths(prefix(begun)), { path: '/a%2Fb' }), `${begun} is the beginning of more`)
  t.notOk(matches(paths(exact('/a%2Fb')), { path: '/a/b' }), 'an escaped slash stays one')
  t.ok(matches(paths(template('/users/{*}/orders')), { path: '/users/7/orders' }))
  for (const other of ['/users//orders', '/users/7/8/orders', '/users/7/orders/', '/users/orders'])
    t.notOk(matches(paths(template('/users/{*}/orders')), { path: other }), other)
  t.ok(matches(paths(template('/files/{**}')), { path: '/files/a/b/c' }))
  t.ok(matches(paths(template('/files/{**}')), { path: '/files/' }))
  t.notOk(matches(paths(template('/files/{**}')), { path: '/files' }))
  t.ok(matches(paths(template('/a/{*}/{**}/z.(x)')), { path: '/a/b/c/d/z.(x)' }))
  t.notOk(matches(paths(template('/a/{**}/z.x')), { path: '/a/b/zyx' }), 'a dot is a dot')
  t.end()
})

void t.test('headers: several lines are one value, and an empty one is there', (t) => {
  const header = (values: readonly object[], notValues: readonly object[] = []) => ({
    headers: [{ name: 'x-user', values, notValues }] as RequestMatch['headers'],
  })
  t.ok(matches(header([exact('ann')]), { headers: { 'x-user': 'ann' } }))
  t.notOk(matches(header([exact('ann')]), { headers: { 'x-user': 'Ann' } }))
  t.ok(matches(header([PRESENT]), { headers: { 'x-user': '' } }))
  t.notOk(matches(header([PRESENT]), {}))
  t.ok(matches(header([], [exact('ann')]), {}), 'who sends none does not send that one')
  t.notOk(matches(header([PRESENT], [exact('ann')]), { headers: { 'x-user': 'ann' } }))
  t.end()
})

void t.test(
  'a connection without requests: what allows by requests allows nothing, what denies does',
  (t) => {
    const judge = (...policies: readonly WaypointPolicy[]): string => {
      const set = RequestPolicies.of(policies)
      return textOf(set.judgeConnection(set.see({ ...CALL, sni: undefined })))
    }
    const ports = { ...EMPTY_MATCH, destinationPorts: [9000] }
    t.equal(judge(waypointPolicy('p', 'allow', [{ methods: [exact('GET')] }])), 'notAllowed shop/p')
    t.equal(judge(waypointPolicy('p', 'deny', [{ methods: [exact('GET')] }])), 'denied shop/p#0')
    t.equal(
      judge(waypointPolicy('p', 'deny', [{ methods: [exact('GET')], connection: ports }])),
      'allowed',
    )
    t.equal(
      judge(waypointPolicy('p', 'deny', [{ snis: [exact('a')] }])),
      'unknown shop/p#0',
      'nobody has looked',
    )
    t.equal(judge(waypointPolicy('p', 'allow', [{ snis: [exact('a')] }])), 'notAllowed shop/p')
    const two = waypointPolicy('p', 'allow', [], {
      rules: [
        {
          place: 0,
          clauses: [
            {
              matches: [
                { ...EMPTY, connection: { ...EMPTY_MATCH, destinationPorts: [8080] } },
                { ...EMPTY, methods: [exact('GET')] },
              ],
            },
          ],
        },
      ],
    })
    t.equal(
      judge(two),
      'notAllowed shop/p',
      'the whole rule, where one of its alternatives is about requests',
    )
    t.end()
  },
)

void t.test('an attacker cannot make a template try for long', (t) => {
  const set = RequestPolicies.of([
    waypointPolicy('p', 'deny', [{ paths: [template('/{*}/{*}/{*}/{**}/x/y/z')] }]),
  ])
  const seen = set.see(CALL)
  const path = `/${'a/'.repeat(30_000)}`
  const start = performance.now()
  t.equal(set.judge(seen, judged({ ...GET, path })).kind, 'allowed')
  t.ok(performance.now() - start < 1_000, 'a path of 60,000 characters')
  t.end()
})
