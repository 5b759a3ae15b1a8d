// SPDX-License-Identifier: Apache-2.0
// Reads TCPRoutes and TLSRoutes (gateway.networking.k8s.io/v1): where connections go that are carried as they are.

import type { Origin } from '../core/origin.ts'
import type { FlawReader } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import { type Form, readEntries, readMap, readText } from './route-fields.ts'
import { readBackends, readRoute, type RouteFacts, type RouteForm } from './route-object.ts'
import { NO_TIMEOUTS } from './rule-settings.ts'

const RULE_FIELDS = ['name', 'backendRefs']
const MOST_HOSTNAMES = 1024
/** RFC 6066 3: never an address. */
const SERVER_NAME: Form = {
  pattern:
    /^(?![0-9.]+$)(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/,
  longest: 253,
  words: 'a host name in lower case, perhaps after *.',
}

/** Reads a TCPRoute. */
export function readTcpRoute(object: PolicyObject, origin: Origin): Reading<RouteFacts> {
  return readRoute(formOf('TCPRoute'), object, origin)
}

/** Reads a TLSRoute. */
export function readTlsRoute(object: PolicyObject, origin: Origin): Reading<RouteFacts> {
  return readRoute({ ...formOf('TLSRoute'), readHostnames }, object, origin)
}

function formOf(kind: 'TCPRoute' | 'TLSRoute'): RouteForm {
  return {
    kind,
    readRule: ({ reader, namespace }, field, rule) => {
      readMap(reader, field, rule, RULE_FIELDS)
      return {
        matches: [],
        filters: [],
        backends: readBackends(
          { reader, namespace, types: [] },
          `${field}.backendRefs`,
          rule.backendRefs,
        ),
        timeouts: NO_TIMEOUTS,
        retry: undefined,
        session: undefined,
      }
    },
    withoutRules: [],
  }
}

function readHostnames(reader: FlawReader, field: string, value: unknown): readonly string[] {
  return readEntries(reader, field, value, MOST_HOSTNAMES).flatMap(
    (each, at) => readText(reader, `${field}[${at}]`, each, SERVER_NAME) ?? [],
  )
}
