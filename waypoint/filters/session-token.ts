// SPDX-License-Identifier: Apache-2.0
// What a client is given so that it comes back to the endpoint it had: sealed, so that it says nothing to the client and cannot be made or
// changed by it. All pods of all waypoints that serve the rule have its key.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

export interface SessionToken {
  /** Which of the rule's backends: its Service and port. */
  readonly service: string
  readonly port: number
  /** The endpoint's own, `ip:port`. */
  readonly endpoint: string
  /** Seconds since the epoch: when the session began, and when it was last renewed. */
  readonly begunAt: number
  readonly usedAt: number
}

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** A Service's key has at most 63 + 253 characters, and all else is short. */
const LONGEST_TOKEN = 1024
const SEPARATOR = '\n'

/** @param key 32 bytes */
export function sealToken(key: Buffer, token: SessionToken): string {
  const { service, port, endpoint, begunAt, usedAt } = token
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
  const text = [service, port, endpoint, begunAt, usedAt].join(SEPARATOR)
  const sealed = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([sealed, cipher.getAuthTag()]).toString('base64url')
}

/** Undefined for whatever this key has not sealed. Never throws. */
export function openToken(key: Buffer, sealed: string): SessionToken | undefined {
  if (sealed.length > LONGEST_TOKEN) return undefined
  const bytes = Buffer.from(sealed, 'base64url')
  if (bytes.length <= NONCE_BYTES + TAG_BYTES) return undefined
  const text = decrypted(key, bytes)
  if (text === undefined) return undefined
  const [service = '', port, endpoint = '', begunAt, usedAt] = text.split(SEPARATOR)
  return {
    service,
    endpoint,
    port: Number(port),
    begunAt: Number(begunAt),
    usedAt: Number(usedAt),
  }
}

function decrypted(key: Buffer, bytes: Buffer): string | undefined {
  const options = { authTagLength: TAG_BYTES }
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES), options)
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8')
  try {
    return text + decipher.final('utf8')
  } catch {
    // Not sealed by us: as if the client had sent none.
    return undefined
  }
}
