// SPDX-License-Identifier: Apache-2.0
// What PeerAuthentications ask of a workload's callers, port by port, and the DENY policy that says the same to whoever reads policies
// alone. The order is Istio's: workload before namespace before mesh, the oldest of equals, and `unset` says nothing.

import { EMPTY_MATCH, type Policy, type PolicyKey, type PolicyMatch } from '../model/policy.ts'

/** `disable` is `permissive` here: whoever proves who it is may do so. */
export type MutualTlsMode = 'unset' | 'disable' | 'permissive' | 'strict'

/** Whether callers must prove who they are. */
export type EffectiveMode = 'permissive' | 'strict'

export interface PeerAuthentication {
  readonly namespace: string
  readonly name: string
  /** Texts in the order of time, as Kubernetes writes them. */
  readonly createdAt: string
  /** Of the workloads of its namespace; undefined when all of them, or of the mesh, are meant. Never empty. */
  readonly selector: ReadonlyMap<string, string> | undefined
  readonly mode: MutualTlsMode
  /** By the port in the pod; without a selector they mean nothing. */
  readonly ports: ReadonlyMap<number, MutualTlsMode>
}

/** Those that count for a workload, one of each scope. */
export interface InForce<Object extends PeerAuthentication = PeerAuthentication> {
  readonly mesh: Object | undefined
  readonly namespace: Object | undefined
  readonly workload: Object | undefined
}

export interface MutualTls<Object extends PeerAuthentication = PeerAuthentication> {
  readonly mode: EffectiveMode
  /** Ports of another mode, ascending. */
  readonly exceptions: readonly number[]
  /** The object that has the exceptions, or else says the mode; undefined when none does. */
  readonly by: Object | undefined
}

/** Istio's own name of a mesh that is strict; an underscore is in no object's name. */
const STATIC_STRICT = 'istio_converted_static_strict'
const CONVERTED_PREFIX = 'converted_peer_authentication_'

/** The one that counts of several for the same: the oldest, of equally old ones the first by name. Undefined of none. */
export function oldest<Object extends Pick<PeerAuthentication, 'createdAt' | 'name'>>(
  objects: readonly Object[],
): Object | undefined {
  let best: Object | undefined
  for (const each of objects) if (best === undefined || isBefore(each, best)) best = each
  return best
}

/** What is asked of a workload's callers. */
export function mutualTlsOf<Object extends PeerAuthentication>({
  mesh,
  namespace,
  workload,
}: InForce<Object>): MutualTls<Object> {
  const by = [workload, namespace, mesh].find((each) => each !== undefined && each.mode !== 'unset')
  const mode = effective(by?.mode ?? 'unset')
  const exceptions = [...(workload?.ports ?? [])]
    .filter(([, each]) => each !== 'unset' && effective(each) !== mode)
    .map(([port]) => port)
    .sort((left, right) => left - right)
  return { mode, exceptions, by: exceptions.length > 0 ? workload : by }
}

/**
 * The policy that refuses whom the mode refuses: the workload is to name it. Undefined when nobody is refused. What the whole mesh asks
 * is Istio's static policy; else each object has one of its own, so that a refusal names the object that makes it.
 */
export function policyOfMutualTls(
  rootNamespace: string,
  { mode, exceptions, by }: MutualTls,
): Policy | undefined {
  if (by === undefined || (mode === 'permissive' && exceptions.length === 0)) return undefined
  const isOfMesh = by.namespace === rootNamespace && by.selector === undefined
  const name = isOfMesh ? STATIC_STRICT : `${CONVERTED_PREFIX}${by.name}`
  const match: PolicyMatch = {
    ...EMPTY_MATCH,
    // Whoever has no identity: ztunnel says it so, too.
    notPrincipals: [{ kind: 'present' }],
    ...(mode === 'strict' ? { notDestinationPorts: exceptions } : { destinationPorts: exceptions }),
  }
  return {
    key: `${by.namespace}/${name}` as PolicyKey,
    namespace: by.namespace,
    name,
    scope: 'workload',
    action: 'deny',
    rules: [{ clauses: [{ matches: [match] }], place: undefined }],
    isDryRun: false,
    isAudit: false,
    madeOf: `PeerAuthentication ${by.namespace}/${by.name}`,
  }
}

function effective(mode: MutualTlsMode): EffectiveMode {
  return mode === 'strict' ? 'strict' : 'permissive'
}

function isBefore(
  left: Pick<PeerAuthentication, 'createdAt' | 'name'>,
  right: Pick<PeerAuthentication, 'createdAt' | 'name'>,
): boolean {
  if (left.createdAt !== right.createdAt) return left.createdAt < right.createdAt
  return left.name < right.name
}
