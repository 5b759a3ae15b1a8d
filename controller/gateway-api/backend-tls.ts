// SPDX-License-Identifier: Apache-2.0
// How waypoints speak TLS to the pods of Services, as a collection, and what is to be said of the policies that say so. Objects may come
// in any order: a policy before its Service, its authorities or a waypoint.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import { type BackendTls, backendTlsKey } from '../../mesh/model/backend-tls.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import type { ServiceFacts } from '../core/service.ts'
import { serviceKeyOf } from '../core/service.ts'
import {
  backendTlsStatus,
  type BackendTlsStatus,
  type TargetStanding,
} from '../status/backend-tls-status.ts'
import type { BackendTlsPolicyFacts, TlsTarget } from './backend-tls-policy.ts'
import { CA_KEY, type CaBundleFacts } from './ca-bundle.ts'

export interface BackendTlsCollections {
  readonly backendTls: Collection<string, BackendTls>
  readonly backendTlsStatuses: Collection<ObjectKey, BackendTlsStatus>
}

/** Why an authority cannot be used; as the Gateway API names the reasons. */
export interface AuthorityProblem {
  readonly reason: 'InvalidKind' | 'InvalidCACertificateRef'
  readonly message: string
}

/** A policy and what has come of it. */
export interface JudgedBackendTls {
  readonly policy: BackendTlsPolicyFacts
  /** In PEM; undefined: the well-known ones. */
  readonly authorities: string | undefined
  readonly problems: readonly AuthorityProblem[]
  /** Why nobody can be trusted by it; undefined: it can be used. */
  readonly fault: TlsFault | undefined
}

export interface TlsFault {
  readonly reason: 'Invalid' | 'NoValidCACertificate'
  readonly message: string
}

/** By name and namespace. */
export interface NamedGateway {
  readonly namespace: string
  readonly name: string
}

/** The waypoints that may call a Service: its own, and those of routes that lead to it. */
export type CallersOf = (fetch: Fetch, service: ObjectKey) => readonly NamedGateway[]

/** What a resource may have on its way to a waypoint, and some room. */
const MOST_BYTES = 1_900_000

/** Derives them; `callersOf` may ask for what was derived before. */
export function deriveBackendTls(
  graph: Graph,
  { BackendTLSPolicy: policies, ConfigMap: bundles, Service: services }: ObjectCollections,
  callersOf: CallersOf,
): BackendTlsCollections {
  const judged = graph.derive('judged backend TLS policies', policies, (fetch, policy, key) => {
    const { cluster, namespace } = policy
    const bundleOf = (name: string) => fetch(bundles, objectKey(cluster, namespace, name))
    return [[key, judge(policy, bundleOf)]]
  })
  const byService = judged.index(({ policy: { cluster, namespace, targets } }) => [
    ...new Set(targets.map(({ name }) => objectKey(cluster, namespace, name))),
  ])
  const backendTls = graph.derive('backend TLS', services, (fetch, service, key) => {
    const all = fetch(byService, key)
    const places = [undefined, ...service.ports.map(({ name }) => name)]
    return places.flatMap((sectionName) => {
      const winner = winnerAt(all, { name: service.name, sectionName })
      return winner === undefined ? [] : resourcesOf(service, sectionName, winner)
    })
  })
  const backendTlsStatuses = graph.derive(
    'statuses of backend TLS policies',
    judged,
    (fetch, each, key) => {
      const { cluster, namespace, targets } = each.policy
      const at = ({ name }: TlsTarget): ObjectKey => objectKey(cluster, namespace, name)
      const gateways = targets.flatMap((target) => callersOf(fetch, at(target)))
      const standings = targets.map((target) =>
        standingOf(each, target, fetch(services, at(target)), fetch(byService, at(target))),
      )
      return [[key, backendTlsStatus(each, standings, gateways)]]
    },
  )
  return { backendTls, backendTlsStatuses }
}

/** Finds whom a policy trusts. What is flawed is not left out: whoever wrote it meant somebody to be checked. */
function judge(
  policy: BackendTlsPolicyFacts,
  bundleOf: (name: string) => CaBundleFacts | undefined,
): JudgedBackendTls {
  const problems: AuthorityProblem[] = []
  const pems = policy.authorities.flatMap(({ field, group, kind, name }) => {
    const named = `${field} names ${kind} ${policy.namespace}/${name}`
    if (group !== '' || kind !== 'ConfigMap') {
      const message = `${named} of group "${group}", and only a ConfigMap can have authorities`
      problems.push({ reason: 'InvalidKind', message })
      return []
    }
    const bundle = bundleOf(name)
    if (bundle !== undefined && bundle.flaw === undefined) return [bundle.pem]
    const why =
      bundle === undefined
        ? `which is not there, or has no key ${CA_KEY}`
        : `whose key ${CA_KEY} ${bundle.flaw}`
    problems.push({ reason: 'InvalidCACertificateRef', message: `${named}, ${why}` })
    return []
  })
  const isWellKnown = policy.authorities.length === 0
  const authorities = isWellKnown ? undefined : pems.join('')
  const [flaw] = policy.flaws
  const [problem] = problems
  const invalid = (message: string): TlsFault => ({ reason: 'Invalid', message })
  const fault =
    flaw !== undefined
      ? invalid(`${flaw.field} ${flaw.reason}`)
      : (authorities?.length ?? 0) > MOST_BYTES
        ? invalid(`its authorities have more than ${MOST_BYTES} characters together`)
        : pems.length === 0 && problem !== undefined
          ? ({ reason: 'NoValidCACertificate', message: problem.message } as const)
          : undefined
  return { policy, authorities, problems, fault }
}

/** Of several for the same place the oldest counts, then the first by name, whether or not it can be used. */
function winnerAt(
  all: readonly JudgedBackendTls[],
  { name, sectionName }: TlsTarget,
): JudgedBackendTls | undefined {
  let winner: JudgedBackendTls | undefined
  for (const each of all) {
    const isHere = each.policy.targets.some(
      (target) => target.name === name && target.sectionName === sectionName,
    )
    if (isHere && (winner === undefined || isBefore(each.policy, winner.policy))) winner = each
  }
  return winner
}

function isBefore(left: BackendTlsPolicyFacts, right: BackendTlsPolicyFacts): boolean {
  const [one, other] = [left.seen.createdAt, right.seen.createdAt]
  return one === other ? left.name < right.name : one < other
}

function standingOf(
  { policy }: JudgedBackendTls,
  target: TlsTarget,
  service: ServiceFacts | undefined,
  all: readonly JudgedBackendTls[],
): TargetStanding {
  const { name, sectionName } = target
  const named = `Service ${policy.namespace}/${name}`
  if (service === undefined)
    return { kind: 'missing', message: `${named} is not there or is a mere name` }
  if (sectionName !== undefined && !service.ports.some((port) => port.name === sectionName))
    return { kind: 'missing', message: `${named} has no port named ${sectionName}` }
  const winner = winnerAt(all, target)?.policy
  return winner === undefined || winner.name === policy.name
    ? { kind: 'counts' }
    : {
        kind: 'conflicted',
        message: `${named} has ${winner.namespace}/${winner.name}, which is older, or before it by name`,
      }
}

/** As waypoints have it, for each host name of the Service. */
function resourcesOf(
  { namespace, hosts, ports }: ServiceFacts,
  sectionName: string | undefined,
  { policy, authorities, fault }: JudgedBackendTls,
): readonly (readonly [string, BackendTls])[] {
  const { hostname, subjectAltNames } = policy
  const port = ports.find((each) => each.name === sectionName)?.servicePort
  // Two ports may not have one name, and a Service of one port may leave it out: that is no section.
  if (sectionName !== undefined && port === undefined) return []
  return hosts.map((host) => {
    const service = serviceKeyOf(namespace, host)
    const key = backendTlsKey(service, sectionName === undefined ? undefined : port)
    const tls: BackendTls = {
      key,
      service,
      port: sectionName === undefined ? undefined : port,
      policy: `${policy.namespace}/${policy.name}`,
      hostname,
      subjectAltNames,
      // What cannot be used needs none.
      authorities: fault === undefined ? authorities : undefined,
      fault: fault?.message,
    }
    return [key, tls] as const
  })
}
