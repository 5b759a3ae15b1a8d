// SPDX-License-Identifier: Apache-2.0
// Addresses have one text each, whatever way they came.

import { isIPv6 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import {
  familyOf,
  formatSocketAddress,
  ipAddressFromBytes,
  ipAddressToBytes,
  isInPrefix,
  parseIpAddress,
  parseSocketAddress,
  socketAddressOf,
} from '../../mesh/model/address.ts'
import { ip } from './samples.ts'

void t.test('parseIpAddress() gives the canonical text', async (t) => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['10.0.0.1', '10.0.0.1'],
    ['::FFFF:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['FD98:0030:0000:0000:0000:0000:0000:0001', 'fd98:30::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['fd98::', 'fd98::'],
    // RFC 5952 4.2.2 and 4.2.3: a lone zero stays, the first of two equal runs is shortened.
    ['1:2:3:0:5:6:7:8', '1:2:3:0:5:6:7:8'],
    ['1:0:0:4:5:0:0:8', '1::4:5:0:0:8'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['fe80::1%eth0', undefined],
    ['010.0.0.1', undefined],
    ['10.0.0', undefined],
    ['10.0.0.256', undefined],
    ['1::2::3', undefined],
    ['catalog.shop', undefined],
    ['', undefined],
  ]
  for (const [text, expected] of cases) t.equal(parseIpAddress(text), expected, text)
})

void t.test('bytes and text say the same address, both ways', async (t) => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    // Runs of zeros, where shortening happens.
    fc
      .array(fc.constantFrom(0, 0, 0, 1), { minLength: 16, maxLength: 16 })
      .map((values) => Uint8Array.from(values)),
  )
  fc.assert(
    fc.property(bytes, (raw) => {
      const address = ipAddressFromBytes(raw)
      if (address === undefined) return false
      const isMapped = raw.length === 16 && !address.includes(':')
      const expected = isMapped ? raw.subarray(12) : raw
      return (
        Buffer.compare(ipAddressToBytes(address), expected) === 0 &&
        parseIpAddress(address) === address &&
        (!address.includes(':') || isIPv6(address))
      )
    }),
  )
  t.equal(ipAddressFromBytes(new Uint8Array(5)), undefined)
  t.equal(ipAddressFromBytes(new Uint8Array(0)), undefined)
})

void t.test('isInPrefix() compares leading bits within one family', async (t) => {
  t.equal(isInPrefix(ip('10.1.2.3'), ip('10.0.0.0'), 8), true)
  t.equal(isInPrefix(ip('10.1.2.3'), ip('10.1.2.2'), 31), true)
  t.equal(isInPrefix(ip('10.1.2.4'), ip('10.1.2.2'), 30), false)
  t.equal(isInPrefix(ip('11.1.2.3'), ip('10.0.0.0'), 8), false)
  t.equal(isInPrefix(ip('192.0.2.1'), ip('10.0.0.0'), 0), true)
  t.equal(isInPrefix(ip('fd98:1::1'), ip('fd98::'), 16), true)
  t.equal(isInPrefix(ip('fd98:1::1'), ip('fd98::'), 32), false)
  t.equal(isInPrefix(ip('10.0.0.1'), ip('::'), 0), false)
})

void t.test('an address and its port are written and read back in both families', async (t) => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => parseIpAddress(text) ?? ip('::'))
  fc.assert(
    fc.property(address, fc.integer({ min: 1, max: 65_535 }), (address, port) => {
      const parsed = parseSocketAddress(formatSocketAddress({ address, port }))
      return parsed?.address === address && parsed.port === port
    }),
  )
  t.equal(formatSocketAddress({ address: ip('10.0.0.1'), port: 80 }), '10.0.0.1:80')
  t.equal(formatSocketAddress({ address: ip('fd00::1'), port: 80 }), '[fd00::1]:80')
  t.equal(familyOf(ip('10.0.0.1')), 4)
  t.equal(familyOf(ip('fd00::1')), 6)
})

void t.test('parseSocketAddress() takes nothing but an address and a decimal port', async (t) => {
  for (const text of [
    '',
    '10.0.0.1',
    '10.0.0.1:',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    '10.0.0.1:+80',
    '10.0.0.1: 80',
    '10.0.0.1:0x50',
    '10.0.0.1:8e1',
    '010.0.0.1:80',
    'fd00::1:80',
    '[10.0.0.1]:80',
    '[fe80::1%eth0]:80',
    'catalog:80',
    'localhost:80',
    ':80',
  ])
    t.equal(parseSocketAddress(text), undefined, text)
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseSocketAddress(text)
      parseSocketAddress(`[${text}]:80`)
    }),
  )
})

void t.test('what a socket says of its ends is told in the canonical text', async (t) => {
  t.strictSame(socketAddressOf('::ffff:10.0.0.1', 80), { address: '10.0.0.1', port: 80 })
  t.strictSame(socketAddressOf('fe80::1%eth0', 80), { address: 'fe80::1', port: 80 })
  t.equal(socketAddressOf(undefined, undefined), undefined)
})
