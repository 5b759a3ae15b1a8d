// SPDX-License-Identifier: Apache-2.0
// Policies as resources of discovery (istio.security.Authorization). Clients, Istio's ztunnel among them, are not ready before
// they have been answered, also where there is none.

import { POLICY } from '../../model/policy.ts'
import { keyedRecord } from './keyed-record.ts'

/** What an object of Kubernetes may have at most: a larger policy is made of none. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** Policies, named by their key. */
export const AUTHORIZATION = keyedRecord(
  'type.googleapis.com/istio.security.Authorization',
  POLICY,
  MAX_RESOURCE_BYTES,
)
