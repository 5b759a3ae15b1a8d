// SPDX-License-Identifier: Apache-2.0
// Certificates for peers that the mesh never enrolled: signed by the lab's own root, taken from its Secret, or by a root
// that nobody knows.

import { createKeyAndCsr, exportPrivateKeyPem } from '../../../mesh/identity/csr.ts'
import { loadAuthority, type SigningAuthority } from '../../../mesh/identity/authority.ts'
import { newSerialNumber } from '../../../mesh/identity/serial.ts'
import { createRoot } from '../../../mesh/identity/root.ts'
import {
  ExtendedKeyUsageExtension,
  KEY_ALGORITHM,
  OID_CLIENT_AUTH,
  OID_SERVER_AUTH,
  SIGNATURE_ALGORITHM,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '../../../mesh/identity/x509.ts'
import type { SpiffeId } from '../../../mesh/model/types.ts'
import type { Lab } from '../../../lab/cluster/index.ts'
import type { PeerCertificate } from '../programs/stranger.ts'

const HOUR_MS = 3_600_000

/** The lab's root, with which a test signs whatever it likes. */
export async function rootOfLab(lab: Lab): Promise<SigningAuthority> {
  const field = async (name: string): Promise<string> => {
    const path = `--output=jsonpath={.data.${name.replaceAll('.', '\\.')}}`
    const encoded = await lab.kubectl(
      'get',
      'secret',
      '--namespace=ambit-system',
      'ambit-ca-secret',
      path,
    )
    return Buffer.from(encoded, 'base64').toString()
  }
  return await load({
    certificatePem: await field('ca-cert.pem'),
    privateKeyPem: await field('ca-key.pem'),
  })
}

/** A root that no workload trusts, with the same name as the mesh's. */
export async function strangeRoot(): Promise<SigningAuthority> {
  return await load(await createRoot({ organization: 'cluster.local' }))
}

async function load(pem: Parameters<typeof loadAuthority>[0]): Promise<SigningAuthority> {
  const root = await loadAuthority(pem)
  if (!root.ok) throw new Error(`Cannot load a root: ${root.error.reason}`)
  return root.value
}

/** A certificate of any name; `trusts` are the roots its bearer believes in. */
export async function certificateOf(
  root: SigningAuthority,
  identity: string,
  options: { readonly isExpired?: boolean; readonly trusts?: SigningAuthority } = {},
): Promise<PeerCertificate> {
  const { privateKeyPem, publicKeyDer } = await createKeyAndCsr(identity as SpiffeId)
  const shift = options.isExpired === true ? -2 * HOUR_MS : 0
  const chain = await root.sign({
    names: [{ type: identity.startsWith('spiffe:') ? 'url' : 'dns', value: identity }],
    publicKeyDer,
    notBefore: new Date(Date.now() + shift - 60_000),
    notAfter: new Date(Date.now() + shift + HOUR_MS),
  })
  return { key: privateKeyPem, chain, roots: (options.trusts ?? root).bundlePem }
}

/** A certificate that vouches for itself. */
export async function selfSigned(
  identity: string,
  trusts: SigningAuthority,
): Promise<PeerCertificate> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + HOUR_MS),
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new ExtendedKeyUsageExtension([OID_SERVER_AUTH, OID_CLIENT_AUTH]),
      new SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true),
    ],
  })
  return {
    key: await exportPrivateKeyPem(keys.privateKey),
    chain: certificate.toString('pem'),
    roots: trusts.bundlePem,
  }
}
