// SPDX-License-Identifier: Apache-2.0
// BackendTls as resources of discovery. The type is ours, and for waypoints alone.

import { BACKEND_TLS_RECORD } from '../../model/backend-tls.ts'
import { keyedRecord } from './keyed-record.ts'

/** The bundles of several ConfigMaps: the controller sends no more of them than fit. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** How waypoints speak TLS to pods, named by Service, or Service and port. */
export const BACKEND_TLS = keyedRecord(
  'type.googleapis.com/ambit.mesh.BackendTls',
  BACKEND_TLS_RECORD,
  MAX_RESOURCE_BYTES,
)
