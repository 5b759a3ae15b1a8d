// SPDX-License-Identifier: Apache-2.0
// Given lists of revoked certificates, then what they name is known to be revoked, whatever form they come in; and what cannot be
// understood whole is refused.

import { X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { issuerAndSerial, readRevocationLists } from '../../mesh/identity/revocation-list.ts'
import { Revocations } from '../../mesh/identity/revocations.ts'
import { makeCertificate, makeRoot, testIdentity } from '../hbone/certs.ts'
import { extension, pemOfList, revocationList } from './revocation-lists.ts'

const root = await makeRoot('CN=one')
const other = await makeRoot('CN=other')
const revoked = await makeCertificate(root, testIdentity('stolen'))
const sound = await makeCertificate(root, testIdentity('sound'))
const serials = [revoked.serialNumber, '7fffffffffffffffffffffffffffffffffffffff', '00ff']
const list = await revocationList(root, serials, { nextUpdate: new Date('2049-12-31T23:59:58Z') })
const second = await revocationList(other, ['05'])

const leaf = (pem: string): X509Certificate => new X509Certificate(pem)

function revocationsOf(bytes: Uint8Array): Revocations {
  const lists = readRevocationLists(bytes)
  if (!lists.ok) throw new Error(lists.error)
  const revocations = new Revocations()
  revocations.replace(lists.value)
  return revocations
}

void t.test('a list is read from PEM and DER, alone and with others', (t) => {
  for (const [form, bytes, count] of [
    ['DER', list, 1],
    ['PEM', Buffer.from(pemOfList(list)), 1],
    ['several of DER', Buffer.concat([second, list]), 2],
    [
      'several of PEM, with words between',
      Buffer.from(`# ours\n${pemOfList(second)}\nand\n${pemOfList(list)}`),
      2,
    ],
  ] as const) {
    const lists = readRevocationLists(bytes)
    t.equal(lists.ok ? lists.value.length : lists.error, count, form)
    const revocations = revocationsOf(bytes)
    t.ok(revocations.isRevoked(leaf(revoked.chainPem)), form)
    t.notOk(revocations.isRevoked(leaf(sound.chainPem)), form)
  }
  t.end()
})

void t.test('issuer and serial are those that the certificate has, and the date is read', (t) => {
  const named = issuerAndSerial(leaf(revoked.chainPem).raw)
  const lists = readRevocationLists(list)
  t.match(lists, {
    value: [{ issuer: named?.issuer, nextUpdateMs: Date.parse('2049-12-31T23:59:58Z') }],
  })
  t.strictSame(lists.ok && lists.value[0]?.serials, [
    named?.serial,
    '7fffffffffffffffffffffffffffffffffffffff',
    'ff',
  ])
  t.end()
})

void t.test('the same number of another issuer is another certificate', async (t) => {
  const namesake = await makeCertificate(other, testIdentity('namesake'))
  const revocations = revocationsOf(await revocationList(root, [namesake.serialNumber]))
  t.notOk(revocations.isRevoked(leaf(namesake.chainPem)))
})

void t.test('without lists, and after they are taken back, nothing is revoked', (t) => {
  const revocations = revocationsOf(list)
  revocations.replace([])
  t.notOk(revocations.isRevoked(leaf(revoked.chainPem)))
  t.end()
})

void t.test('an empty list revokes nothing', async (t) => {
  t.notOk(revocationsOf(await revocationList(root, [])).isRevoked(leaf(revoked.chainPem)))
})

void t.test('what is not understood whole is refused', async (t) => {
  const reasonOf = (bytes: Uint8Array): string => {
    const lists = readRevocationLists(bytes)
    return lists.ok ? 'accepted' : lists.error
  }
  const pem = pemOfList(list)
  t.match(reasonOf(Buffer.alloc(0)), /neither PEM of X509 CRL nor DER/)
  t.match(reasonOf(Buffer.from('hello')), /neither PEM of X509 CRL nor DER/)
  t.match(reasonOf(Buffer.from(revoked.chainPem)), /not all of it is PEM of X509 CRL/)
  t.match(reasonOf(Buffer.from(pem + revoked.chainPem)), /not all of it is PEM of X509 CRL/)
  t.match(reasonOf(Buffer.from(pem + pem.slice(0, -30))), /not all of it is PEM of X509 CRL/)
  t.match(reasonOf(list.subarray(0, -1)), /neither PEM of X509 CRL nor DER/)
  t.match(reasonOf(leaf(revoked.chainPem).raw), /list 1 of 1: .*not a certificate list|has a field/)
  // RFC 5280 5.2.4: a delta list says itself, critically, what it is.
  const delta = extension('2.5.29.27', true, Uint8Array.of(2, 1, 1))
  t.match(
    reasonOf(await revocationList(root, ['05'], { extensions: [delta] })),
    /list 1 of 1: is a delta, indirect or partial list/,
  )
  const number = extension('2.5.29.20', false, Uint8Array.of(2, 1, 1))
  t.equal(reasonOf(await revocationList(root, ['05'], { extensions: [number] })), 'accepted')
})

void t.test('whatever the bytes are, the answer is lists or a reason', (t) => {
  let refused = 0
  const mutated = fc
    .array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 })
    .map((changes) => {
      const bytes = Buffer.from(list)
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte
      return bytes
    })
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 200 })), (bytes) => {
      const lists = readRevocationLists(bytes)
      if (!lists.ok) refused += 1
      return lists.ok || lists.error.length > 0
    }),
    { numRuns: 2_000 },
  )
  t.ok(refused > 500, `${refused} were refused`)
  t.end()
})
