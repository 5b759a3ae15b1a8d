// SPDX-License-Identifier: Apache-2.0
// What a request asks for: its path taken apart, and its body read with a limit.

import type { IncomingMessage } from 'node:http'
import { parseJson } from '../../../../../mesh/json.ts'
import { parseYamlDocuments } from '../../../../../mesh/kube/yaml.ts'
import { type Result, err, ok } from '../../../../../mesh/result.ts'
import { badRequest, refuse, unsupportedMediaType } from '../../../objects/refusals.ts'
import { PROTOBUF_MEDIA_TYPE, decodeProtobuf } from '../protobuf/decode.ts'
import type { Refusal } from '../../../objects/refusals.ts'

/** A path below /api/v1 or /apis/GROUP/VERSION. */
export interface ResourcePath {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly namespace: string | undefined
  readonly name: string | undefined
  readonly subresource: string | undefined
  readonly isWatchPath: boolean
}

/** As etcd limits objects, with room for JSON. */
const MAX_BODY_BYTES = 3 * 1024 * 1024

/** Takes a resource path apart; undefined when it is not one. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const segments = path.split('/').filter((segment) => segment !== '')
  let group: string
  let rest: readonly string[]
  if (segments[0] === 'api' && segments[1] === 'v1') {
    group = ''
    rest = segments.slice(1)
  } else if (segments[0] === 'apis' && segments.length >= 4) {
    group = segments[1] ?? ''
    rest = segments.slice(2)
  } else return undefined
  const version = rest[0] ?? ''
  let parts = rest.slice(1).map(decodeURIComponent)
  const isWatchPath = parts[0] === 'watch'
  if (isWatchPath) parts = parts.slice(1)
  let namespace: string | undefined
  // /namespaces/NAME/RESOURCE... is a scope; /namespaces/NAME and its subresources are the object itself.
  const isScope =
    parts[0] === 'namespaces' &&
    parts.length >= 3 &&
    !(group === '' && parts.length === 3 && (parts[2] === 'status' || parts[2] === 'finalize'))
  if (isScope) {
    namespace = parts[1]
    parts = parts.slice(2)
  }
  const [plural, name, subresource, ...extra] = parts
  if (plural === undefined || extra.length > 0) return undefined
  return { group, version, plural, namespace, name, subresource, isWatchPath }
}

async function readBody(request: IncomingMessage): Promise<Result<Buffer, Refusal>> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES)
      return refuse(
        413,
        'RequestEntityTooLarge',
        `Request entity too large: limit is ${MAX_BODY_BYTES}`,
      )
    chunks.push(chunk)
  }
  return ok(Buffer.concat(chunks))
}

/** Reads a JSON or YAML body; undefined when there is none. */
export async function readObject(request: IncomingMessage): Promise<Result<unknown, Refusal>> {
  const body = await readBody(request)
  if (!body.ok) return body
  if (body.value.length === 0) return ok(undefined)
  const mediaType = (request.headers['content-type'] ?? 'application/json').split(';')[0] ?? ''
  if (mediaType === PROTOBUF_MEDIA_TYPE) {
    const decoded = decodeProtobuf(body.value)
    return decoded.ok
      ? decoded
      : badRequest(
          `the object provided is unrecognized: the protobuf body cannot be read: ${decoded.error}`,
        )
  }
  if (!/json|yaml/.test(mediaType))
    return unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got ${mediaType})`,
    )
  const source = body.value.toString('utf8')
  const parsed = mediaType.includes('yaml') ? parseYaml(source) : parseJson(source)
  if (parsed.ok) return parsed
  return badRequest(
    `the object provided is unrecognized (must be of type JSON or YAML): ${parsed.error}`,
  )
}

function parseYaml(source: string): Result<unknown, string> {
  const documents = parseYamlDocuments(source)
  if (!documents.ok) return err(`line ${documents.error.line}: ${documents.error.what}`)
  const [first, second] = documents.value
  return second === undefined ? ok(first?.value) : err('it holds several documents')
}

/** The bearer token of a request. */
export function bearerToken(request: IncomingMessage): Result<string, undefined> {
  const header = request.headers.authorization
  const match = /^Bearer\s+(\S+)$/i.exec(header ?? '')
  return match?.[1] === undefined ? err(undefined) : ok(match[1])
}
