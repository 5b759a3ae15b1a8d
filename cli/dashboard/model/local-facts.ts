// SPDX-License-Identifier: Apache-2.0
// What one agent says of its own node, out of its config dump: pods, their connections and capture, certificates. Of the dump no more is kept.

import { err, ok, type Result } from '../../../mesh/result.ts'
import { type ProgramFacts, readProgramFacts } from './program-facts.ts'
import { count, fields, list, optionalText, text, time } from './reading.ts'

export interface LocalConnection {
  readonly direction: 'inbound' | 'outbound'
  readonly src: string
  readonly actualDst: string
  readonly originalDst: string
  readonly protocol: string
  /** The policy and rule that let it in. */
  readonly allowedBy: string | undefined
}

export interface LocalPod {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly workloadUid: string
  readonly identity: string
  readonly connections: readonly LocalConnection[]
}

export interface LocalStanding {
  readonly namespace: string
  readonly name: string
  readonly state: string
  readonly reason: string | undefined
}

export interface LocalCertificate {
  readonly identity: string
  readonly state: string
  readonly serialNumber: string | undefined
  readonly notBefore: number | undefined
  readonly notAfter: number | undefined
}

export interface LocalFacts extends ProgramFacts {
  /** Changes when what the control plane has told does. */
  readonly meshDigest: string
  readonly pods: readonly LocalPod[]
  readonly standings: readonly LocalStanding[]
  readonly certificates: readonly LocalCertificate[]
}

/** Reads them; the error says why it is no dump of an agent. */
export function readLocalFacts(value: unknown): Result<LocalFacts, string> {
  const dump = fields(value)
  for (const field of ['certificates', 'capture'])
    if (!Array.isArray(dump[field])) return err(`its config dump has no list "${field}"`)
  const discovery = fields(dump['discovery'])
  return ok({
    ...readProgramFacts(dump),
    meshDigest: JSON.stringify(discovery['resources'] ?? null),
    pods: Object.entries(fields(dump['workloadState'])).map(readPod),
    standings: list(dump['capture']).map(readStanding),
    certificates: list(dump['certificates']).map(readCertificate),
  })
}

function readPod([uid, value]: readonly [string, unknown]): LocalPod {
  const pod = fields(value)
  const info = fields(pod['info'])
  const open = fields(pod['connections'])
  return {
    uid,
    namespace: text(info['namespace']),
    name: text(info['name']),
    workloadUid: text(info['workloadUid']),
    identity: text(info['identity']),
    connections: (['inbound', 'outbound'] as const).flatMap((direction) =>
      list(open[direction]).map((each) => readConnection(direction, each)),
    ),
  }
}

function readConnection(direction: 'inbound' | 'outbound', value: unknown): LocalConnection {
  const connection = fields(value)
  const allowedBy = fields(connection['allowedBy'])
  const policy = optionalText(allowedBy['madeOf']) ?? optionalText(allowedBy['policy'])
  const rule = count(allowedBy['rule'])
  return {
    direction,
    src: text(connection['src']),
    actualDst: text(connection['actualDst']),
    originalDst: text(connection['originalDst']),
    protocol: text(connection['protocol']),
    allowedBy:
      policy === undefined || rule === undefined ? policy : `${policy} rules[${rule.toString()}]`,
  }
}

function readStanding(value: unknown): LocalStanding {
  const standing = fields(value)
  return {
    namespace: text(standing['namespace']),
    name: text(standing['name']),
    state: text(standing['state']),
    reason: optionalText(standing['reason']),
  }
}

function readCertificate(value: unknown): LocalCertificate {
  const certificate = fields(value)
  const leaf = fields(list(certificate['certChain'])[0])
  return {
    identity: text(certificate['identity']),
    state: text(certificate['state']),
    serialNumber: optionalText(leaf['serialNumber']),
    notBefore: time(leaf['validFrom']),
    notAfter: time(leaf['expirationTime']),
  }
}
