// SPDX-License-Identifier: Apache-2.0
// What the mesh reads of a ConfigMap: a bundle of certificate authorities, in the key in which Kubernetes has its own. Of a ConfigMap
// without that key nothing is kept.

import { X509Certificate } from 'node:crypto'
import { errorMessage } from '../../mesh/errors.ts'
import { joinPem, splitCertificates } from '../../mesh/identity/pem.ts'
import type { ConfigMap } from '../../mesh/kube/resources.ts'
import type { Origin } from '../core/origin.ts'
import type { Reading } from '../reading/object-reader.ts'

export interface CaBundleFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  /** The certificates alone, without whatever stands between them. */
  readonly pem: string
  /** Why it is no bundle; undefined: it is one. */
  readonly flaw: string | undefined
}

/** As the Gateway API calls it. */
export const CA_KEY = 'ca.crt'
/** Some 150 authorities, which is all that browsers know. */
const MOST_BYTES = 400_000

/** Reads a ConfigMap. That its bundle cannot be used is said where somebody uses it: others' ConfigMaps are none of ours. */
export function readCaBundle(
  { metadata, data }: ConfigMap,
  { cluster }: Origin,
): Reading<CaBundleFacts> {
  const text: unknown = data?.[CA_KEY]
  if (typeof text !== 'string') return { facts: undefined, problems: [] }
  const { namespace = '', name = '' } = metadata ?? {}
  const certificates = text.length > MOST_BYTES ? [] : splitCertificates(text)
  const flaw =
    text.length > MOST_BYTES
      ? `has ${text.length} characters, more than ${MOST_BYTES}`
      : certificates.length === 0
        ? 'has no certificate in PEM'
        : flawOf(certificates)
  const pem = flaw === undefined ? joinPem(certificates) : ''
  return { facts: { cluster, namespace, name, pem, flaw }, problems: [] }
}

/** One that cannot be read spoils the bundle: nobody would see that it is missing. */
function flawOf(certificates: readonly string[]): string | undefined {
  for (const [at, pem] of certificates.entries())
    try {
      void new X509Certificate(pem)
    } catch (thrown) {
      return `has a certificate (${at + 1} of ${certificates.length}) that cannot be read: ${errorMessage(thrown)}`
    }
  return undefined
}
