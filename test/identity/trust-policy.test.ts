// SPDX-License-Identifier: Apache-2.0
// Whom the mesh takes for one of its own.

import t from 'tap'
import { ownDomainOnly, trustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'

const id = (domain: string, account = 'a'): SpiffeId =>
  `spiffe://${domain}/ns/shop/sa/${account}` as SpiffeId

void t.test('identities of an alias are those of the same account in the trust domain', (t) => {
  const policy = trustPolicy({ trustDomain: 'new.example', aliases: ['old.example', 'older'] })
  for (const domain of ['new.example', 'old.example', 'older']) {
    t.equal(policy.accepts(id(domain)), true, domain)
    t.equal(policy.isOneOf(id(domain), [id('new.example')]), true)
    t.equal(policy.isOneOf(id('new.example'), [id('x'), id(domain)]), true)
    t.equal(policy.isOneOf(id(domain), [id('new.example', 'b')]), false, 'another account')
  }
  t.equal(policy.isSame(id('old.example'), id('older')), true)
  t.equal(policy.accepts(id('elsewhere')), false)
  t.equal(policy.isOneOf(id('elsewhere'), [id('new.example')]), false)
  t.equal(policy.isOneOf(id('elsewhere'), [id('elsewhere')]), true, 'named by who asks for it')
  t.equal(policy.isOneOf(id('new.example'), []), false)
  t.equal(policy.accepts('spiffe://new.example/other' as SpiffeId), false)
  t.end()
})

void t.test('without aliases there is one domain', (t) => {
  const policy = ownDomainOnly(id('cluster.local'))
  t.equal(policy.accepts(id('cluster.local', 'b')), true)
  t.equal(policy.accepts(id('cluster.localx')), false)
  t.equal(policy.isOneOf(id('old'), [id('cluster.local')]), false)
  t.same(policy.domains, ['cluster.local'])
  t.end()
})
