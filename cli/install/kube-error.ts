// SPDX-License-Identifier: Apache-2.0
// A call of the API that failed, as an error.

import { AmbitError } from '../../mesh/errors.ts'
import type { KubeFailure } from '../../mesh/kube/index.ts'

/** In the words of the failure, which name the object and the server's reason. */
export const kubeError = ({ message }: KubeFailure): AmbitError =>
  new AmbitError('AMB_KUBE_API', message)
