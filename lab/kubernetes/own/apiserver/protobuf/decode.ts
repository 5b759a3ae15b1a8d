// SPDX-License-Identifier: Apache-2.0
// Request bodies in Kubernetes' protobuf form. kubectl 1.32 sends it for `create NOUN`, `create token` and `auth can-i`, and
// does not fall back to JSON after a 415; for everything else it sends JSON. Answers are always JSON, which every such client
// accepts too. Messages that only a server fills in (status) are skipped. The numbers of the fields are in fields.json: each is
// `name type`, with * for fields that may be unset, [] for lists, {} for maps, - for inlined messages.

import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { type Result, err, ok } from '../../../../../mesh/result.ts'
import { type Draft, record } from '../../../objects/json.ts'
import fields from './fields.json' with { type: 'json' }

export const PROTOBUF_MEDIA_TYPE = 'application/vnd.kubernetes.protobuf'

const MAGIC = Buffer.from('k8s\0')
const MS_PER_SECOND = 1000
const NS_PER_MS = 1_000_000

/** Where the messages of a group are found. */
const PACKAGES: { readonly [apiVersion: string]: string } = {
  v1: 'core/v1',
  'apps/v1': 'apps/v1',
  'autoscaling/v1': 'autoscaling/v1',
  'coordination.k8s.io/v1': 'coordination/v1',
  'rbac.authorization.k8s.io/v1': 'rbac/v1',
  'authentication.k8s.io/v1': 'authentication/v1',
  'authorization.k8s.io/v1': 'authorization/v1',
}

interface Field {
  readonly name: string
  readonly type: string
  readonly shape: 'single' | 'optional' | 'list' | 'map'
}
type Message = ReadonlyMap<number, Field>

const messages = new Map<string, Message>()

function parseField(definition: string): Field {
  const [name = '', type = ''] = definition.split(' ')
  if (type.startsWith('[]')) return { name, type: type.slice(2), shape: 'list' }
  if (type.startsWith('{}')) return { name, type: type.slice(2), shape: 'map' }
  if (type.startsWith('*')) return { name, type: type.slice(1), shape: 'optional' }
  return { name, type, shape: 'single' }
}

function messageOf(name: string): Message | undefined {
  const known = messages.get(name)
  if (known !== undefined) return known
  const definition = (fields as { readonly [name: string]: { readonly [number: string]: string } })[
    name
  ]
  if (definition === undefined) return undefined
  const message = new Map(
    Object.entries(definition).map(([number, field]) => [Number(number), parseField(field)]),
  )
  messages.set(name, message)
  return message
}

/** Reads numbered members of a message that is too small for a table. */
function readSmall(bytes: Uint8Array): ReadonlyMap<number, bigint | Uint8Array> {
  const reader = new BinaryReader(bytes)
  const members = new Map<number, bigint | Uint8Array>()
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    if (wireType === WireType.Varint) members.set(number, BigInt(reader.int64()))
    else if (wireType === WireType.LengthDelimited) members.set(number, reader.bytes())
    else reader.skip(wireType)
  }
  return members
}

const textOf = (value: bigint | Uint8Array | undefined): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : ''
const numberOf = (value: bigint | Uint8Array | undefined): number =>
  typeof value === 'bigint' ? Number(value) : 0

function readTime(bytes: Uint8Array, isMicro: boolean): string | undefined {
  const members = readSmall(bytes)
  // Go's zero time is written as an empty message.
  if (!members.has(1)) return undefined
  const ms = numberOf(members.get(1)) * MS_PER_SECOND + numberOf(members.get(2)) / NS_PER_MS
  const iso = new Date(ms).toISOString()
  return isMicro ? iso.replace(/Z$/, '000Z') : iso.replace(/\.\d+Z$/, 'Z')
}

function readJson(bytes: Uint8Array): unknown {
  const text = textOf(readSmall(bytes).get(1))
  return text === '' ? undefined : (JSON.parse(text) as unknown)
}

function readExtraValue(bytes: Uint8Array): readonly string[] {
  const reader = new BinaryReader(bytes)
  const values: string[] = []
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    if (number === 1 && wireType === WireType.LengthDelimited) values.push(reader.string())
    else reader.skip(wireType)
  }
  return values
}

function readValue(reader: BinaryReader, type: string): unknown {
  switch (type) {
    case 'string':
      return reader.string()
    case 'int':
      return Number(reader.int64())
    case 'bool':
      return reader.bool()
    case 'double':
      return reader.double()
    case 'bytes':
      return Buffer.from(reader.bytes()).toString('base64')
    case 'Time':
    case 'MicroTime':
      return readTime(reader.bytes(), type === 'MicroTime')
    case 'Duration':
      return numberOf(readSmall(reader.bytes()).get(1))
    case 'Quantity':
      return textOf(readSmall(reader.bytes()).get(1))
    case 'IntOrString': {
      const members = readSmall(reader.bytes())
      return numberOf(members.get(1)) === 0 ? numberOf(members.get(2)) : textOf(members.get(3))
    }
    case 'FieldsV1':
    case 'RawExtension':
      return readJson(reader.bytes())
    case 'ExtraValue':
      return readExtraValue(reader.bytes())
    default:
      return readMessage(reader.bytes(), type)
  }
}

function readMapEntry(bytes: Uint8Array, type: string): readonly [string, unknown] {
  const reader = new BinaryReader(bytes)
  let key = ''
  let value: unknown = type === 'string' || type === 'bytes' ? '' : undefined
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    if (number === 1) key = reader.string()
    else if (number === 2) value = readValue(reader, type)
    else reader.skip(wireType)
  }
  return [key, value]
}

/** Go writes fields that are not pointers even when they are empty; JSON leaves those out. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === false) return true
  const members = record(value)
  return members !== undefined && Object.keys(members).length === 0
}

function readMessage(bytes: Uint8Array, name: string): Draft {
  const message = messageOf(name)
  if (message === undefined) throw new Error(`message ${name} is not known`)
  const reader = new BinaryReader(bytes)
  const result: Draft = {}
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    const field = message.get(number)
    // Go writes an empty status into what it creates; no client's status is believed there.
    if (field?.name === 'status' && messageOf(field.type) === undefined) {
      reader.skip(wireType)
      continue
    }
    if (field === undefined) throw new Error(`field ${number} of ${name} is not known`)
    if (field.shape === 'map') {
      const [key, value] = readMapEntry(reader.bytes(), field.type)
      const map = record(result[field.name]) ?? {}
      map[key] = value
      result[field.name] = map
      continue
    }
    const value = readValue(reader, field.type)
    if (field.name === '-') Object.assign(result, value)
    else if (field.shape === 'list') {
      const members = (result[field.name] as unknown[] | undefined) ?? []
      members.push(value)
      result[field.name] = members
    } else if (field.shape === 'optional' || !isEmpty(value)) result[field.name] = value
  }
  return result
}

/** Decodes a body; the error is a sentence. */
export function decodeProtobuf(body: Buffer): Result<Draft, string> {
  if (!body.subarray(0, MAGIC.length).equals(MAGIC))
    return err('it does not begin with the k8s prefix')
  try {
    const envelope = readSmall(body.subarray(MAGIC.length))
    const [typeMeta, raw] = [envelope.get(1), envelope.get(2)]
    if (!(typeMeta instanceof Uint8Array)) return err('it names no type')
    const names = readSmall(typeMeta)
    const [apiVersion, kind] = [textOf(names.get(1)), textOf(names.get(2))]
    const message =
      kind === 'DeleteOptions' ? 'meta/v1.DeleteOptions' : `${PACKAGES[apiVersion] ?? ''}.${kind}`
    if (messageOf(message) === undefined)
      return err(`${apiVersion} ${kind} is not known in protobuf form: send it as JSON or YAML`)
    return ok({
      apiVersion,
      kind,
      ...readMessage(raw instanceof Uint8Array ? raw : new Uint8Array(), message),
    })
  } catch (thrown) {
    return err(thrown instanceof Error ? thrown.message : String(thrown))
  }
}
