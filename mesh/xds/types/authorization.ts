// SPDX-License-Identifier: Apache-2.0
// Policies as resources of discovery (istio.security.Authorization). There are none to offer yet; but clients, Istio's
// ztunnel among them, ask for the type and are not ready before they have been answered.

import { err } from '../../result.ts'
import type { ResourceType } from '../resource-type.ts'

/** A type of which there is nothing. */
export const AUTHORIZATION: ResourceType<never> = {
  typeUrl: 'type.googleapis.com/istio.security.Authorization',
  name: (value) => value,
  aliases: () => [],
  encode: (value) => value,
  decode: (name) => err({ resource: name, field: 'resource', reason: 'policies are not read yet' }),
}
