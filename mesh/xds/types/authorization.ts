// SPDX-License-Identifier: Apache-2.0
// Policies as resources of discovery (istio.security.Authorization). Clients, Istio's ztunnel among them, are not ready before
// they have been answered, also where there is none.

import { POLICY, type Policy } from '../../model/policy.ts'
import { err, ok } from '../../result.ts'
import { excerpt } from '../../telemetry/excerpt.ts'
import type { ResourceType } from '../resource-type.ts'

/** What an object of Kubernetes may have at most: a larger policy is made of none. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** Policies, named by their key. */
export const AUTHORIZATION: ResourceType<Policy> = {
  typeUrl: 'type.googleapis.com/istio.security.Authorization',
  name: ({ key }) => key,
  aliases: () => [],
  encode: (policy) => POLICY.encode(policy),
  decode: (name, bytes) => {
    const refuse = (field: string, reason: string) =>
      err({ resource: excerpt(name), field: excerpt(field), reason: excerpt(reason) })
    if (bytes.length > MAX_RESOURCE_BYTES)
      return refuse('resource', `has ${bytes.length} bytes, more than ${MAX_RESOURCE_BYTES}`)
    const read = POLICY.decode(bytes)
    if (!read.ok) return refuse(read.error.field || 'resource', read.error.reason)
    return read.value.key === name
      ? ok(read.value)
      : refuse('name', `makes the key "${read.value.key}", not the resource's name`)
  },
}
