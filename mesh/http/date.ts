// SPDX-License-Identifier: Apache-2.0
// The time of an answer, as its Date says it (RFC 9110 5.6.7, 6.6.1): to the second, and made once for each.

const MS = 1_000

let madeFor = 0
let text = ''
let line = Buffer.alloc(0)

/** The value of Date. */
export function dateText(): string {
  renew()
  return text
}

/** The whole line of HTTP/1.1. */
export function dateLine(): Buffer {
  renew()
  return line
}

function renew(): void {
  const second = Math.floor(Date.now() / MS)
  if (second === madeFor) return
  madeFor = second
  text = new Date(second * MS).toUTCString()
  line = Buffer.from(`date: ${text}\r\n`, 'latin1')
}
