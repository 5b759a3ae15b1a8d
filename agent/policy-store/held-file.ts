// SPDX-License-Identifier: Apache-2.0
// The bytes of a held state. A line says what it is, how long and of which SHA-256; then come records, each a resource as discovery
// sends it. Whatever is not exactly so is not used: half a policy is another policy.
//
// The digest finds what a disk, a crash or a careless hand has changed. A key would not make it more: it would have to lie beside the
// file, for this process alone is there when it is read, and whoever can write the one (root of the node) can read the other, and can
// as well change the agent itself. Against other users the file's owner and mode are checked (policy-store.ts).

import { createHash } from 'node:crypto'
import { POLICY, type Policy, type PolicyScope } from '../../mesh/model/policy.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import type { UnreadableNetworkPolicy } from '../../mesh/model/network-policy-index.ts'
import type { UnreadablePolicy } from '../../mesh/model/policy-index.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { Workload, WorkloadUid } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { formatResourceProblem } from '../../mesh/xds/resource-type.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import type { HeldState } from './held-state.ts'

const MAGIC = 'ambit-held-policies'
/** Of the format: another one is not guessed at. */
const VERSION = 1
const HEADER = /^ambit-held-policies (\d{1,6}) (\d{1,12}) ([0-9a-f]{64})\n/
const LONGEST_HEADER = 128
/** Kind, length of the name, length of the content. */
const RECORD_HEADER_BYTES = 9
const KINDS = {
  node: 0,
  workload: 1,
  policy: 2,
  unreadable: 3,
  unreadableWorkload: 4,
  network: 5,
  unreadableNetwork: 6,
} as const

/** Policies seldom change, and all are written when one does. */
const encodedPolicies = new WeakMap<Policy, Uint8Array>()

/** Writes a state of the node of this name. */
export function encodeHeld(node: string, held: HeldState): Buffer {
  const { workloads, policies, unreadable, unreadableWorkloads } = held
  const { networkPolicies, unreadableNetwork } = held
  const parts: Uint8Array[] = []
  const add = (kind: number, name: string, content: Uint8Array): void => {
    const nameBytes = Buffer.from(name)
    const header = Buffer.alloc(RECORD_HEADER_BYTES)
    header.writeUInt8(kind, 0)
    header.writeUInt32BE(nameBytes.length, 1)
    header.writeUInt32BE(content.length, 5)
    parts.push(header, nameBytes, content)
  }
  add(KINDS.node, node, new Uint8Array())
  for (const workload of workloads)
    add(KINDS.workload, workload.uid, ADDRESS.encode({ kind: 'workload', workload }))
  for (const policy of policies) add(KINDS.policy, policy.key, encoded(policy))
  for (const { key, reason, scope } of unreadable)
    add(KINDS.unreadable, key, Buffer.from(JSON.stringify({ reason, scope })))
  for (const [uid, reason] of unreadableWorkloads)
    add(KINDS.unreadableWorkload, uid, Buffer.from(reason))
  for (const policy of networkPolicies) add(KINDS.network, policy.key, NETWORK.encode(policy))
  for (const { key, reason } of unreadableNetwork)
    add(KINDS.unreadableNetwork, key, Buffer.from(JSON.stringify({ reason })))
  const payload = Buffer.concat(parts)
  return Buffer.concat([
    Buffer.from(`${MAGIC} ${VERSION} ${payload.length} ${digestOf(payload)}\n`),
    payload,
  ])
}

/** Reads what encodeHeld() wrote for this node; else says what is wrong. */
export function decodeHeld(node: string, bytes: Buffer): Result<HeldState, string> {
  const header = HEADER.exec(bytes.toString('latin1', 0, LONGEST_HEADER))
  const [line = '', version, length, digest] = header ?? []
  if (header === null) return err('it does not begin as such a file does')
  if (Number(version) !== VERSION) return err(`its version is ${version}, not ${VERSION}`)
  const payload = bytes.subarray(line.length)
  if (payload.length !== Number(length))
    return err(`it has ${payload.length} bytes of content, and was written with ${length}`)
  if (digestOf(payload) !== digest) return err('its content is not what was written (SHA-256)')
  return decodePayload(node, payload)
}

function decodePayload(node: string, payload: Buffer): Result<HeldState, string> {
  const workloads: Workload[] = []
  const policies: Policy[] = []
  const unreadable: UnreadablePolicy[] = []
  const unreadableWorkloads: (readonly [WorkloadUid, string])[] = []
  const networkPolicies: NetworkPolicy[] = []
  const unreadableNetwork: UnreadableNetworkPolicy[] = []
  let ofNode: string | undefined
  for (let at = 0; at < payload.length; ) {
    if (payload.length - at < RECORD_HEADER_BYTES) return err('its last record is cut off')
    const nameAt = at + RECORD_HEADER_BYTES
    const contentAt = nameAt + payload.readUInt32BE(at + 1)
    const end = contentAt + payload.readUInt32BE(at + 5)
    if (end > payload.length) return err('its last record is cut off')
    const name = payload.toString('utf8', nameAt, contentAt)
    const content = payload.subarray(contentAt, end)
    const kind = payload.readUInt8(at)
    at = end
    if (kind === KINDS.node) ofNode = name
    else if (kind === KINDS.workload) {
      const read = ADDRESS.decode(name, content)
      if (!read.ok) return err(formatResourceProblem(read.error))
      if (read.value.kind !== 'workload') return err(`${name} is no workload`)
      workloads.push(read.value.workload)
    } else if (kind === KINDS.policy) {
      const read = AUTHORIZATION.decode(name, content)
      if (!read.ok) return err(formatResourceProblem(read.error))
      policies.push(read.value)
    } else if (kind === KINDS.unreadable) unreadable.push(unreadableOf(name, content))
    else if (kind === KINDS.unreadableWorkload)
      unreadableWorkloads.push([name as WorkloadUid, content.toString('utf8')])
    else if (kind === KINDS.network) {
      const read = NETWORK.decode(name, content)
      if (!read.ok) return err(formatResourceProblem(read.error))
      networkPolicies.push(read.value)
    } else if (kind === KINDS.unreadableNetwork) unreadableNetwork.push(unreadableOf(name, content))
    else return err(`it has a record of a kind that is not known, ${kind}`)
  }
  if (ofNode !== node) return err(`it is of another node, ${ofNode ?? 'which it does not name'}`)
  return ok({
    workloads,
    policies,
    unreadable,
    unreadableWorkloads,
    networkPolicies,
    unreadableNetwork,
  })
}

const SCOPES: readonly unknown[] = ['mesh', 'namespace', 'workload'] satisfies PolicyScope[]

/** Without a scope that is known it is taken for as wide as it may be. */
function unreadableOf(name: string, content: Buffer): UnreadablePolicy {
  const value: unknown = JSON.parse(content.toString('utf8'))
  const fields = (typeof value === 'object' && value !== null ? value : {}) as {
    readonly reason?: unknown
    readonly scope?: unknown
  }
  return {
    key: name as PolicyKey,
    reason: typeof fields.reason === 'string' ? fields.reason : 'it could not be read before',
    scope: SCOPES.includes(fields.scope) ? (fields.scope as PolicyScope) : undefined,
  }
}

function encoded(policy: Policy): Uint8Array {
  const known = encodedPolicies.get(policy)
  if (known !== undefined) return known
  const bytes = POLICY.encode(policy)
  encodedPolicies.set(policy, bytes)
  return bytes
}

function digestOf(payload: Uint8Array): string {
  return createHash('sha256').update(payload).digest('hex')
}
