// SPDX-License-Identifier: Apache-2.0
// What the status of a Gateway says that is a waypoint: the conditions of the Gateway API, its addresses, and each of its listeners. Pure.

import type { IpAddress } from '../../mesh/model/types.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'
import type { ProvisionFlaw } from '../provisioner/managed-object.ts'
import type { Verdict } from '../status/acceptance.ts'
import { mergedConditions } from '../status/conditions.ts'
import { type Fields, fieldsOf } from '../istio-api/flaw.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import { type AskedAddress, type GatewayFacts, IP_ADDRESS } from './gateway.ts'
import { conflictOf, isHbone, type ListenerFacts, servedKinds } from './listener.ts'
import type { Waypoint, WaypointPods } from './waypoints.ts'

/** What is known of a Gateway, but for what the replica knows that makes the waypoint. */
export interface GatewayStanding {
  readonly gateway: GatewayFacts
  readonly waypoint: Waypoint
  readonly pods: WaypointPods
  /** Of its Service. */
  readonly addresses: readonly IpAddress[]
}

const OURS: ReadonlySet<unknown> = new Set(['Accepted', 'Programmed', 'ResolvedRefs'])
const LISTENER_CONDITIONS: ReadonlySet<unknown> = new Set([...OURS, 'Conflicted'])

/** The fields of the status that are to be replaced; undefined when it says what it should. */
export function gatewayStatus(
  standing: GatewayStanding,
  flaw: ProvisionFlaw | undefined,
  now: Date,
): object | undefined {
  const { gateway } = standing
  const { generation, conditions: there } = gateway.seen
  const at = { generation, now }
  const isOurs = ({ type }: Fields): boolean => OURS.has(type)
  const conditions = mergedConditions(there, isOurs, verdicts(standing, flaw), at)
  const addresses = standing.addresses.map((value) => ({ type: 'IPAddress', value }))
  const listeners = listenerStatuses(standing, at)
  const hasAddresses = sameText(gateway.status.addresses ?? [], addresses)
  if (conditions === undefined && listeners === undefined && hasAddresses) return undefined
  return {
    ...(conditions === undefined ? {} : { conditions }),
    ...(hasAddresses ? {} : { addresses }),
    ...(listeners === undefined ? {} : { listeners }),
  }
}

/** The conditions of the Gateway. */
function verdicts(
  { gateway, waypoint, pods, addresses }: GatewayStanding,
  flaw: ProvisionFlaw | undefined,
): readonly Verdict[] {
  const { parameters } = gateway.infrastructure
  const odd = gateway.addresses.find(isUnsupportedAddress)
  const unusable = gateway.addresses.find((asked) => !isAmong(asked, addresses))
  const said =
    flaw && [flaw.object, flaw.field, flaw.reason].filter((each) => each !== '').join(' ')
  const is = (type: string, status: boolean, reason: string, message: string): Verdict => ({
    type,
    status: status ? 'True' : 'False',
    reason,
    message,
  })
  const accepted =
    waypoint.allowed === undefined
      ? is('Accepted', false, 'ListenersNotValid', LISTENER_NEEDED)
      : parameters.kind === 'unusable'
        ? is('Accepted', false, 'InvalidParameters', parameters.reason)
        : odd !== undefined
          ? is('Accepted', false, 'UnsupportedAddress', unsupported(odd))
          : is('Accepted', true, 'Accepted', `it is a waypoint for ${TAKEN[waypoint.traffic]}`)
  const programmed =
    accepted.status === 'False'
      ? is('Programmed', false, 'Invalid', accepted.message)
      : said !== undefined
        ? is('Programmed', false, 'Invalid', `cannot be made: ${said}`)
        : addresses.length === 0
          ? is('Programmed', false, 'AddressNotAssigned', 'its Service has no address yet')
          : unusable !== undefined
            ? is('Programmed', false, 'AddressNotUsable', notUsable(unusable, addresses))
            : pods.ready === 0
              ? is(
                  'Programmed',
                  false,
                  'Pending',
                  `none of its ${pods.all} pods is ready: what is bound to it is refused until one is`,
                )
              : is('Programmed', true, 'Programmed', `${pods.ready} of ${pods.all} pods are ready`)
  const refs =
    parameters.kind === 'unusable'
      ? is('ResolvedRefs', false, 'InvalidParameters', parameters.reason)
      : is('ResolvedRefs', true, 'ResolvedRefs', 'what it names is there')
  return [accepted, programmed, refs]
}

/** A waypoint has the addresses of its Service, and no name or other kind of address beside. */
export function isUnsupportedAddress({ type }: AskedAddress): boolean {
  return type !== IP_ADDRESS
}

/** One that is asked for without saying which is any. */
function isAmong({ value }: AskedAddress, addresses: readonly IpAddress[]): boolean {
  const asked = value === undefined ? undefined : parseIpAddress(value)
  return value === undefined || (asked !== undefined && addresses.includes(asked))
}

function unsupported({ field, type }: AskedAddress): string {
  return `${field} is of type ${excerpt(JSON.stringify(type))}, and a waypoint has addresses of type ${IP_ADDRESS} alone: those of its Service`
}

function notUsable({ field, value = '' }: AskedAddress, addresses: readonly IpAddress[]): string {
  return `${field} asks for ${excerpt(value)}, and its Service has ${addresses.join(', ')}: leave the value out`
}

const LISTENER_NEEDED =
  'a waypoint has one listener, of protocol HBONE on port 15008, and this Gateway has not'
const TAKEN = {
  service: 'traffic to Services',
  workload: 'traffic to workloads',
  all: 'traffic to Services and workloads',
  none: 'no traffic',
} as const

const CONFLICTS = {
  ProtocolConflict: 'another listener has its port for another protocol',
  HostnameConflict: 'another listener has its port, protocol and host name',
  none: 'no other listener has its port for the same',
} as const

/** The listeners' statuses; undefined when they say what they should. */
function listenerStatuses(
  { gateway, pods }: GatewayStanding,
  at: { readonly generation: number; readonly now: Date },
): readonly object[] | undefined {
  const there: readonly unknown[] = Array.isArray(gateway.status.listeners)
    ? (gateway.status.listeners as readonly unknown[])
    : []
  let differs = there.length !== gateway.listeners.length
  const statuses = gateway.listeners.map((listener, index) => {
    const before = fieldsOf(there[index]) ?? {}
    const known: readonly unknown[] = Array.isArray(before['conditions'])
      ? (before['conditions'] as readonly unknown[])
      : []
    const isOurs = ({ type }: Fields): boolean => LISTENER_CONDITIONS.has(type)
    const verdicts = listenerVerdicts(listener, gateway.listeners, pods.ready > 0)
    const conditions = mergedConditions(known, isOurs, verdicts, at)
    const status = {
      name: listener.name,
      supportedKinds: servedKinds(listener)
        .filter((kind) => listener.kinds?.includes(kind) ?? true)
        .map((each) => {
          const [group, kind] = each.split('/')
          return { group, kind }
        }),
      // Of routes that name the Gateway or its listener as their parent: those of a mesh name Services.
      attachedRoutes: 0,
    }
    const { name, supportedKinds, attachedRoutes } = before
    if (conditions !== undefined || !sameText({ name, supportedKinds, attachedRoutes }, status))
      differs = true
    return { ...status, conditions: conditions ?? known }
  })
  return differs ? statuses : undefined
}

function listenerVerdicts(
  listener: ListenerFacts,
  all: readonly ListenerFacts[],
  isReady: boolean,
): readonly Verdict[] {
  const isRight = isHbone(listener) && all.length === 1
  const conflict = conflictOf(listener, all)
  const served = servedKinds(listener)
  const unserved = listener.kinds?.filter((each) => !served.includes(each))
  const hasAll = unserved === undefined || unserved.length === 0
  return [
    {
      type: 'Accepted',
      status: isRight ? 'True' : 'False',
      reason: isRight ? 'Accepted' : isHbone(listener) ? 'TooManyListeners' : 'UnsupportedProtocol',
      message: isRight ? 'it is the listener of a waypoint' : LISTENER_NEEDED,
    },
    {
      type: 'Conflicted',
      status: conflict === undefined ? 'False' : 'True',
      reason: conflict ?? 'NoConflicts',
      message: CONFLICTS[conflict ?? 'none'],
    },
    {
      type: 'Programmed',
      status: isRight && isReady ? 'True' : 'False',
      reason: !isRight ? 'Invalid' : isReady ? 'Programmed' : 'Pending',
      message: !isRight ? LISTENER_NEEDED : isReady ? 'pods serve it' : 'no pod is ready',
    },
    {
      type: 'ResolvedRefs',
      status: hasAll ? 'True' : 'False',
      reason: hasAll ? 'ResolvedRefs' : 'InvalidRouteKinds',
      message: hasAll
        ? 'what it names is there'
        : `a waypoint serves no ${unserved.join(', ')} by such a listener`,
    },
  ]
}

/** In the order of fields in which we write them, and the API server keeps them. */
function sameText(one: unknown, other: unknown): boolean {
  return sorted(one) === sorted(other)
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => {
    const fields = fieldsOf(each)
    return fields === undefined
      ? each
      : Object.fromEntries(Object.entries(fields).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  })
}
