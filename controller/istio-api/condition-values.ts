// SPDX-License-Identifier: Apache-2.0
// The values that conditions of an AuthorizationPolicy compare with. Each reader takes whatever stands there, and gives what it
// means or why it means nothing.

import { isIpv4Address, parseIpAddress } from '../../mesh/model/address.ts'
import type { AccountMatch, AddressRange, StringMatch } from '../../mesh/model/policy.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { shown } from './flaw.ts'

/** `namespace`: of the policy, for names that leave theirs out. */
export type ValueReader<T> = (value: unknown, namespace: string) => Result<T, string>

/** No identity is longer: a trust domain, a namespace and an account. */
const LONGEST_TEXT = 800
const LONGEST_IPV4_PREFIX = 32
const LONGEST_IPV6_PREFIX = 128
/** What an IPv4 address in an IPv6 coat has before it (::ffff:0:0/96). */
const MAPPED_BITS = 96
const HIGHEST_PORT = 65_535
const SPIFFE_SCHEME = 'spiffe://'
/** Kubernetes' names of namespaces and service accounts. */
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/

/** `name`, `prefix*`, `*suffix`, or `*` for any that is there. */
export const readStringMatch: ValueReader<StringMatch> = (value) => {
  if (typeof value !== 'string') return err(`${shown(value)} is not a text`)
  if (value === '') return err('is empty')
  if (value.length > LONGEST_TEXT) return err(`is longer than ${LONGEST_TEXT} characters`)
  if (value === '*') return ok({ kind: 'present' })
  const isSuffix = value.startsWith('*')
  const isPrefix = value.endsWith('*')
  const text = value.slice(isSuffix ? 1 : 0, isPrefix ? -1 : undefined)
  // Compared as it stands it would match nothing: of a DENY policy that is less than what was meant.
  if (text.includes('*') || (isPrefix && isSuffix))
    return err(`${shown(value)} has a * that is neither at its start nor at its end alone`)
  if (isSuffix) return ok({ kind: 'suffix', text })
  return ok({ kind: isPrefix ? 'prefix' : 'exact', text })
}

/** A SPIFFE identity; policies write it without its scheme. */
export const readPrincipal: ValueReader<StringMatch> = (value, namespace) =>
  readStringMatch(
    typeof value === 'string' && value.startsWith(SPIFFE_SCHEME)
      ? value.slice(SPIFFE_SCHEME.length)
      : value,
    namespace,
  )

/** `namespace/account`, or `account` for the policy's own namespace. */
export const readAccount: ValueReader<AccountMatch> = (value, own) => {
  if (typeof value !== 'string') return err(`${shown(value)} is not a text`)
  const slash = value.indexOf('/')
  const namespace = slash < 0 ? own : value.slice(0, slash)
  const serviceAccount = value.slice(slash + 1)
  if (!NAME.test(namespace) || !NAME.test(serviceAccount))
    return err(`${shown(value)} is not of the form account or namespace/account, without wildcards`)
  return ok({ namespace, serviceAccount })
}

/** An address, or `address/bits`. */
export const readAddressRange: ValueReader<AddressRange> = (value) => {
  const refused = err(`${shown(value)} is no IP address and no CIDR range`)
  if (typeof value !== 'string') return refused
  const slash = value.indexOf('/')
  const bare = slash < 0 ? value : value.slice(0, slash)
  const address = parseIpAddress(bare)
  if (address === undefined) return refused
  const isIpv4 = isIpv4Address(address)
  const longest = isIpv4 ? LONGEST_IPV4_PREFIX : LONGEST_IPV6_PREFIX
  if (slash < 0) return ok({ address, length: longest })
  const bits = value.slice(slash + 1)
  // Digits alone: Number() would also take blanks, signs and exponents.
  if (!/^(?:0|[1-9]\d{0,2})$/.test(bits)) return refused
  const isMapped = isIpv4 && bare.includes(':')
  const length = Number(bits) - (isMapped ? MAPPED_BITS : 0)
  return length < 0 || length > longest ? refused : ok({ address, length })
}

/** A port from 1 to 65535, written as a text. */
export const readPort: ValueReader<number> = (value) => {
  const port = typeof value === 'string' && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : 0
  return port > 0 && port <= HIGHEST_PORT
    ? ok(port)
    : err(`${shown(value)} is no port, which is a text such as "8080"`)
}
