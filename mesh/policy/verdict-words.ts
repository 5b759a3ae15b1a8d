// SPDX-License-Identifier: Apache-2.0
// What policies have said of a call or a request, in words: ztunnel's, which operators search for. Agents and waypoints say the same.

import type { DecidedBy } from '../telemetry/connection-record.ts'

/** What words need of a policy, whoever enforces it. */
export interface NamedPolicy {
  /** As `namespace/name`. */
  readonly key: string
  /** The object that it was made of, as `kind namespace/name`; empty or absent where that is an AuthorizationPolicy of its name. */
  readonly madeOf?: string
}

/** A PolicyVerdict or a RequestVerdict. */
export type NamedVerdict =
  | { readonly kind: 'denied' | 'unknown'; readonly by: NamedHit }
  | { readonly kind: 'notAllowed'; readonly policies: readonly NamedPolicy[] }
  | { readonly kind: 'allowed'; readonly by: NamedHit | undefined }

interface NamedHit {
  readonly policy: NamedPolicy
  readonly rule: { readonly place: number | undefined }
}

/** Why something is not let through. */
export interface Denial {
  readonly message: string
  /** Undefined where several ALLOW policies do not allow it: none of them alone has decided. */
  readonly by: DecidedBy | undefined
}

/** Policies that a message names; the rest is counted. */
const MOST_NAMED = 5

/** Undefined of what is let through. */
export function denialOf(verdict: NamedVerdict): Denial | undefined {
  switch (verdict.kind) {
    case 'allowed':
      return undefined
    case 'denied':
      return {
        message: `explicitly denied by: ${verdict.by.policy.key}`,
        by: decidedBy(verdict.by),
      }
    case 'unknown':
      return {
        message: `explicitly denied by: ${verdict.by.policy.key} (whether its rule matches cannot be told)`,
        by: decidedBy(verdict.by),
      }
    case 'notAllowed': {
      const { policies } = verdict
      const [only] = policies.length === 1 ? policies : []
      return {
        message: `allow policies exist, but none allowed: ${keysOf(policies)}`,
        by: only && { policy: only.key, rule: undefined, madeOf: objectOf(only) },
      }
    }
  }
}

/** What policies on trial would have made of it; undefined when nothing. */
export function trialText(verdict: NamedVerdict | undefined): string | undefined {
  switch (verdict?.kind) {
    case undefined:
      return undefined
    case 'denied':
    case 'unknown':
      return `would be denied by: ${hitText(verdict.by)}`
    case 'notAllowed':
      return `would not be allowed by: ${keysOf(verdict.policies)}`
    case 'allowed':
      return verdict.by && `would be allowed by: ${hitText(verdict.by)}`
  }
}

/** By which rule of which policy. */
export function decidedBy({ policy, rule }: NamedHit): DecidedBy {
  return { policy: policy.key, rule: rule.place, madeOf: objectOf(policy) }
}

/** The object that a person has written. */
export function objectOf({ key, madeOf = '' }: NamedPolicy): string {
  return madeOf === '' ? `AuthorizationPolicy ${key}` : madeOf
}

/** The names of policies for people, bounded. */
export function named(keys: readonly string[]): string {
  const more = keys.length - MOST_NAMED
  return keys.slice(0, MOST_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '')
}

function keysOf(policies: readonly NamedPolicy[]): string {
  return named(policies.map(({ key }) => key))
}

function hitText({ policy, rule }: NamedHit): string {
  return rule.place === undefined ? policy.key : `${policy.key}, rule ${rule.place}`
}
