// SPDX-License-Identifier: Apache-2.0
// What of gRPC the waypoint knows: which requests are calls of it, and how answers of its own have to look to be understood. The status
// of a call is in the trailers, whatever the status of HTTP says.

import { type Field, FieldList } from '../../mesh/http/field-list.ts'
import { headerName } from '../../mesh/http/header-names.ts'
import type { Fields } from '../../mesh/http/message.ts'
import type { RequestRecord } from './types.ts'

export const CONTENT_TYPE = headerName('content-type')
const GRPC_STATUS = headerName('grpc-status')
const GRPC = 'application/grpc'
const PLUS = 0x2b
const SEMICOLON = 0x3b

/** gRPC's own names. */
const OK = 0
const UNKNOWN = 2
const DEADLINE_EXCEEDED = 4
const PERMISSION_DENIED = 7
const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
const INTERNAL = 13
export const UNAVAILABLE = 14
const DATA_LOSS = 15
const UNAUTHENTICATED = 16

/** Those that are a fault of the server's (OpenTelemetry, semantic conventions of gRPC); the others are its answers to a wrong question. */
const SERVER_FAULTS: ReadonlySet<number> = new Set([
  UNKNOWN,
  DEADLINE_EXCEEDED,
  UNIMPLEMENTED,
  INTERNAL,
  UNAVAILABLE,
  DATA_LOSS,
])

/** Of the statuses of HTTP, as Envoy has it; and what is too large, as gRPC's own servers have it. */
const OF_HTTP: Readonly<Record<number, number>> = {
  400: INTERNAL,
  401: UNAUTHENTICATED,
  403: PERMISSION_DENIED,
  404: UNIMPLEMENTED,
  414: RESOURCE_EXHAUSTED,
  431: RESOURCE_EXHAUSTED,
  429: UNAVAILABLE,
  502: UNAVAILABLE,
  503: UNAVAILABLE,
  504: UNAVAILABLE,
}

/** Whether a request is a call of gRPC: not of gRPC-Web, which is plain HTTP to whoever is in between. Hot: once a request. */
export function isGrpc(head: Fields): boolean {
  const type = head.value(CONTENT_TYPE)
  if (type?.startsWith(GRPC) !== true) return false
  const next = type.charCodeAt(GRPC.length)
  return Number.isNaN(next) || next === PLUS || next === SEMICOLON
}

/** The status that trailers, or a head that is all of the answer, have; undefined: none, or a number far from all that gRPC has. */
export function grpcStatusIn(fields: Fields | undefined): number | undefined {
  const text = fields?.value(GRPC_STATUS)
  return text !== undefined && /^\d{1,2}$/.test(text) ? Number(text) : undefined
}

/**
 * How a call of gRPC that was answered went wrong; undefined: it did not, or is no such call. One that ends without a status is UNKNOWN
 * to its client.
 */
export function grpcFault({
  isGrpc,
  grpcStatus = UNKNOWN,
}: Pick<RequestRecord, 'isGrpc' | 'grpcStatus'>):
  | { readonly status: number; readonly isServers: boolean }
  | undefined {
  if (!isGrpc || grpcStatus === OK) return undefined
  return { status: grpcStatus, isServers: SERVER_FAULTS.has(grpcStatus) }
}

/** The status that an answer of the waypoint's own has for gRPC. */
export function grpcStatusOf(status: number): number {
  return OF_HTTP[status] ?? UNKNOWN
}

/** How a call ends that had begun. */
export function ownGrpcTrailers(status: number, message: string): Fields {
  return new FieldList(grpcStatusFields(status, message))
}

/** What became of a call, in the head of an answer or in its trailers. */
export function grpcStatusFields(status: number, message: string): readonly Field[] {
  return [
    [GRPC_STATUS.text, `${status}`],
    ['grpc-message', grpcMessage(message)],
  ]
}

/** A text as `grpc-message` has it: octets of UTF-8, all but the visible ones of ASCII escaped. */
function grpcMessage(text: string): string {
  let message = ''
  for (const octet of Buffer.from(text.trim(), 'utf8'))
    message +=
      octet >= 0x20 && octet <= 0x7e && octet !== 0x25
        ? String.fromCharCode(octet)
        : `%${octet.toString(16).toUpperCase().padStart(2, '0')}`
  return message
}
