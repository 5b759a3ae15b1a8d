// SPDX-License-Identifier: Apache-2.0
// Reads a BackendTLSPolicy (gateway.networking.k8s.io/v1): whom waypoints trust to be the pods of a Service, and by what name they ask for
// them. One that has a flaw is not read as if what is flawed were not there: connections to its Services fail until it is put right.

import type { SubjectAltName } from '../../mesh/model/backend-tls.ts'
import type { Origin } from '../core/origin.ts'
import { type Flaw, FlawReader, fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'
import type { PolicyObject } from '../istio-api/seen-object.ts'
import type { Reading } from '../reading/object-reader.ts'
import {
  ANY_TEXT,
  type Form,
  HOSTNAME,
  OBJECT_NAME,
  readEntries,
  readMap,
  readOptionalText,
  readText,
} from './route-fields.ts'
import { readSeenEntries, type SeenEntries } from './seen-entries.ts'

/** A Service of the policy's own namespace, or a port of it by its name. */
export interface TlsTarget {
  readonly name: string
  readonly sectionName: string | undefined
}

/** What lies in the policy's own namespace, as it is named. */
export interface AuthorityRef {
  readonly field: string
  readonly group: string
  readonly kind: string
  readonly name: string
}

export interface BackendTlsPolicyFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly seen: SeenEntries
  /** Those that are Services; others are for whoever serves them. */
  readonly targets: readonly TlsTarget[]
  readonly hostname: string
  readonly subjectAltNames: readonly SubjectAltName[]
  /** None: the well-known ones. */
  readonly authorities: readonly AuthorityRef[]
  readonly flaws: readonly Flaw[]
}

const MOST_TARGETS = 16
const MOST_AUTHORITIES = 8
const MOST_NAMES = 5
const SYSTEM = 'System'
/** A certificate may be for a wildcard, and so may what is asked of it. */
const DNS_NAME: Form = {
  pattern: /^(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/,
  longest: 253,
  words: 'a host name in lower case, perhaps after *.',
}
/** RFC 3986 4.3. */
const URI: Form = { pattern: /^[A-Za-z][-+.A-Za-z0-9]*:[!-~]+$/, longest: 253, words: 'a URI' }

/** Reads a BackendTLSPolicy. */
export function readBackendTlsPolicy(
  object: PolicyObject,
  { cluster }: Origin,
): Reading<BackendTlsPolicyFacts> {
  const metadata = fieldsOf(object.metadata) ?? {}
  const reader = new FlawReader('BackendTLSPolicy', metadata)
  const text = (value: unknown): string => (typeof value === 'string' ? value : '')
  const seen = readSeenEntries(reader, object, 'ancestors')
  // Options are the implementation's own, and here there are none.
  const spec = readMap(reader, 'spec', object.spec, ['targetRefs', 'validation', 'options'])
  const options = Object.keys(fieldsOf(spec?.options) ?? {})
  if (options.length > 0)
    reader.unsupported('spec.options', `has ${options.map(shown).join(', ')}, which nobody knows`)
  const place = 'spec.validation'
  const validation = readMap(reader, place, spec?.validation, [
    'caCertificateRefs',
    'wellKnownCACertificates',
    'hostname',
    'subjectAltNames',
  ])
  const authorities = readAuthorities(
    reader,
    `${place}.caCertificateRefs`,
    validation?.caCertificateRefs,
  )
  readWellKnown(
    reader,
    `${place}.wellKnownCACertificates`,
    validation?.wellKnownCACertificates,
    authorities.length > 0,
  )
  const facts: BackendTlsPolicyFacts = {
    cluster,
    namespace: text(metadata['namespace']),
    name: text(metadata['name']),
    seen,
    targets: readTargets(reader, spec?.targetRefs),
    hostname: readText(reader, `${place}.hostname`, validation?.hostname, HOSTNAME) ?? '',
    subjectAltNames: readNames(reader, `${place}.subjectAltNames`, validation?.subjectAltNames),
    authorities,
    flaws: reader.flaws,
  }
  return { facts, problems: reader.problems }
}

function readTargets(reader: FlawReader, value: unknown): readonly TlsTarget[] {
  const field = 'spec.targetRefs'
  return readEntries(reader, field, value, MOST_TARGETS).flatMap((each, at) => {
    const entry = fieldsOf(each)
    if (entry?.group !== '' || entry.kind !== 'Service') return []
    const place = `${field}[${at}]`
    readMap(reader, place, each, ['group', 'kind', 'name', 'sectionName'])
    const before = reader.flaws.length
    const name = readText(reader, `${place}.name`, entry.name, OBJECT_NAME)
    const section = readOptionalText(reader, `${place}.sectionName`, entry.sectionName, ANY_TEXT)
    // Narrowed to a port that cannot be read it would be about others.
    if (name === undefined || reader.flaws.length > before) return []
    return [{ name, sectionName: section === '' ? undefined : section }]
  })
}

function readAuthorities(
  reader: FlawReader,
  field: string,
  value: unknown,
): readonly AuthorityRef[] {
  return readEntries(reader, field, value, MOST_AUTHORITIES).flatMap((each, at) => {
    const place = `${field}[${at}]`
    const entry = readMap(reader, place, each, ['group', 'kind', 'name'])
    if (entry === undefined) return []
    const group = readText(reader, `${place}.group`, entry.group, ANY_TEXT)
    const kind = readText(reader, `${place}.kind`, entry.kind, ANY_TEXT)
    const name = readText(reader, `${place}.name`, entry.name, ANY_TEXT)
    if (group === undefined || kind === undefined || name === undefined) return []
    return [{ field: place, group, kind, name }]
  })
}

/** Exactly one of the two says whom to trust. */
function readWellKnown(
  reader: FlawReader,
  field: string,
  value: unknown,
  hasAuthorities: boolean,
): void {
  const isSaid = !isAbsent(value) && value !== ''
  if (hasAuthorities && isSaid) reader.note(field, 'stands beside caCertificateRefs')
  else if (isSaid && value !== SYSTEM)
    reader.unsupported(field, `${shown(value)} is not ${SYSTEM}, the one set that is known`)
  else if (!isSaid && !hasAuthorities)
    reader.note(field, 'is not there, and caCertificateRefs names none either')
}

function readNames(reader: FlawReader, field: string, value: unknown): readonly SubjectAltName[] {
  return readEntries(reader, field, value, MOST_NAMES).flatMap((each, at): SubjectAltName[] => {
    const place = `${field}[${at}]`
    const entry = readMap(reader, place, each, ['type', 'hostname', 'uri'])
    if (entry?.type === 'Hostname') {
      const name = readText(reader, `${place}.hostname`, entry.hostname, DNS_NAME)
      return name === undefined ? [] : [{ kind: 'dns', value: name }]
    }
    if (entry?.type === 'URI') {
      const uri = readText(reader, `${place}.uri`, entry.uri, URI)
      return uri === undefined ? [] : [{ kind: 'uri', value: uri }]
    }
    reader.unsupported(`${place}.type`, `${shown(entry?.type)} is neither Hostname nor URI`)
    return []
  })
}
