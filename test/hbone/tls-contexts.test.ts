// SPDX-License-Identifier: Apache-2.0
// What TLS makes of a certificate is made once, whatever number of pods and connections has it, and is not used for the next one.

import t from 'tap'
import { handshakesWith, secureContextOf } from '../../mesh/hbone/tls-contexts.ts'
import { CertificateCache } from '../../agent/proxy/certificate-cache.ts'
import { makeCertificate, makeRoot, testIdentity } from './certs.ts'

void t.test('a certificate and the one after it', async (t) => {
  const root = await makeRoot()
  const identity = testIdentity('web')
  const first = await makeCertificate(root, identity)
  const renewed = await makeCertificate(root, identity)

  t.equal(handshakesWith(first), handshakesWith(first))
  t.not(handshakesWith(first), handshakesWith(renewed))
  t.equal(secureContextOf(first), secureContextOf(first))
  t.not(secureContextOf(first), secureContextOf(renewed))
  t.throws(() => secureContextOf({ ...first, privateKeyPem: 'none' }))
  t.throws(() => handshakesWith({ ...first, privateKeyPem: 'none' }))

  await t.test('a worker that is told of the same again keeps the one that it has', (t) => {
    const cache = new CertificateCache(() => undefined)
    t.equal(cache.set(first), true)
    // As it comes from another thread: equal, and not the same.
    t.equal(cache.set(structuredClone(first)), false)
    t.equal(cache.current(identity), first)
    t.equal(cache.set(renewed), true)
    t.equal(cache.current(identity), renewed)
    const others = { ...renewed, rootsPem: `${renewed.rootsPem}${renewed.rootsPem}` }
    t.equal(cache.set(others), true, 'other roots are news, too')
    cache.forget(identity)
    t.equal(cache.set(structuredClone(others)), true)
    t.end()
  })
})
