// SPDX-License-Identifier: Apache-2.0
// Whether a call, or a request of it, is let through, by the policies of this moment. What judges a call hangs on what was called; it is
// compiled when it is first asked, and again after a change. Nothing is let through by a policy that cannot be read.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { JudgedPlace } from '../../mesh/model/waypoint-policy-index.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { type ExplainedRequestPolicy, explainRequest } from '../../mesh/policy/request/explain.ts'
import { RequestPolicies, type SeenCall } from '../../mesh/policy/request/request-policies.ts'
import type {
  JudgedCall,
  JudgedRequest,
  RequestHit,
  RequestVerdict,
} from '../../mesh/policy/request/types.ts'
import { type Denial, denialOf, objectOf } from '../../mesh/policy/verdict-words.ts'
import type { Call } from '../listener/call.ts'

/** A call, or a request, is not let through. */
export interface PolicyRefusal extends Denial {
  /** `policyMissing`: what is to judge it cannot be read. `waypointUnavailable`: another waypoint has what is to judge it. */
  readonly reason: 'policyDenied' | 'policyMissing' | 'waypointUnavailable'
}

/** What judges the calls of one place. */
export interface Judges {
  /** In their order. */
  readonly concerning: readonly WaypointPolicy[]
  readonly policies: RequestPolicies
  /** Why nothing passes, whatever they say. */
  readonly closed: PolicyRefusal | undefined
  /** Nothing is closed, and nobody has anything to say. */
  readonly isOpen: boolean
}

/** What is told beside the verdict. */
export interface PolicyReports {
  /** What policies on trial would have made of it. */
  readonly trial: RequestVerdict | undefined
  /** The rules of those that want such calls on record. */
  readonly audited: readonly RequestHit[]
}

/** What a call was found to be. */
interface Known {
  readonly judges: Judges
  /** Once it was looked at: as one that carries requests, and as one that does not. */
  ofRequests: SeenCall | undefined
  ofConnection: SeenCall | undefined
}

export interface PolicyGateOptions {
  readonly mesh: Pick<MeshState, 'waypointPolicies' | 'subscribe'>
  /** This one, by its Gateway. */
  readonly waypoint: JudgedPlace['waypoint']
  /** Whether what was called is another waypoint's by now; it never is where this is left out. */
  readonly hasMoved?: (call: Call) => boolean
}

const MOVED: PolicyRefusal = {
  reason: 'waypointUnavailable',
  message: 'what was called is bound to another waypoint now',
  by: undefined,
}

export class PolicyGate {
  readonly #options: PolicyGateOptions
  readonly #judges = new Map<string, Judges>()
  /** Those of this moment: the others are of before a change. */
  #current = new WeakSet<Judges>()
  readonly #calls = new WeakMap<Call, Known>()
  readonly #unsubscribe: () => void

  /** @param onChange Called when policies have changed: what was let through before may not be any more. */
  constructor(options: PolicyGateOptions, onChange: () => void) {
    this.#options = options
    this.#unsubscribe = options.mesh.subscribe((changes) => {
      const isOurs = changes.some(({ kind }) => kind.startsWith('waypointPolicy'))
      if (!isOurs) return
      this.#judges.clear()
      this.#current = new WeakSet()
      onChange()
    })
  }

  /** Undefined: it is let through. Hot: once a request. */
  judgeRequest(call: Call, request: JudgedRequest): PolicyRefusal | undefined {
    if (this.#options.hasMoved?.(call) === true) return MOVED
    const known = this.#know(call)
    const { closed, policies, isOpen } = known.judges
    if (isOpen) return undefined
    return closed ?? refusalOf(policies.judge(this.#see(call, known, true), request))
  }

  /** The same of a call that carries no requests. */
  judgeConnection(call: Call): PolicyRefusal | undefined {
    if (this.#options.hasMoved?.(call) === true) return MOVED
    const known = this.#know(call)
    const { closed, policies, isOpen } = known.judges
    if (isOpen) return undefined
    return closed ?? refusalOf(policies.judgeConnection(this.#see(call, known, false)))
  }

  /** Whether anybody who judges it wants to know by which name its client opens TLS. */
  asksServerName(call: Call): boolean {
    return this.#know(call).judges.policies.asksServerName
  }

  /** What is to be told of it, let through or not; undefined when nothing. `request`: undefined of a call without. */
  reports(call: Call, request: JudgedRequest | undefined): PolicyReports | undefined {
    const known = this.#know(call)
    const { policies } = known.judges
    if (!policies.hasReports) return undefined
    const seen = this.#see(call, known, request !== undefined)
    return { trial: policies.tried(seen, request), audited: policies.audited(seen, request) }
  }

  /** What each policy that concerns a call says of it, rule by rule: for people. */
  explain(call: Call, request: JudgedRequest | undefined): readonly ExplainedRequestPolicy[] {
    const judged = judgedCall(call, request !== undefined)
    return explainRequest(this.#know(call).judges.concerning, judged, request)
  }

  close(): void {
    this.#unsubscribe()
  }

  #know(call: Call): Known {
    const before = this.#calls.get(call)
    if (before !== undefined && this.#current.has(before.judges)) return before
    const known: Known = {
      judges: this.#judgesOf(call),
      ofRequests: undefined,
      ofConnection: undefined,
    }
    this.#calls.set(call, known)
    return known
  }

  #judgesOf({ called }: Call): Judges {
    const key = `${called.kind} ${called.namespace}/${called.name}`
    const known = this.#judges.get(key)
    if (known !== undefined) return known
    const { mesh, waypoint } = this.#options
    const judges = judgesAt(mesh, { waypoint, called })
    this.#judges.set(key, judges)
    this.#current.add(judges)
    return judges
  }

  #see(call: Call, known: Known, hasRequests: boolean): SeenCall {
    const before = hasRequests ? known.ofRequests : known.ofConnection
    if (before !== undefined) return before
    const seen = known.judges.policies.see(judgedCall(call, hasRequests))
    if (hasRequests) known.ofRequests = seen
    else known.ofConnection = seen
    return seen
  }
}

function judgedCall({ source, target, serverName }: Call, hasRequests: boolean): JudgedCall {
  return {
    connection: {
      identity: source.identity,
      source: source.address.address,
      destination: target,
    },
    // Requests that can be read are in no TLS of their own.
    sni: hasRequests ? '' : serverName,
  }
}

/** What judges the calls of a place. */
function judgesAt(mesh: Pick<MeshState, 'waypointPolicies'>, place: JudgedPlace): Judges {
  const { policies: concerning, unreadable } = mesh.waypointPolicies.concerning(place)
  const policies = RequestPolicies.of(concerning)
  const [unread] = unreadable
  const closed: PolicyRefusal | undefined = unread && {
    reason: 'policyMissing',
    message: `policy ${unread.key} cannot be read: ${unread.reason}`,
    by: { policy: unread.key, rule: undefined, madeOf: objectOf(unread) },
  }
  return { concerning, policies, closed, isOpen: closed === undefined && policies.isEmpty }
}

function refusalOf(verdict: RequestVerdict): PolicyRefusal | undefined {
  const denial = denialOf(verdict)
  return denial && { reason: 'policyDenied', ...denial }
}
