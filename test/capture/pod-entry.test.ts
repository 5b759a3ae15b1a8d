// SPDX-License-Identifier: Apache-2.0
// What the hooks are told of a pod's addresses, by those that it was named by and those that its namespace has.

import fc from 'fast-check'
import t from 'tap'
import { fromMapAddress, toMapAddress } from '../../agent/capture/addresses.ts'
import { encodePod, LAYOUT, MAX_POD_ADDRESSES } from '../../agent/capture/layout.ts'
import { podEntry } from '../../agent/capture/pod-entry.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { addressBytes } from '../../native/libc.ts'
import type { OwnAddress } from '../../native/own-addresses.ts'
import type { RoutedNetworks } from '../../native/routed-networks.ts'

const own = (text: string, index = 2, more: Partial<OwnAddress> = {}): OwnAddress => {
  const [address = '', prefix] = text.split('/')
  const bytes = addressBytes(address)
  const prefixLength = prefix === undefined ? bytes.length * 8 : Number(prefix)
  return { bytes, prefixLength, interface: index, isDeprecated: false, ...more }
}

const CASES: readonly {
  readonly is: string
  readonly named: readonly string[]
  readonly found: readonly OwnAddress[]
  readonly calls4?: string
  readonly calls6?: string
}[] = [
  {
    is: 'both families named and there',
    named: ['10.0.0.1', 'fd00::1'],
    found: [own('10.0.0.1'), own('fd00::1')],
    calls4: '10.0.0.1',
    calls6: 'fd00::1',
  },
  {
    is: 'a pod of an IPv6 cluster with IPv4 for going out',
    named: ['fd00::1'],
    found: [own('169.254.172.2'), own('fd00::1')],
    calls4: '169.254.172.2',
    calls6: 'fd00::1',
  },
  {
    is: 'named and not there',
    named: ['10.0.0.1', 'fd00::1'],
    found: [own('10.0.0.1')],
    calls4: '10.0.0.1',
  },
  {
    is: 'a second network listed before the named address',
    named: ['10.0.0.1'],
    found: [own('192.168.66.1/24', 3), own('10.0.0.1')],
    calls4: '10.0.0.1',
  },
  {
    is: 'a deprecated address and one of loopback beside one for use',
    named: [],
    found: [own('fd00::9', 1), own('fd00::1', 2, { isDeprecated: true }), own('fd00::2')],
    calls6: 'fd00::2',
  },
  { is: 'nothing at all', named: ['10.0.0.1'], found: [] },
]

for (const { is, named, found, calls4, calls6 } of CASES)
  void t.test(
    `${is}: calls come from ${calls4 ?? 'no IPv4'} and ${calls6 ?? 'no IPv6'}`,
    async (t) => {
      const entry = podEntry({ addresses: named as IpAddress[], failOpen: false }, found)
      const text = (address: Buffer | undefined): string | undefined =>
        address === undefined ? undefined : fromMapAddress(address)
      t.equal(text(entry.primary4), calls4)
      t.equal(text(entry.primary6), calls6)
      t.equal(entry.addresses.length, found.length)
    },
  )

void t.test('the narrowest network stands first, whatever the family', async (t) => {
  const found = [own('10.0.0.0/8'), own('192.168.66.1/24'), own('fd00::1/64'), own('10.1.1.1')]
  const { addresses } = podEntry({ addresses: [], failOpen: false }, found)
  t.strictSame(
    addresses.map(({ address }) => fromMapAddress(address)),
    ['10.1.1.1', '192.168.66.1', '10.0.0.0', 'fd00::1'],
  )
  t.strictSame(
    addresses.map(({ mask }) => mask.toString('hex')),
    [
      `${'f'.repeat(32)}`,
      `${'f'.repeat(30)}00`,
      `${'f'.repeat(26)}000000`,
      `${'f'.repeat(16)}${'0'.repeat(16)}`,
    ],
  )
})

void t.test(
  'of more addresses than fit, the named ones are among those that are kept',
  async () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 60 }), fc.boolean(), (more, failOpen) => {
        const others = Array.from({ length: more }, (_, index) => own(`10.7.0.${index}`, 4))
        const found = [...others, own('10.0.0.1'), own('fd00::1')]
        const addresses = ['10.0.0.1', 'fd00::1'] as IpAddress[]
        const entry = podEntry({ addresses, failOpen }, found)
        const value = encodePod(entry)
        const count = value.readUInt32LE(LAYOUT.ambit_pod.members.address_count)
        const kept = entry.addresses.map(({ address }) => fromMapAddress(address))
        return (
          value.length === LAYOUT.ambit_pod.size &&
          count === Math.min(found.length, MAX_POD_ADDRESSES) &&
          value.readUInt32LE(0) === (failOpen ? 1 : 0) &&
          addresses.every((address) => kept.includes(address))
        )
      }),
    )
  },
)

void t.test(
  'a family is confined where no route leads beyond the networks of its addresses',
  async (t) => {
    const found = [
      own('10.0.0.1'),
      own('192.168.66.2/24', 3),
      own('fd00::1/64'),
      own('fd66::2/64', 3),
    ]
    const confined = (routes: RoutedNetworks, addresses = found): readonly number[] =>
      podEntry({ addresses: [], failOpen: false }, addresses, [4, 6], routes).confined
    const to = (...networks: readonly string[]) =>
      networks.map((network) => {
        const { bytes, prefixLength } = own(network)
        return { bytes, prefixLength }
      })
    t.strictSame(confined({}), [], 'nothing is said: there are default routes')
    t.strictSame(confined({ 6: to('fd00::/64', 'fe80::/64', 'ff00::/8', 'fd66::/64') }), [6])
    t.strictSame(confined({ 6: to('fd66::8000/113') }), [6], 'a part of such a network')
    t.strictSame(confined({ 6: to('fd66::/63') }), [], 'more than such a network')
    t.strictSame(confined({ 6: to('fd00::/64', '2001:db8::/32') }), [], 'another one')
    t.strictSame(confined({ 6: to('::/0') }), [], 'whatever was asked for came to nothing')
    t.strictSame(confined({ 4: to('169.254.1.1', '192.168.66.0/24'), 6: [] }), [4, 6])
    t.strictSame(confined({ 4: to('169.0.0.0/8') }), [])
    t.strictSame(confined({ 4: to('10.0.0.0/8') }), [])
    const many = Array.from({ length: 20 }, (_, index) => own(`10.7.${index}.1/24`, 4))
    t.strictSame(confined({ 4: to('10.7.19.0/24') }, many), [], 'of an address that is left out')
    const value = encodePod(
      podEntry({ addresses: [], failOpen: true }, found, [4, 6], { 4: [], 6: [] }),
    )
    t.equal(value.readUInt32LE(0), 7)
  },
)

void t.test('an IPv4 address is written in its mapped form', async (t) => {
  const entry = podEntry({ addresses: [], failOpen: false }, [own('10.0.0.1/8', 5)])
  const value = encodePod(entry)
  const { primary4, address } = LAYOUT.ambit_pod.members
  t.strictSame(value.subarray(primary4, primary4 + 16), toMapAddress('10.0.0.1'))
  t.strictSame(value.subarray(address, address + 16), toMapAddress('10.0.0.1'))
  t.equal(value.readUInt32LE(address + LAYOUT.ambit_pod_address.members.interface), 5)
})
