// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies as resources of discovery. The type is ours: other control planes do not offer it, and others' agents do not ask for it.

import { NETWORK_POLICY } from '../../model/network-policy.ts'
import { keyedRecord } from './keyed-record.ts'

/** What an object of Kubernetes may have at most: a larger policy is made of none. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** NetworkPolicies, named by their key. */
export const NETWORK = keyedRecord(
  'type.googleapis.com/ambit.mesh.NetworkPolicy',
  NETWORK_POLICY,
  MAX_RESOURCE_BYTES,
)
