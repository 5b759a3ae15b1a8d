// SPDX-License-Identifier: Apache-2.0
// HttpRoutes as resources of discovery. The type is ours, and for waypoints alone: agents do not ask for it.

import { HTTP_ROUTES_RECORD } from '../../model/http-routes-wire.ts'
import { keyedRecord } from './keyed-record.ts'

/** A Service may have the routes of several objects of Kubernetes: the controller gives it no more of them than fit. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** What waypoints do with requests, named by Service, or Service and port. */
export const HTTP_ROUTES = keyedRecord(
  'type.googleapis.com/ambit.mesh.HttpRoutes',
  HTTP_ROUTES_RECORD,
  MAX_RESOURCE_BYTES,
)
