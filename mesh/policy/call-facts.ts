// SPDX-License-Identifier: Apache-2.0
// A call in the words that policies ask about: worked out once a call, however many rules are asked.

import { type AddressBits, addressBits } from './address-bits.ts'
import type { PolicyCall } from './types.ts'

const SCHEME = 'spiffe://'
const NAMESPACE_PART = '/ns/'
const ACCOUNT_PART = '/sa/'

export interface CallFacts {
  /** Without `spiffe://`; empty without an identity, and no identity is empty. */
  readonly principal: string
  /** Of the identity; empty without one. */
  readonly namespace: string
  /** `<namespace>/sa/<service account>`, as it stands in the identity; empty without one. */
  readonly account: string
  readonly source: AddressBits
  readonly destination: AddressBits
  readonly port: number
}

/** Hot: once per call; the bench `admit` watches it. */
export function factsOf({ identity, source, destination }: PolicyCall): CallFacts {
  // What is of another scheme is nobody that a policy can name: cut all the same, it could be made to look like anybody.
  const principal = identity?.startsWith(SCHEME) === true ? identity.slice(SCHEME.length) : ''
  const at = principal.indexOf(NAMESPACE_PART)
  const namespaceAt = at + NAMESPACE_PART.length
  const accountAt = at < 0 ? -1 : principal.indexOf(ACCOUNT_PART, namespaceAt)
  const isWhole = accountAt >= 0
  return {
    principal,
    namespace: isWhole ? principal.slice(namespaceAt, accountAt) : '',
    account: isWhole ? principal.slice(namespaceAt) : '',
    source: addressBits(source),
    destination: addressBits(destination.address),
    port: destination.port,
  }
}

/** An account as calls have it. */
export function accountText(namespace: string, serviceAccount: string): string {
  return `${namespace}${ACCOUNT_PART}${serviceAccount}`
}
