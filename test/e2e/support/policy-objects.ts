// SPDX-License-Identifier: Apache-2.0
// Policies that stories apply, and wait for.

import type { Lab } from '../../../lab/cluster/index.ts'
import {
  AUTHORIZATION_POLICIES,
  NETWORK_POLICIES,
  PEER_AUTHENTICATIONS,
  type PolicyResource,
} from '../../../mesh/kube/index.ts'
import { objectOf } from './objects.ts'

const KINDS = [AUTHORIZATION_POLICIES, PEER_AUTHENTICATIONS, NETWORK_POLICIES]

export interface PolicyObject {
  readonly kind: string
  readonly metadata: { readonly namespace: string; readonly name: string }
}

interface PolicyStatus {
  readonly conditions?: readonly {
    readonly type: string
    readonly status: string
    readonly observedGeneration?: number
  }[]
}

/** Applies it, and waits until agents have acknowledged it; the deadline is in milliseconds. */
export async function inForce(lab: Lab, object: PolicyObject, deadlineMs?: number): Promise<void> {
  const { kind, metadata } = object
  await lab.apply(JSON.stringify(object))
  const resource = KINDS.find((each) => each.kind === kind)
  if (resource === undefined) throw new Error(`${kind} is no kind of policy`)
  const look = async (): Promise<PolicyResource> =>
    await objectOf(lab, resource, `${metadata.namespace}/${metadata.name}`)
  const generation = (await look()).metadata?.generation
  const isEnforced = async (): Promise<true | undefined> => {
    const { conditions = [] } = ((await look()).status ?? {}) as PolicyStatus
    const enforced = conditions.find(({ type }) => type === 'Enforced')
    const isTold = enforced?.status === 'True' && enforced.observedGeneration === generation
    return isTold ? true : undefined
  }
  await lab.waitFor(`${kind} ${metadata.name} in force`, isEnforced, deadlineMs)
}

/** Takes it away; agents hear of it soon. */
export async function removed(lab: Lab, { kind, metadata }: PolicyObject): Promise<void> {
  await lab.kubectl('delete', '-n', metadata.namespace, kind.toLowerCase(), metadata.name)
}
