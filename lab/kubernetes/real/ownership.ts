// SPDX-License-Identifier: Apache-2.0
// Marks what a lab makes in a real cluster as its own, and writes it down before it is made. What was there before
// may be changed by an apply, as by anybody's, but stays when the lab goes.

import type { KubeApi } from '../../../mesh/kube/api.ts'
import type { KubeResource } from '../../../mesh/kube/resources.ts'
import { AmbitError } from '../../../mesh/errors.ts'
import { RUN_LABEL } from '../objects/lab-marks.ts'
import type { MadeObject } from './removal.ts'

/** Asked before each object is applied: the labels to add, if it is going to be the lab's. */
export type Ownership = (
  resource: KubeResource,
  target: { readonly namespace?: string; readonly name: string },
) => Promise<{ readonly [key: string]: string }>

/** Makes that decision for a run; `record` writes down what is about to be made. */
export function ownershipOf(
  api: KubeApi,
  runId: string,
  record: (made: MadeObject) => void,
): Ownership {
  return async (resource, target) => {
    const found = await api.get(resource, target)
    if (found.ok) {
      const isOwn = found.value.metadata?.labels?.[RUN_LABEL] === runId
      return isOwn ? { [RUN_LABEL]: runId } : {}
    }
    if (found.error.kind !== 'notFound') throw new AmbitError('AMB_KUBE_API', found.error.message)
    record({ resource, ...target })
    return { [RUN_LABEL]: runId }
  }
}
