// SPDX-License-Identifier: Apache-2.0
// Authorities of every kind for tests: roots and intermediates of any key, age and constraint.

import { KeyObject, type webcrypto } from 'node:crypto'
import {
  type AuthorityPem,
  loadAuthority,
  type SigningAuthority,
} from '../../mesh/identity/authority.ts'
import { assembleCertificate } from '../../mesh/identity/assemble.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { newSerialNumber } from '../../mesh/identity/serial.ts'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '../../mesh/identity/x509.ts'

const DAY_MS = 86_400_000

const KEYS = {
  'P-256': [
    { name: 'ECDSA', namedCurve: 'P-256' },
    { name: 'ECDSA', hash: 'SHA-256' },
  ],
  'P-384': [
    { name: 'ECDSA', namedCurve: 'P-384' },
    { name: 'ECDSA', hash: 'SHA-384' },
  ],
  'P-521': [
    { name: 'ECDSA', namedCurve: 'P-521' },
    { name: 'ECDSA', hash: 'SHA-512' },
  ],
  'RSA-2048': [rsa(2048), { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }],
  'RSA-1024': [rsa(1024), { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }],
} as const

function rsa(modulusLength: number): webcrypto.RsaHashedKeyGenParams {
  return {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength,
    publicExponent: Uint8Array.of(1, 0, 1),
    hash: 'SHA-256',
  }
}

/** A certificate with its key, able to sign others. */
export interface TestCa {
  readonly pem: string
  readonly keyPem: string
  readonly key: webcrypto.CryptoKeyPair
  readonly kind: keyof typeof KEYS
}

export interface CaOptions {
  readonly parent?: TestCa
  readonly kind?: keyof typeof KEYS
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly isCa?: boolean
  readonly pathLength?: number
  /** What its key may be used for; signing certificates when left out. */
  readonly usage?: KeyUsageFlags
  readonly extendedUsage?: readonly string[]
  /** URIs that it names. */
  readonly names?: readonly string[]
  /** The same authority again: its key with other dates. */
  readonly again?: TestCa
  /** SubjectPublicKeyInfo of a key that somebody else has. */
  readonly publicKeyDer?: Uint8Array
  /** Another subject key identifier than the usual one. */
  readonly keyIdentifier?: string | 'none'
}

/** Makes a root, or an intermediate below `parent`. */
export async function makeCa(name: string, options: CaOptions = {}): Promise<TestCa> {
  const { parent, keyIdentifier, again, names = [] } = options
  const kind = again?.kind ?? options.kind ?? 'P-256'
  const key =
    again?.key ?? (await crypto.subtle.generateKey(KEYS[kind][0], true, ['sign', 'verify']))
  const issuer = parent === undefined ? undefined : new X509Certificate(parent.pem)
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: [{ O: [name] }],
    issuer: issuer?.subjectName ?? [{ O: [name] }],
    notBefore: options.notBefore ?? new Date(Date.now() - DAY_MS),
    notAfter: options.notAfter ?? new Date(Date.now() + DAY_MS),
    publicKey: options.publicKeyDer ? Uint8Array.from(options.publicKeyDer) : key.publicKey,
    signingKey: (parent?.key ?? key).privateKey,
    signingAlgorithm: KEYS[parent?.kind ?? kind][1],
    extensions: [
      new BasicConstraintsExtension(options.isCa ?? true, options.pathLength, true),
      new KeyUsagesExtension(options.usage ?? KeyUsageFlags.keyCertSign, true),
      ...(keyIdentifier === 'none'
        ? []
        : [
            keyIdentifier === undefined
              ? await SubjectKeyIdentifierExtension.create(key.publicKey)
              : new SubjectKeyIdentifierExtension(keyIdentifier),
          ]),
      ...(issuer === undefined ? [] : [await AuthorityKeyIdentifierExtension.create(issuer)]),
      ...(names.length === 0
        ? []
        : [new SubjectAlternativeNameExtension(names.map((value) => ({ type: 'url', value })))]),
      ...(options.extendedUsage === undefined
        ? []
        : [new ExtendedKeyUsageExtension([...options.extendedUsage])]),
    ],
  })
  return {
    pem: `${certificate.toString('pem')}\n`,
    keyPem: String(KeyObject.from(key.privateKey).export({ type: 'pkcs8', format: 'pem' })),
    key,
    kind,
  }
}

/** The fields of a `cacerts` Secret. */
export function plugIn(
  issuer: TestCa,
  roots: readonly TestCa[],
  between: readonly TestCa[] = [],
): AuthorityPem {
  return {
    certificatePem: issuer.pem,
    privateKeyPem: issuer.keyPem,
    chainPem: [issuer, ...between, ...roots].map(({ pem }) => pem).join(''),
    rootsPem: roots.map(({ pem }) => pem).join(''),
  }
}

/** Loads what must be sound. */
export async function authorityOf(pem: AuthorityPem): Promise<SigningAuthority> {
  const loaded = await loadAuthority(pem)
  if (!loaded.ok) throw new Error(`${loaded.error.part}: ${loaded.error.reason}`)
  return loaded.value
}

/** A workload's certificate of that authority, valid for an hour. */
export async function workloadCertificate(
  authority: SigningAuthority,
  identity: SpiffeId,
): Promise<WorkloadCertificate> {
  const key = await createKeyAndCsr(identity)
  const chainPem = await authority.sign({
    names: [{ type: 'url', value: identity }],
    publicKeyDer: key.publicKeyDer,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
  })
  const signed = { chainPem, rootsPem: authority.bundlePem }
  const assembled = assembleCertificate(identity, key, signed, new Date())
  if (!assembled.ok) throw new Error(assembled.error.message)
  return assembled.value
}
