// SPDX-License-Identifier: Apache-2.0
// A pod is its network, whatever addresses that has: given pods with a second network, an address that floats between two of
// them, or IPv4 that the node gives to pods of an IPv6 cluster, then calls go and come as without a mesh, through it; and what
// a pod's owner changes of its network is put right and told.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Lab } from '../../lab/cluster/index.ts'
import { command } from '../../lab/machine/command.ts'
import { OUTSIDE_IP4 } from '../../lab/network/addressing.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { HTTP_PORT } from './programs/ports.ts'
import {
  type AccessLine,
  applyAll,
  linesWhere,
  meshLab,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { get, namespaceManifest, podAddress, serverManifest } from './support/pods.ts'

const skip = missing(...NEEDS)
const SERVER = fileURLToPath(new URL('./programs/server.ts', import.meta.url))

/** Runs a shell script in a pod's namespaces; throws when it fails. */
async function inPod(lab: Lab, pod: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(pod, ['sh', '-ec', script])
  if (code === 0) return stdout
  throw new Error(`${script} in ${pod}: ${stderr.trim()}`)
}

async function onNode(lab: Lab, script: string): Promise<void> {
  const { code, stderr } = await lab.nodeExec('node-a', ['sh', '-ec', script])
  if (code !== 0) throw new Error(`${script} on node-a: ${stderr.trim()}`)
}

const url = (address: string): string => `http://${address}:${HTTP_PORT}/`

await t.test('pods with addresses of their own', { skip }, async (t) => {
  const lab = await meshLab(t, [], 1)
  const pod = { namespace: 'mesh', node: 'node-a' }
  await applyAll(lab, [
    namespaceManifest('mesh'),
    serverManifest({ ...pod, name: 'left' }),
    serverManifest({ ...pod, name: 'right' }),
    serverManifest({ ...pod, name: 'six', families: 'IPv6' }),
  ])
  await lab.waitForPods('mesh')
  await waitForCapture(lab, 'mesh', true)
  const fabric = (script: string): Promise<string> =>
    command(['nsenter', `--net=/run/netns/${lab.layout.fabricNetns}`, 'sh', '-ec', script])
  const pidOf = (name: string): number => lab.pod(name).containers[0]?.process?.pid ?? 0
  /** A machine outside of the cluster: where the fabric is, on a network of its own with each pod. */
  const outside = spawn('nsenter', [`--net=/run/netns/${lab.layout.fabricNetns}`, 'node', SERVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(async () => {
    if (outside.exitCode === null && outside.signalCode === null) {
      const gone = once(outside, 'exit')
      outside.kill('SIGKILL')
      await gone
    }
  })
  const fromOutside = async (address: string): Promise<{ readonly client: string }> =>
    JSON.parse(await fabric(`curl --silent --show-error --fail --max-time 5 ${url(address)}`)) as {
      readonly client: string
    }

  await t.test(
    'a pod of an IPv6 cluster goes out by the IPv4 that its node gives it',
    async (t) => {
      await inPod(
        lab,
        'mesh/six',
        'ip addr add 169.254.172.2/32 dev eth0; ip route add 169.254.172.1 dev eth0; ip route add default via 169.254.172.1',
      )
      const device = `pod${lab.pod('mesh/six').uid.slice(0, 8)}`
      await onNode(
        lab,
        `ip addr add 169.254.172.1/32 dev ${device}; ip route add 169.254.172.2/32 dev ${device};
       nft 'add table ip egress; add chain ip egress post { type nat hook postrouting priority 100; }; add rule ip egress post ip saddr 169.254.172.0/22 masquerade'`,
      )
      let answer: { readonly client: string } | undefined
      await until(
        async () => {
          answer = await get(lab, 'mesh/six', url(OUTSIDE_IP4)).catch(() => undefined)
          return answer !== undefined
        },
        () => 'an answer by IPv4',
      )
      t.not(answer?.client, '169.254.172.2', 'the node stands in for it')
      await linesWhere(lab, 'node-a', 'the access line of its call', (line) =>
        JSON.stringify(line).includes(`${OUTSIDE_IP4}:${HTTP_PORT}`),
      )
      t.pass('and it went through the agent')
    },
  )

  await t.test('and so it calls a pod of the mesh that has IPv4, with identity', async (t) => {
    const target = await podAddress(lab, 'mesh/right', 4)
    const { client } = await get(lab, 'mesh/six', url(target))
    const identity = 'spiffe://cluster.local/ns/mesh/sa/default'
    const isOfCall = (line: AccessLine): boolean =>
      line.direction === 'inbound' &&
      line['dst.addr'] === `${target}:15008` &&
      line['src.identity'] === identity &&
      String(line['src.addr']).startsWith(`${client}:`)
    const lines = await linesWhere(lab, 'node-a', 'the access line of its call', isOfCall)
    t.match(lines.at(-1), { 'dst.workload': 'right', error: undefined })
    t.pass('seen as without a mesh: as the node, and with its identity')
  })

  await t.test('pods call each other over a second network', async (t) => {
    await command([
      'ip',
      'link',
      'add',
      'second',
      'netns',
      String(pidOf('mesh/left')),
      'type',
      'veth',
      'peer',
      'name',
      'second',
      'netns',
      String(pidOf('mesh/right')),
    ])
    await inPod(lab, 'mesh/left', 'ip addr add 192.168.66.2/24 dev second; ip link set second up')
    await inPod(lab, 'mesh/right', 'ip addr add 192.168.66.1/24 dev second; ip link set second up')
    t.equal((await get(lab, 'mesh/left', url('192.168.66.1'))).client, '192.168.66.2')
    t.equal((await get(lab, 'mesh/right', url('192.168.66.2'))).client, '192.168.66.1')
    const isOfCall = (line: AccessLine): boolean =>
      line.direction === 'inbound' && JSON.stringify(line).includes(`192.168.66.1:${HTTP_PORT}`)
    await linesWhere(lab, 'node-a', 'the access line of the call', isOfCall)
    t.pass('through the agent, which says so')
  })

  await t.test('a machine on another network calls a pod there and is called', async (t) => {
    for (const [name, net] of [
      ['left', 67],
      ['right', 68],
    ] as const) {
      await fabric(`ip link add out${net} type veth peer name third netns ${pidOf(`mesh/${name}`)};
        ip addr add 192.168.${net}.1/24 dev out${net}; ip link set out${net} up`)
      await inPod(
        lab,
        `mesh/${name}`,
        `ip addr add 192.168.${net}.2/24 dev third; ip link set third up`,
      )
      t.equal((await fromOutside(`192.168.${net}.2`)).client, `192.168.${net}.1`)
      t.equal((await get(lab, `mesh/${name}`, url(`192.168.${net}.1`))).client, `192.168.${net}.2`)
    }
  })

  await t.test('an address that floats between two pods is served wherever it is', async (t) => {
    for (const [name, net] of [
      ['left', 67],
      ['right', 68],
      ['left', 67],
    ] as const) {
      await inPod(lab, `mesh/${name}`, 'ip addr add 192.168.99.9/32 dev third')
      await fabric(`ip route replace 192.168.99.9/32 dev out${net}`)
      const { client } = await fromOutside('192.168.99.9')
      t.equal(client, `192.168.${net}.1`, `it is at ${name}`)
      await inPod(lab, `mesh/${name}`, 'ip addr del 192.168.99.9/32 dev third')
    }
    await t.rejects(fromOutside('192.168.99.9'), 'and nowhere when nobody has it')
  })

  await t.test('what the owner of a pod changes is put right, and told', async (t) => {
    const target = await podAddress(lab, 'mesh/right', 4)
    await inPod(
      lab,
      'mesh/right',
      'ip rule del fwmark 0x111/0xfff; ip -6 rule del fwmark 0x111/0xfff; echo 0 > /proc/sys/net/ipv4/tcp_fwmark_accept',
    )
    let warned = ''
    await until(
      async () => {
        warned = await lab.kubectl(
          'get',
          'events',
          '--namespace=mesh',
          '--output=jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{"\\n"}{end}',
        )
        return warned.includes('right NetworkRepaired')
      },
      () => `the event: ${warned}`,
    )
    t.match(warned, /right NetworkRepaired .*rule fwmark 0x111\/0xfff lookup 100/)
    await until(
      async () =>
        (await inPod(lab, 'mesh/right', 'cat /proc/sys/net/ipv4/tcp_fwmark_accept')).trim() === '1',
      () => 'the sysctl to be set back',
    )
    t.equal(
      (await get(lab, 'mesh/left', url(target))).client,
      await podAddress(lab, 'mesh/left', 4),
    )
    t.equal((await fromOutside('192.168.68.2')).client, '192.168.68.1')
  })
})
