// SPDX-License-Identifier: Apache-2.0
// What capture says of an enrolled pod's network reaches the pod's owner as an event, each kind once in a while, and an
// address family that came later is served by enrolling again.

import t from 'tap'
import type { Event } from '../../mesh/kube/index.ts'
import { AMBIENT, inTime, setUpNode } from './node-setting.ts'

void t.test(
  'a network that was put right, and one that goes on changing, are told once each',
  async (t) => {
    const { start, label, pod, sandbox, capture, stub, until, annotation } = await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    await enrolment.onAdd(await sandbox(pod('web')), inTime())
    await until(() => annotation('web') === 'enabled', 'the annotation')
    const uid = pod('web').metadata?.uid ?? ''
    const what = ['rule fwmark 0x111/0xfff lookup 100', 'net.ipv4.fwmark_reflect (it was 0)']
    for (let times = 0; times < 50; times += 1) {
      capture.tell(uid, { kind: 'repaired', what })
      capture.tell(uid, { kind: 'contested', what: what.slice(0, 1) })
    }
    capture.tell(uid, { kind: 'clash', what: ['300: fwmark 0x111/0xfff lookup 254'] })
    capture.tell(uid, { kind: 'withoutLoopback6', what: ['IPv6'] })
    capture.tell('of nobody', { kind: 'repaired', what })
    const posted = (): readonly Event[] =>
      stub.requests
        .filter((request) => request.url.pathname.endsWith('/events'))
        .map((request) => JSON.parse(request.body) as Event)
    await until(() => posted().length >= 4, 'the events')
    t.match(posted(), [
      {
        type: 'Warning',
        reason: 'NetworkRepaired',
        message:
          /put right: rule fwmark 0x111\/0xfff lookup 100, net\.ipv4\.fwmark_reflect \(it was 0\)/,
        involvedObject: { kind: 'Pod', namespace: 'shop', name: 'web' },
      },
      { reason: 'NetworkContested', message: /goes on changing.*not served/ },
      { reason: 'NetworkClash', message: /routing rule "300: fwmark 0x111\/0xfff lookup 254"/ },
      { reason: 'AddressNotServed', message: /IPv6/ },
    ])
    t.same(capture.calls, ['+web'], 'it stays enrolled as it was')
  },
)

void t.test('a family that came later is served by fresh listeners', async (t) => {
  const { start, label, pod, sandbox, capture, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  capture.tell(pod('web').metadata?.uid ?? '', { kind: 'familyCame', what: ['IPv6'] })
  await until(() => capture.calls.length === 2, 'another enrolment')
  t.same(capture.calls, ['+web', '+web'])
})
