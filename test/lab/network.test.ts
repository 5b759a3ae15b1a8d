// SPDX-License-Identifier: Apache-2.0
// The lab's network as pods see it: each other, services, names, and the world outside; and the two ways to look
// at it, exec and capture.

import t from 'tap'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Lab } from '../../lab/cluster/index.ts'
import { command } from '../../lab/machine/command.ts'
import { missing } from '../helpers.ts'
import { ECHO_SERVER, IDLE, podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')

// Bounded by its waits; a loaded machine makes them long.
const RESOLVE = `
const dns = require('node:dns').promises
const [, name, type] = process.argv
new dns.Resolver({ timeout: 2000, tries: 1 }).resolve(name, type).then(
  (found) => console.log(JSON.stringify(found)),
  (error) => console.log(error.code))`

/** Asks the cluster's DNS from inside a pod; gives the records or the error's code. */
async function resolve(lab: Lab, name: string, type: string): Promise<unknown> {
  const output = await lab.exec('client', ['node', '-e', RESOLVE, name, type])
  const text = output.stdout.trim()
  return text.startsWith('[') ? JSON.parse(text) : text
}

async function curl(lab: Lab, pod: string, url: string): Promise<string> {
  const output = await lab.exec(pod, ['curl', '-sg', '--max-time', '3', url])
  return output.code === 0 ? output.stdout : `curl failed with ${String(output.code)}`
}

await t.test('the network of the lab', { skip }, async (t) => {
  const lab = await testLab(t)
  await lab.apply(podManifest('client', IDLE, { node: 'node-a' }))
  await lab.apply(podManifest('near', ECHO_SERVER, { node: 'node-a', labels: { app: 'near' } }))
  for (const name of ['one', 'two']) {
    await lab.apply(
      podManifest(name, ECHO_SERVER, {
        node: 'node-b',
        labels: { app: 'echo' },
        pod: { hostname: name, subdomain: 'bare' },
        container: {
          ports: [{ name: 'http', containerPort: 8080 }],
          readinessProbe: { httpGet: { port: 'http' }, periodSeconds: 1 },
        },
      }),
    )
  }
  await lab.apply(`
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: echo}
  ports: [{name: web, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {selector: {app: near}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: outside.test}
`)
  await lab.waitForPods('default')
  const service = async (name: string): Promise<readonly string[]> =>
    (await lab.kubectl('get', 'service', name, '-o', 'jsonpath={.spec.clusterIPs[*]}')).split(' ')
  const podIps = async (name: string): Promise<readonly string[]> =>
    (await lab.kubectl('get', 'pod', name, '-o', 'jsonpath={.status.podIPs[*].ip}')).split(' ')
  const [client4 = '', client6 = ''] = await podIps('client')
  await lab.waitFor('endpoints of echo', async () =>
    /^(10|fd98)/.test(await curl(lab, 'client', 'http://echo/')) ? true : undefined,
  )

  await t.test('pods of different nodes reach one another with their own addresses', async (t) => {
    const [one4 = '', one6 = ''] = await podIps('one')
    t.equal(await curl(lab, 'client', `http://${one4}:8080/`), `${client4} one`)
    t.equal(await curl(lab, 'client', `http://[${one6}]:8080/`), `${client6} one`)
    const [near4 = '', near6 = ''] = await podIps('near')
    t.equal(await curl(lab, 'client', `http://${near4}:8080/`), `${client4} near`)
    t.equal(await curl(lab, 'client', `http://[${near6}]:8080/`), `${client6} near`)
  })

  await t.test(
    'a service spreads over its endpoints, IPv4 and IPv6, from pods and nodes',
    async (t) => {
      const [vip4 = '', vip6 = ''] = await service('echo')
      for (const url of [`http://${vip4}/`, `http://[${vip6}]/`, 'http://echo/']) {
        const names = new Set<string>()
        for (let call = 0; call < 24 && names.size < 2; call += 1) {
          names.add((await curl(lab, 'client', url)).split(' ')[1] ?? '')
        }
        t.strictSame([...names].toSorted(), ['one', 'two'], url)
      }
      const fromNode = await lab.nodeExec('node-a', [
        'curl',
        '-s',
        '--max-time',
        '3',
        `http://${vip4}/`,
      ])
      t.match(fromNode.stdout, /^172\.30\.0\.10 (one|two)$/)
    },
  )

  await t.test('a pod reaches itself through its own service', async (t) => {
    t.match(await curl(lab, 'near', 'http://near.default/'), / near$/)
  })

  await t.test(
    'a service without endpoints, or a port it does not have, refuses at once',
    async (t) => {
      const [empty = ''] = await service('empty')
      const [vip = ''] = await service('echo')
      // curl: 7 is "failed to connect", 28 would be a time-out.
      t.equal(await curl(lab, 'client', `http://${empty}/`), 'curl failed with 7')
      t.equal(await curl(lab, 'client', `http://${vip}:81/`), 'curl failed with 7')
      const fromNode = await lab.nodeExec('node-b', [
        'curl',
        '-s',
        '--max-time',
        '3',
        `http://${empty}/`,
      ])
      t.equal(fromNode.code, 7)
    },
  )

  await t.test('an endpoint that is not ready gets nothing', async (t) => {
    const [vip4 = ''] = await service('echo')
    await lab.kubectl('delete', 'pod', 'two')
    // The rules of the nodes follow the slices, and those the pods.
    await lab.waitFor('the other to have all calls', async () => {
      for (let call = 0; call < 8; call += 1)
        if ((await curl(lab, 'client', `http://${vip4}/`)) !== `${client4} one`) return undefined
      return true
    })
    t.equal(await curl(lab, 'client', `http://${vip4}/`), `${client4} one`)
  })

  await t.test(
    'cluster DNS answers for services, and knows what is empty and what does not exist',
    async (t) => {
      const [vip4 = '', vip6 = ''] = await service('echo')
      const [one4 = '', one6 = ''] = await podIps('one')
      const full = 'default.svc.cluster.local'
      t.strictSame(await resolve(lab, `echo.${full}`, 'A'), [vip4])
      t.strictSame(await resolve(lab, `ECHO.${full}`, 'AAAA'), [vip6])
      t.strictSame(await resolve(lab, `bare.${full}`, 'A'), [one4])
      t.strictSame(await resolve(lab, `one.bare.${full}`, 'AAAA'), [one6])
      t.equal(await resolve(lab, `near.${full}`, 'AAAA'), 'ENODATA')
      t.equal(await resolve(lab, `nobody.${full}`, 'A'), 'ENOTFOUND')
      t.equal(await resolve(lab, 'example.com', 'A'), 'ENOTFOUND')
      t.strictSame(await resolve(lab, 'outside.test', 'A'), ['203.0.113.10'])
      t.strictSame(await resolve(lab, 'outside.test', 'AAAA'), ['2001:db8:113::10'])
      t.strictSame(await resolve(lab, `alias.${full}`, 'A'), ['203.0.113.10'])
      t.match(await resolve(lab, `_web._tcp.echo.${full}`, 'SRV'), [
        { name: `echo.${full}`, port: 80 },
      ])
      const search = await lab.exec('client', ['getent', 'ahostsv4', 'echo.default'])
      t.match(search.stdout, vip4)
    },
  )

  await t.test('pods reach the world outside with their node’s address', async (t) => {
    const seen = `
      const servers = [['203.0.113.10', 0], ['2001:db8:113::10', 0]].map(([host]) =>
        require('node:http').createServer((request, response) => response.end(request.socket.remoteAddress))
          .listen(8099, host, () => { if (++up === 2) console.log('up') }))
      var up = 0
      setTimeout(() => process.exit(0), 20000)`
    const { spawn } = await import('node:child_process')
    const outside = spawn(
      'nsenter',
      [`--net=/run/netns/${lab.layout.fabricNetns}`, process.execPath, '-e', seen],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    t.teardown(() => outside.kill('SIGKILL'))
    await new Promise((started) => outside.stdout.once('data', started))
    t.equal(await curl(lab, 'client', 'http://outside.test:8099/'), '172.30.0.10')
    t.equal(await curl(lab, 'client', 'http://[2001:db8:113::10]:8099/'), 'fd98:30::a0')
  })

  await t.test('capture holds what crossed the link, complete when it ends', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'ambit-capture-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    const marker = `marker-${process.pid}`
    for (const where of ['fabric', 'node-b']) {
      const file = join(directory, `${where}.pcap`)
      const capture = await lab.capture(where, file)
      await curl(lab, 'client', `http://echo/${marker}`)
      await capture.stop()
      const text = await command(['tcpdump', '-r', file, '-A', '-n', 'tcp port 8080'])
      t.match(text, marker, where)
      t.ok(readFileSync(file).length > 24)
    }
  })

  await t.test(
    'exec runs in the pod, node-exec on the node in a cgroup that is not the kubelet’s',
    async (t) => {
      const inPod = await lab.exec('client', ['sh', '-c', 'cat /proc/self/cgroup; exit 5'])
      t.equal(inPod.code, 5)
      t.match(inPod.stdout, /node-a\/kubepods\/pod[^/]+\/main/)
      t.equal((await lab.exec('client', ['cat'], { input: 'to and fro' })).stdout, 'to and fro')
      const onNode = await lab.nodeExec('node-b', ['cat', '/proc/self/cgroup'])
      t.match(onNode.stdout, `0::/ambit-${lab.name}/node-b/exec`)
      t.equal(await lab.kubectl('exec', 'client', '--', 'hostname'), 'client\n')
      t.match(await lab.kubectl('logs', 'near'), '')
      await t.rejects(lab.exec('default/nobody', ['true']), {
        code: 'AMB_LAB_TARGET',
        message: /it has default\/client/,
      })
      await t.rejects(lab.nodeExec('node-z', ['true']), { message: /it has node-a, node-b/ })
    },
  )
})
