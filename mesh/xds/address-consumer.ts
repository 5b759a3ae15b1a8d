// SPDX-License-Identifier: Apache-2.0
// Turns address resources from discovery into changes of the mesh state.

import { fromBinary } from '@bufbuild/protobuf'
import { errorMessage } from '../errors.ts'
import { changeFromAddress, type ResourceProblem } from '../model/convert.ts'
import type { MeshChange, ServiceKey, WorkloadUid } from '../model/types.ts'
import { AddressSchema } from '../proto/gen/workload_pb.js'
import { err, type Result } from '../result.ts'
import type { ReceivedResource, ResourceConsumer } from './subscription.ts'
import { ADDRESS_TYPE_URL } from './type-urls.ts'

/**
 * Follows workloads and services.
 *
 * @example createAddressConsumer((changes) => state.apply(changes))
 */
export function createAddressConsumer(
  onChanges: (changes: readonly MeshChange[]) => void,
): ResourceConsumer {
  // A removal carries only a name; this tells which kind it was.
  const serviceNames = new Set<string>()
  return {
    typeUrl: ADDRESS_TYPE_URL,
    apply(resources, removed) {
      const changes: MeshChange[] = []
      const problems: ResourceProblem[] = []
      // Removals first: a name that is both removed and sent in one response exists.
      for (const name of removed) {
        if (serviceNames.delete(name))
          changes.push({ kind: 'serviceRemoved', key: name as ServiceKey })
        else changes.push({ kind: 'workloadRemoved', uid: name as WorkloadUid })
      }
      for (const resource of resources) {
        const change = readAddress(resource)
        if (!change.ok) {
          problems.push(change.error)
          continue
        }
        changes.push(change.value)
        if (change.value.kind === 'service') serviceNames.add(resource.name)
      }
      onChanges(changes)
      return problems
    },
  }
}

function readAddress(resource: ReceivedResource): Result<MeshChange, ResourceProblem> {
  let message
  try {
    message = fromBinary(AddressSchema, resource.payload)
  } catch (thrown) {
    const reason = `is not an Address message: ${errorMessage(thrown)}`
    return err({ resource: resource.name, field: 'resource', reason })
  }
  return changeFromAddress(resource.name, message)
}
