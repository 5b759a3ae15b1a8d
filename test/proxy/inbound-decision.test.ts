// SPDX-License-Identifier: Apache-2.0
// The inbound decision tables, row by row.

import t from 'tap'
import { clientAddress, decideInboundHbone } from '../../agent/proxy/decision/inbound.ts'
import { isFromOutside } from '../../agent/proxy/decision/from-outside.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { testPod } from './loopback-world.ts'

const POD_IP = '10.244.2.3' as IpAddress
const POD_IP6 = 'fd98:244:2::3' as IpAddress
const pod = { ...testPod('catalog', POD_IP), addresses: [POD_IP, POD_IP6] }
const peer = { address: '10.244.1.2' as IpAddress, port: 40000 }
const local = { address: POD_IP, port: 15008 }

void t.test('HBONE row 3: an authority that is not ip:port is answered 400', (t) => {
  for (const authority of [
    '',
    'catalog',
    'catalog.shop:80',
    '10.244.2.3',
    '10.244.2.3:',
    '10.244.2.3:0',
    '10.244.2.3:65536',
    '10.244.2.3:8e1',
    '10.244.2.3:+80',
    'fd98:244:2::3:80',
    '[fd98:244:2::3%eth0]:80',
    '[10.244.2.3]:80',
  ])
    t.match(
      decideInboundHbone({ authority, local, pod }),
      { kind: 'reject', status: 400, reason: 'hboneBadRequest' },
      JSON.stringify(authority),
    )
  t.end()
})

void t.test('HBONE row 5: an authority of another pod, or of loopback, is answered 400', (t) => {
  for (const authority of ['10.244.2.4:80', '127.0.0.1:80', '[fd98:244:2::3]:80'])
    t.match(
      decideInboundHbone({ authority, local, pod }),
      { kind: 'reject', status: 400 },
      authority,
    )
  t.end()
})

void t.test('HBONE: what is decided is the address, however it was written', (t) => {
  t.same(decideInboundHbone({ authority: `${POD_IP}:8080`, local, pod }), {
    kind: 'connect',
    target: { address: POD_IP, port: 8080 },
  })
  const v6 = { address: POD_IP6, port: 15008 }
  t.same(decideInboundHbone({ authority: '[fd98:0244:2:0::3]:8080', local: v6, pod }), {
    kind: 'connect',
    target: { address: POD_IP6, port: 8080 },
  })
  t.end()
})

void t.test(
  "row 9: the app is dialled from the client's own address, but not from its own",
  (t) => {
    const target = { address: POD_IP, port: 8080 }
    t.equal(clientAddress(peer, target), peer.address)
    t.equal(clientAddress({ address: POD_IP, port: 5 }, target), undefined)
    t.end()
  },
)

void t.test('HBONE is for calls from outside the pod to one of its addresses', (t) => {
  const outside = (from: string, to: string): boolean =>
    isFromOutside(
      pod,
      { address: from as IpAddress, port: 40000 },
      { address: to as IpAddress, port: 15008 },
    )
  t.ok(outside('10.244.1.2', POD_IP))
  t.ok(outside('fd98:244:1::2', POD_IP6))
  for (const loopback of ['127.0.0.1', '127.255.255.254', '::1']) {
    t.notOk(outside(loopback, loopback), `${loopback} to itself`)
    t.notOk(outside(POD_IP, loopback), `the pod to ${loopback}`)
    t.notOk(outside(loopback, POD_IP), `${loopback} to the pod`)
    t.notOk(outside(loopback, POD_IP6), `${loopback} to the pod`)
  }
  t.notOk(outside(POD_IP, POD_IP), 'the pod to itself')
  t.notOk(outside(POD_IP6, POD_IP), 'the pod to its other address')
  for (const linkLocal of ['fe80::42', 'febf::1', '169.254.7.7'])
    t.notOk(outside(linkLocal, POD_IP6), `${linkLocal}, which may be the pod's own`)
  t.notOk(outside('10.244.1.2', '10.244.2.4'), 'an address of somebody else')
  t.notOk(outside('fe80::1', 'fe80::2'), 'an address the mesh does not know as the pod')
  t.end()
})
