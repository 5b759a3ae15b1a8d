// SPDX-License-Identifier: Apache-2.0
// How a waypoint speaks TLS to the pods of a Service, whose clients do not: what a BackendTLSPolicy of the Gateway API says, with the
// authorities that it names. A type of ours. A waypoint looks nothing up in Kubernetes.

import { list, optional, single, TEXT, UINT, word } from './codec/kind.ts'
import { derived, field, wholeRecord } from './codec/record.ts'

/** Compared with the certificate's subject alternative names of that kind; a `dns` name may begin with `*.`. */
export interface SubjectAltName {
  readonly kind: 'dns' | 'uri'
  readonly value: string
}

/** Of a Service, or of one of its ports: that is the more specific one, and counts alone. */
export interface BackendTls {
  /** `namespace/hostname`, with `:port` where it has one. */
  readonly key: string
  readonly service: string
  readonly port: number | undefined
  /** `namespace/name` of the object. */
  readonly policy: string
  /** Asked for (SNI), and, where no names are given, what the certificate has to be for. */
  readonly hostname: string
  /** One of them is in the certificate; none: the host name counts. */
  readonly subjectAltNames: readonly SubjectAltName[]
  /** Certificates in PEM, which alone are trusted; undefined: the well-known ones of the waypoint's system. */
  readonly authorities: string | undefined
  /** Nobody can be trusted by it: connections fail. Undefined: it can be used. */
  readonly fault: string | undefined
}

const SUBJECT_ALT_NAME = wholeRecord<SubjectAltName>({
  kind: field('kind', 1, single(word<SubjectAltName['kind']>(['dns', 'uri']))),
  value: field('value', 2, single(TEXT), { isRequired: true }),
})

/** The key of what concerns a Service, or one of its ports. */
export function backendTlsKey(service: string, port: number | undefined): string {
  return port === undefined ? service : `${service}:${port}`
}

export const BACKEND_TLS_RECORD = wholeRecord<BackendTls>({
  key: derived('', ({ service, port }: BackendTls) => backendTlsKey(service, port), {
    dump: () => ({}),
  }),
  service: field('service', 1, single(TEXT), { isRequired: true }),
  port: field('port', 2, optional(UINT)),
  policy: field('policy', 3, single(TEXT)),
  hostname: field('hostname', 4, single(TEXT)),
  subjectAltNames: field('subject_alt_names', 5, list(SUBJECT_ALT_NAME)),
  authorities: field('authorities', 6, optional(TEXT)),
  fault: field('fault', 7, optional(TEXT)),
})

/** What stands for one that cannot be read: nothing is sent to its Service, for nobody can say to whom it may be. */
export function unreadableBackendTls(key: string, reason: string): BackendTls {
  const [service = key, port] = /^(.*?)(?::(\d{1,5}))?$/.exec(key)?.slice(1) ?? []
  return {
    key,
    service,
    port: port === undefined ? undefined : Number(port),
    policy: '',
    hostname: '',
    subjectAltNames: [],
    authorities: undefined,
    fault: `what was sent of it cannot be read: ${reason}`,
  }
}
