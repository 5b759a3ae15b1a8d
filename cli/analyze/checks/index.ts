// SPDX-License-Identifier: Apache-2.0
// All checks, in the order of their codes.

import { BACKEND_TLS } from './backend-tls.ts'
import { CANARY_WAYPOINT } from './canary-waypoint.ts'
import type { Check } from './check.ts'
import { CLOSED_SERVICE } from './closed-service.ts'
import { CLOSED_TUNNEL } from './closed-tunnel.ts'
import { COVERED_RULE } from './covered-rule.ts'
import { DENIED_ALLOW } from './denied-allow.ts'
import { EMPTY_RULES } from './empty-rules.ts'
import { FORGOTTEN_TRIAL } from './forgotten-trial.ts'
import { MISSING_BACKEND } from './missing-backend.ts'
import { MISSING_SOURCE } from './missing-source.ts'
import { MISSING_TARGET } from './missing-target.ts'
import { MISSING_WAYPOINT } from './missing-waypoint.ts'
import { MODE_LABELS } from './mode-labels.ts'
import { OUTSIDE_MESH } from './outside-mesh.ts'
import { PLAINTEXT_CALLERS } from './plaintext-callers.ts'
import { RIVAL_PEERS } from './rival-peers.ts'
import { SELECTS_NOTHING } from './selects-nothing.ts'
import { SERVICE_SELECTION } from './service-selection.ts'
import { SHADOWED_ROUTE } from './shadowed-route.ts'
import { STRICT_OUTSIDE } from './strict-outside.ts'
import { STRICT_WEBHOOK } from './strict-webhook.ts'
import { UNREAD_POLICY } from './unread-policy.ts'
import { UNREADY_SERVICE } from './unready-service.ts'
import { UNUSED_PORT } from './unused-port.ts'
import { WAYPOINT_PARENT } from './waypoint-parent.ts'

export const CHECKS: readonly Check[] = [
  SELECTS_NOTHING,
  MISSING_TARGET,
  MISSING_SOURCE,
  SERVICE_SELECTION,
  MISSING_WAYPOINT,
  MISSING_BACKEND,
  BACKEND_TLS,
  CANARY_WAYPOINT,
  WAYPOINT_PARENT,
  UNREAD_POLICY,
  OUTSIDE_MESH,
  EMPTY_RULES,
  FORGOTTEN_TRIAL,
  DENIED_ALLOW,
  COVERED_RULE,
  SHADOWED_ROUTE,
  PLAINTEXT_CALLERS,
  STRICT_WEBHOOK,
  STRICT_OUTSIDE,
  UNREADY_SERVICE,
  CLOSED_SERVICE,
  RIVAL_PEERS,
  UNUSED_PORT,
  MODE_LABELS,
  CLOSED_TUNNEL,
]
