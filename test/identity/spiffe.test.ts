// SPDX-License-Identifier: Apache-2.0
// What is a SPIFFE ID of the mesh, and what only looks like one.

import fc from 'fast-check'
import t from 'tap'
import { parseSpiffeId, spiffeId } from '../../mesh/identity/spiffe.ts'

const GOOD = 'spiffe://cluster.local/ns/shop/sa/catalog'

void t.test('a SPIFFE ID is read in its parts', (t) => {
  t.match(parseSpiffeId(GOOD), {
    id: GOOD,
    trustDomain: 'cluster.local',
    namespace: 'shop',
    serviceAccount: 'catalog',
  })
  t.ok(parseSpiffeId('spiffe://old_domain-1.example/ns/a/sa/system.node-1'))
  t.end()
})

void t.test('what a reader of URIs could take for another identity is none', (t) => {
  for (const text of [
    'spiffe://cluster.local/ns/../sa/catalog',
    'spiffe://cluster.local/ns/./sa/catalog',
    'spiffe://cluster.local/ns/shop/sa/..',
    'spiffe://cluster.local/ns/shop/sa/...',
    'spiffe://../ns/shop/sa/catalog',
    'spiffe://./ns/shop/sa/catalog',
    'spiffe://cluster.local//ns/shop/sa/catalog',
    'spiffe://cluster.local/ns//sa/catalog',
    `${GOOD}/`,
    `${GOOD}#x`,
    `${GOOD}?x`,
    `${GOOD}\n`,
    ` ${GOOD}`,
    'spiffe://cluster.local/ns/sh%6fp/sa/catalog',
    'spiffe://cluster.local/ns/shop%2fsa/sa/catalog',
    'spiffe://Cluster.local/ns/shop/sa/catalog',
    'SPIFFE://cluster.local/ns/shop/sa/catalog',
    'spiffe://cluster.local/NS/shop/sa/catalog',
    'spiffe://cluster.local:443/ns/shop/sa/catalog',
    'spiffe://admin@cluster.local/ns/shop/sa/catalog',
    'spiffe:///ns/shop/sa/catalog',
    'spiffe://cluster.local',
    `spiffe://${'a'.repeat(256)}/ns/shop/sa/catalog`,
    `spiffe://cluster.local/ns/shop/sa/${'a'.repeat(254)}`,
    'spiffe://cluster.local/ns/sh\u00f6p/sa/catalog',
    'spiffe://cluster.local/ns/shop/sa/cat\0alog',
  ])
    t.equal(parseSpiffeId(text), undefined, JSON.stringify(text).slice(0, 80))
  t.end()
})

void t.test(
  'an identity means the same to a reader of URIs, and is written as it was read',
  (t) => {
    const piece = fc.constantFrom(
      ...['spiffe:', '/', '//', '/ns/', '/sa/', 'cluster.local', 'shop', 'a', 'A', '0', '-', '_'],
      ...['.', '..', '%', '%2e', '%2F', ':', '@', '?', '#', ' ', '\n', '\0', '\u00e9', '\\'],
    )
    const sound = fc.constantFrom('shop', 'a', '0', 'x.y', 'a-b')
    const name = fc
      .array(fc.oneof({ arbitrary: sound, weight: 3 }, piece), { minLength: 1, maxLength: 3 })
      .map((pieces) => pieces.join(''))
    const shaped = fc
      .tuple(name, name, name)
      .map(([domain, namespace, account]) => `spiffe://${domain}/ns/${namespace}/sa/${account}`)
    const loose = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))
    let read = 0
    fc.assert(
      fc.property(fc.oneof(shaped, loose), (text) => {
        const parsed = parseSpiffeId(text)
        if (parsed === undefined) return true
        read += 1
        // A reader that resolves dots, decodes, lowers or splits off anything ends at the same name, in a form of the same text.
        const url = new URL(text)
        const path = `/ns/${parsed.namespace}/sa/${parsed.serviceAccount}`
        return (
          url.host === parsed.trustDomain &&
          url.pathname === path &&
          decodeURIComponent(url.pathname) === path &&
          url.href === text &&
          spiffeId(parsed) === text &&
          text.length <= 2048
        )
      }),
      { numRuns: 20_000 },
    )
    t.ok(read > 50, `${read} of them were identities`)
    t.end()
  },
)
