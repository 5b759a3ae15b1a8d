// SPDX-License-Identifier: Apache-2.0
// Every prefix length there is, from the YAML to the verdict of an agent: the last address of a block and the first one outside it, next
// to it in the bits.

import t from 'tap'
import { readAuthorizationPolicy } from '../../controller/istio-api/authorization-policy.ts'
import { authorizationOf } from '../../controller/istio-api/authorization-rules.ts'
import { parseIpAddress } from '../../mesh/model/address.ts'
import { POLICY } from '../../mesh/model/policy.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import { CONFIG, ORIGIN } from '../core/objects.ts'
import { ip } from '../model/samples.ts'

interface Family {
  readonly name: string
  readonly bits: number
  readonly base: bigint
  readonly text: (value: bigint) => string
}

const hex16 = (value: bigint): string =>
  Array.from({ length: 8 }, (_, part) =>
    ((value >> BigInt(112 - 16 * part)) & 0xffffn).toString(16),
  ).join(':')
const FAMILIES: readonly Family[] = [
  {
    name: 'IPv4',
    bits: 32,
    base: 0xac1f_a5c3n,
    text: (value) =>
      [24n, 16n, 8n, 0n].map((shift) => ((value >> shift) & 0xffn).toString()).join('.'),
  },
  { name: 'IPv6', bits: 128, base: 0xfd0a_a5c3_1234_5678_9abc_def0_0f1e_2d3cn, text: hex16 },
]

/** What an agent says that has the policy as it was sent. */
function verdicts(source: object, addresses: readonly string[]): readonly string[] {
  const { facts } = readAuthorizationPolicy(
    { metadata: { name: 'p', namespace: 'shop' }, spec: { rules: [{ from: [{ source }] }] } },
    ORIGIN,
  )
  const policy = facts && authorizationOf(CONFIG, facts)?.policy
  const sent = policy && POLICY.decode(POLICY.encode(policy))
  if (sent?.ok !== true) throw new Error('agents cannot read it')
  const set = PolicySet.of([sent.value])
  const destination = { address: ip('10.244.0.1'), port: 80 }
  return addresses.map((text) => {
    const address = parseIpAddress(text)
    if (address === undefined) throw new Error(`${text} is no address`)
    return set.evaluate({ identity: undefined, source: address, destination }).kind
  })
}

for (const { name, bits, base, text } of FAMILIES)
  void t.test(`${name}: each length holds who is inside, and nobody else`, async (t) => {
    for (let length = 0; length <= bits; length += 1) {
      const hosts = (1n << BigInt(bits - length)) - 1n
      const inside = [text(base), text(base | hosts), text(base & ~hosts)]
      const outside = length === 0 ? [] : [text(base ^ (1n << BigInt(bits - length)))]
      const all = [...inside, ...outside]
      const block = `${text(base)}/${length}`
      t.strictSame(
        verdicts({ ipBlocks: [block] }, all),
        [...inside.map(() => 'allowed'), ...outside.map(() => 'notAllowed')],
        block,
      )
      t.strictSame(
        verdicts({ notIpBlocks: [block] }, all),
        [...inside.map(() => 'notAllowed'), ...outside.map(() => 'allowed')],
        `not ${block}`,
      )
    }
  })

void t.test(
  'an IPv4 address in an IPv6 coat is the IPv4 address, in blocks and calls',
  async (t) => {
    for (let length = 0; length <= 32; length += 1) {
      const block = `::ffff:172.31.165.195/${96 + length}`
      const outside = `::ffff:${FAMILIES[0]?.text(0xac1f_a5c3n ^ (1n << BigInt(32 - length)))}`
      t.strictSame(
        verdicts({ ipBlocks: [block] }, ['172.31.165.195', '::ffff:172.31.165.195']),
        ['allowed', 'allowed'],
        block,
      )
      if (length > 0) t.strictSame(verdicts({ ipBlocks: [block] }, [outside]), ['notAllowed'])
    }
    // All of IPv4 is nobody of IPv6, and the other way.
    t.strictSame(verdicts({ ipBlocks: ['0.0.0.0/0'] }, ['fd00::1']), ['notAllowed'])
    t.strictSame(verdicts({ ipBlocks: ['::/0'] }, ['10.0.0.1', '::ffff:10.0.0.1']), [
      'notAllowed',
      'notAllowed',
    ])
  },
)
