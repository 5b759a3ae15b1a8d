// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a PeerAuthentication (security.istio.io/v1), read once: whether a caller must prove who it is. What is
// meant to ask for mutual TLS, and cannot be read, asks for it.

import { errorMessage } from '../../mesh/errors.ts'
import type { MutualTlsMode } from '../../mesh/policy/peer-authentication.ts'
import type { Origin } from '../core/origin.ts'
import type { Reading } from '../reading/object-reader.ts'
import { readPort } from './condition-values.ts'
import { type Fields, type Flaw, FlawReader, fieldsOf, hasOthers, isAbsent, shown } from './flaw.ts'
import { type PolicyObject, readSeen, type SeenObject } from './seen-object.ts'
import { type PolicyTarget, readSelector } from './selector.ts'

export interface PeerAuthenticationFacts extends SeenObject {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly target: PolicyTarget
  readonly mode: MutualTlsMode
  /** By the port that the app listens on. */
  readonly ports: ReadonlyMap<number, MutualTlsMode>
  readonly flaws: readonly Flaw[]
}

const MODES: ReadonlyMap<unknown, MutualTlsMode> = new Map<unknown, MutualTlsMode>([
  ['UNSET', 'unset'],
  ['DISABLE', 'disable'],
  ['PERMISSIVE', 'permissive'],
  ['STRICT', 'strict'],
])
const SPEC_FIELDS = ['selector', 'mtls', 'portLevelMtls']
/** As many ports as a pod may have in all honesty; a policy names each of them. */
const MOST_PORTS = 1_000
const NO_PORTS: ReadonlyMap<number, MutualTlsMode> = new Map()

/** Reads a PeerAuthentication. Never throws; what the reading itself fails for is one of which nothing can be read. */
export function readPeerAuthentication(
  object: PolicyObject,
  { cluster }: Origin,
): Reading<PeerAuthenticationFacts> {
  try {
    return read(object, cluster)
  } catch (thrown) {
    const { metadata } = object
    return read({ metadata, spec: `what cannot be read: ${errorMessage(thrown)}` }, cluster)
  }
}

function read(object: PolicyObject, cluster: string): Reading<PeerAuthenticationFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new FlawReader('PeerAuthentication', metadata)
  const seen = readSeen(reader, object)
  const spec = isAbsent(object.spec) ? {} : fieldsOf(object.spec)
  if (spec === undefined) reader.note('spec', `${shown(object.spec)} is not a map`)
  const target: PolicyTarget =
    spec === undefined ? { kind: 'unreadable' } : readSelector(reader, spec)
  const facts: PeerAuthenticationFacts = {
    ...seen,
    cluster,
    namespace: typeof metadata.namespace === 'string' ? metadata.namespace : '',
    name: typeof metadata.name === 'string' ? metadata.name : '',
    target,
    ...(spec === undefined ? { mode: 'strict', ports: NO_PORTS } : readModes(reader, spec, target)),
    flaws: reader.flaws,
  }
  return { facts, problems: reader.problems }
}

function readModes(
  reader: FlawReader,
  spec: Fields,
  target: PolicyTarget,
): Pick<PeerAuthenticationFacts, 'mode' | 'ports'> {
  const isOther = hasOthers(reader, 'spec', spec, SPEC_FIELDS)
  const asked = readMtls(reader, 'spec.mtls', spec.mtls)
  // Where an API server does not drop what it does not know, that may be the misspelt mode: who says another one has said it.
  const mode = isOther && asked === 'unset' ? 'strict' : asked
  const ports = readPorts(reader, spec.portLevelMtls)
  // As strict as any port was to be: nobody can say which one.
  if (ports === undefined) return { mode: 'strict', ports: NO_PORTS }
  if (ports.size === 0 || target.kind === 'labels') return { mode, ports }
  reader.note('spec.portLevelMtls', 'needs a selector: ports are those of a workload')
  const isAnyStrict = [...ports.values()].includes('strict')
  return { mode: isAnyStrict ? 'strict' : mode, ports: NO_PORTS }
}

/** Undefined when an entry was to be strict, or may have been, and its port cannot be read. */
function readPorts(
  reader: FlawReader,
  value: unknown,
): ReadonlyMap<number, MutualTlsMode> | undefined {
  const field = 'spec.portLevelMtls'
  if (isAbsent(value)) return NO_PORTS
  const fields = fieldsOf(value)
  const entries = Object.entries(fields ?? {})
  if (fields === undefined || entries.length > MOST_PORTS) {
    reader.note(field, fields === undefined ? 'is not a map' : `has more than ${MOST_PORTS} ports`)
    return undefined
  }
  const ports = new Map<number, MutualTlsMode>()
  let isUnsure = false
  for (const [key, each] of entries) {
    const port = readPort(key, '')
    const mode = readMtls(reader, `${field}[${key}]`, each)
    if (port.ok) ports.set(port.value, mode)
    else {
      reader.note(field, port.error)
      if (mode === 'strict') isUnsure = true
    }
  }
  return isUnsure ? undefined : ports
}

function readMtls(reader: FlawReader, field: string, value: unknown): MutualTlsMode {
  if (isAbsent(value)) return 'unset'
  const mtls = fieldsOf(value)
  if (mtls === undefined) {
    reader.note(field, 'is not a map')
    return 'strict'
  }
  const isOther = hasOthers(reader, field, mtls, ['mode'])
  if (isAbsent(mtls.mode)) return isOther ? 'strict' : 'unset'
  const mode = MODES.get(mtls.mode)
  if (mode !== undefined) return mode
  reader.note(`${field}.mode`, `${shown(mtls.mode)} is not UNSET, DISABLE, PERMISSIVE or STRICT`)
  return 'strict'
}
