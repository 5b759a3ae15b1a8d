// SPDX-License-Identifier: Apache-2.0
// What the status of a BackendTLSPolicy says, to each waypoint that calls what it is attached to: whether it counts, and whether the
// authorities that it names are there. Pure.

import type {
  AuthorityProblem,
  JudgedBackendTls,
  NamedGateway,
} from '../gateway-api/backend-tls.ts'
import type { SeenEntries } from '../gateway-api/seen-entries.ts'
import type { Verdict } from './acceptance.ts'
import { type EntryList, type WantedEntry, wantedEntries } from './status-entries.ts'

export interface BackendTlsStatus {
  readonly kind: 'BackendTLSPolicy'
  readonly namespace: string
  readonly name: string
  readonly seen: SeenEntries
  /** Those that are ours. */
  readonly ancestors: readonly WantedEntry[]
}

/** How a policy stands at one of its targets. */
export type TargetStanding =
  | { readonly kind: 'counts' }
  | { readonly kind: 'conflicted' | 'missing'; readonly message: string }

const ACCEPTED = 'Accepted'
const RESOLVED_REFS = 'ResolvedRefs'
const ANCESTORS: EntryList = {
  ref: 'ancestorRef',
  types: new Set([ACCEPTED, RESOLVED_REFS]),
  most: 16,
}

/** Says how a policy was taken; nothing of one that no waypoint of ours has to do with. */
export function backendTlsStatus(
  judged: JudgedBackendTls,
  standings: readonly TargetStanding[],
  gateways: readonly NamedGateway[],
): BackendTlsStatus {
  const { namespace, name, seen } = judged.policy
  const verdicts = [accepted(judged, standings), resolvedRefs(judged.problems)]
  const names = [...new Set(gateways.map((each) => `${each.namespace}/${each.name}`))].sort()
  const ancestors = names.map((each) => {
    const [ofGateway = '', gateway = ''] = each.split('/')
    const group = 'gateway.networking.k8s.io'
    return { ref: { group, kind: 'Gateway', namespace: ofGateway, name: gateway }, verdicts }
  })
  return { kind: 'BackendTLSPolicy', namespace, name, seen, ancestors }
}

function accepted({ fault }: JudgedBackendTls, standings: readonly TargetStanding[]): Verdict {
  const type = ACCEPTED
  const not = (reason: string, message: string): Verdict => {
    return { type, status: 'False', reason, message }
  }
  const loose = (kind: 'conflicted' | 'missing'): readonly string[] =>
    standings.flatMap((each) => (each.kind === kind ? each.message : []))
  const conflicted = loose('conflicted')
  const missing = loose('missing')
  if (conflicted.length > 0) return not('Conflicted', conflicted.join('; '))
  if (missing.length === standings.length) return not('TargetNotFound', missing.join('; '))
  if (fault !== undefined)
    return not(
      fault.reason,
      `nobody can be trusted by it, so that calls of its Services are answered with 503: ${fault.message}`,
    )
  return missing.length > 0
    ? not('TargetNotFound', missing.join('; '))
    : { type, status: 'True', reason: ACCEPTED, message: 'it is offered to waypoints' }
}

function resolvedRefs(problems: readonly AuthorityProblem[]): Verdict {
  const type = RESOLVED_REFS
  const [first] = problems
  const message = problems.map((each) => each.message).join('; ')
  return first === undefined
    ? { type, status: 'True', reason: RESOLVED_REFS, message: 'the authorities are there' }
    : { type, status: 'False', reason: first.reason, message }
}

/** The entries that its status is to have; undefined when it has them. */
export function wantedAncestors(
  { namespace, seen, ancestors }: BackendTlsStatus,
  now: Date,
): readonly unknown[] | undefined {
  return wantedEntries(ANCESTORS, { namespace, seen, wanted: ancestors }, now)
}
