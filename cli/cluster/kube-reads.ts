// SPDX-License-Identifier: Apache-2.0
// Calls of the API by commands, whose failures are errors.

import { AmbitError } from '../../mesh/errors.ts'
import type {
  KubeApi,
  KubeFailure,
  KubeObject,
  KubeResource,
  ObjectName,
} from '../../mesh/kube/index.ts'

/** In the words of the failure, which name the object and the server's reason. */
export const kubeError = ({ message }: KubeFailure): AmbitError =>
  new AmbitError('AMB_KUBE_API', message)

/** Undefined where the object is not there. Throws AMB_KUBE_API where nobody can say. */
export async function readIfThere(
  api: KubeApi,
  resource: KubeResource,
  target: ObjectName,
): Promise<KubeObject | undefined> {
  const found = await api.get(resource, target)
  if (found.ok) return found.value
  if (found.error.kind === 'notFound') return undefined
  throw kubeError(found.error)
}
