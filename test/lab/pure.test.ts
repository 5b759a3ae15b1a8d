// SPDX-License-Identifier: Apache-2.0
// The lab's pure parts by themselves: DNS answers on the wire, service rules, manifests, mounts, address plan.

import t from 'tap'
import { decode, encode } from 'dns-packet'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { LocalApi } from '../../lab/kubernetes/own/apiserver/local-api.ts'
import type { WatchEvent } from '../../lab/kubernetes/objects/cluster-api.ts'
import { ServiceIndex } from '../../lab/services/kube-view.ts'
import { labLayout } from '../../lab/machine/layout.ts'
import { parseManifests } from '../../lab/machine/manifests.ts'
import { wholeLines } from '../../lab/machine/whole-lines.ts'
import { respond } from '../../lab/services/dns/server.ts'
import { expand } from '../../lab/kubelet/environment.ts'
import { topMounts } from '../../lab/kubelet/host-mounts.ts'
import { parseIpFamilies } from '../../lab/kubelet/lab-net-plugin.ts'
import { hostsFile, resolvConf } from '../../lab/kubelet/pod-files.ts'
import { shellQuote } from '../../lab/kubelet/start-script.ts'
import { nodePlan, PodAddressPool } from '../../lab/network/addressing.ts'
import { type HostPort, HostPortIndex } from '../../lab/services/proxy/host-ports.ts'
import { serviceRuleset } from '../../lab/services/proxy/ruleset.ts'
import { missing } from '../helpers.ts'

const META = { uid: '1', resourceVersion: '1', creationTimestamp: '' }

function service(name: string, spec: StoredObject['spec']): StoredObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { ...META, name, namespace: 'shop' }, spec }
}

function slice(
  name: string,
  of: string,
  addressType: string,
  addresses: readonly string[],
  ready = true,
): StoredObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { ...META, name, namespace: 'shop', labels: { 'kubernetes.io/service-name': of } },
    addressType,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready } })),
  }
}

/** A cluster of fixed objects, and a way to change them. */
function watched(objects: readonly StoredObject[]): {
  readonly api: Pick<LocalApi, 'watch'>
  readonly change: (event: WatchEvent) => void
} {
  const listeners = new Map<string, (event: WatchEvent) => void>()
  const resources: Readonly<Record<string, string>> = {
    Service: 'services',
    EndpointSlice: 'endpointslices.discovery.k8s.io',
    Pod: 'pods',
  }
  return {
    api: {
      watch(resource, _options, onEvent) {
        listeners.set(resource, onEvent)
        for (const object of objects)
          if (resources[object.kind] === resource) onEvent({ type: 'ADDED', object })
        return () => listeners.delete(resource)
      },
    },
    change: (event) => listeners.get(resources[event.object.kind] ?? '')?.(event),
  }
}

/** An index over fixed objects, and a way to change them. */
function indexOf(objects: readonly StoredObject[]): {
  readonly index: ServiceIndex
  readonly change: (event: WatchEvent) => void
} {
  const { api, change } = watched(objects)
  return { index: new ServiceIndex(api, () => undefined), change }
}

const rulesOf = (
  index: ServiceIndex,
  node = 'node-a',
  hostPorts: readonly HostPort[] = [],
): string => serviceRuleset({ index, serviceRanges: [], hostPorts }, node)

const WEB = service('web', {
  clusterIP: '10.96.1.1',
  clusterIPs: ['10.96.1.1', 'fd98:96::101'],
  ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
})

function ask(
  index: ServiceIndex,
  name: string,
  type: 'A' | 'AAAA',
  transport: 'udp' | 'tcp' = 'udp',
) {
  const query = encode({ type: 'query', id: 7, flags: 0x0100, questions: [{ name, type }] })
  const reply = respond(index, query, transport)
  return reply === undefined ? undefined : decode(reply)
}

await t.test('respond() tells no such name from no such data, with the zone in authority', (t) => {
  const { index } = indexOf([WEB])
  const found = ask(index, 'web.shop.svc.cluster.local', 'A')
  t.match(found, { id: 7, rcode: 'NOERROR', flag_aa: true, answers: [{ data: '10.96.1.1' }] })
  t.match(ask(index, 'nope.shop.svc.cluster.local', 'A'), {
    rcode: 'NXDOMAIN',
    authorities: [{ type: 'SOA', name: 'cluster.local' }],
  })
  t.match(ask(index, 'shop.svc.cluster.local', 'A'), { rcode: 'NOERROR', answers: [] })
  t.match(ask(index, 'empty.svc.cluster.local', 'A'), { rcode: 'NXDOMAIN' })
  t.match(ask(index, 'pod.cluster.local', 'A'), { rcode: 'NXDOMAIN' })
  t.end()
})

await t.test(
  'respond() cuts what a plain UDP answer cannot hold, and drops what is no question',
  (t) => {
    const many = Array.from({ length: 60 }, (_, at) => `10.244.0.${at + 2}`)
    const headless = service('bare', { clusterIP: 'None', ports: [] })
    const { index } = indexOf([headless, slice('s', 'bare', 'IPv4', many)])
    const name = 'bare.shop.svc.cluster.local'
    t.match(ask(index, name, 'A'), { flag_tc: true, answers: [] })
    t.equal(ask(index, name, 'A', 'tcp')?.answers?.length, 60)
    t.equal(respond(index, Buffer.from('garbage'), 'udp'), undefined)
    t.equal(respond(index, Buffer.alloc(0), 'udp'), undefined)
    const answerMessage = encode({ type: 'response', id: 1, questions: [{ name, type: 'A' }] })
    t.equal(respond(index, answerMessage, 'udp'), undefined, 'no answer to an answer')
    t.end()
  },
)

await t.test('serviceRuleset() follows endpoints as they come, become unready, and go', (t) => {
  const ready = slice('s4', 'web', 'IPv4', ['10.244.0.2', '10.244.1.2'])
  const { index, change } = indexOf([WEB, ready, slice('s6', 'web', 'IPv6', ['fd98:244::2'])])
  const full = rulesOf(index)
  t.match(full, 'numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.2 . 8080 }')
  t.match(full, 'dnat ip6 to [fd98:244::2]:8080')
  t.match(full, '10.96.1.1 . tcp . 80 : goto svc-ip-tcp-shop-web-80')
  t.match(full, '10.244.0.2 . 10.244.0.2')
  change({ type: 'MODIFIED', object: slice('s4', 'web', 'IPv4', ['10.244.0.2'], false) })
  t.notMatch(rulesOf(index), 'svc-ip-tcp')
  change({ type: 'DELETED', object: WEB })
  t.notMatch(rulesOf(index), 'svc-ip6-tcp')
  t.end()
})

await t.test(
  'serviceRuleset() serves from endpoints that are ending when no other is left',
  (t) => {
    const ending = slice('s4', 'web', 'IPv4', ['10.244.0.2'])
    const endpoints = [
      { addresses: ['10.244.0.9'], conditions: { ready: false, serving: true, terminating: true } },
    ]
    const { index } = indexOf([WEB, { ...ending, endpoints }])
    t.match(rulesOf(index), 'dnat ip to 10.244.0.9:8080')
    t.end()
  },
)

await t.test('serviceRuleset() reads of an endpoint what kube-proxy reads', (t) => {
  const written = slice('s4', 'web', 'IPv4', [])
  const endpoints = [
    { addresses: ['10.244.0.8', '10.244.0.9'], conditions: { ready: false, terminating: true } },
  ]
  const { index } = indexOf([WEB, { ...written, endpoints }])
  t.match(rulesOf(index), 'dnat ip to 10.244.0.8:8080', 'what is not said to fail serves')
  t.notMatch(rulesOf(index), '10.244.0.9', 'further addresses have no meaning')
  t.end()
})

await t.test('serviceRuleset() counts an endpoint of several slices once', (t) => {
  const both = slice('s4', 'web', 'IPv4', ['10.244.0.2', '10.244.1.2'])
  const again = slice('s4-more', 'web', 'IPv4', ['10.244.0.2'])
  const { index } = indexOf([WEB, both, again])
  t.match(
    rulesOf(index),
    'numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.2 . 8080 }',
  )
  t.end()
})

await t.test(
  'serviceRuleset() keeps what is Local on the node, and drops it where nothing is',
  (t) => {
    const spread = {
      ...slice('s4', 'web', 'IPv4', []),
      endpoints: [
        { addresses: ['10.244.0.2'], nodeName: 'node-a' },
        { addresses: ['10.244.1.2'], nodeName: 'node-b' },
      ],
    }
    const local = { ...WEB, spec: { ...WEB.spec, internalTrafficPolicy: 'Local' } }
    const { index } = indexOf([local, spread])
    t.match(rulesOf(index, 'node-a'), 'dnat ip to 10.244.0.2:8080')
    t.notMatch(rulesOf(index, 'node-a'), '10.244.1.2')
    t.match(rulesOf(index, 'node-c'), '{ 10.96.1.1 . tcp . 80 } drop')
    t.end()
  },
)

await t.test('serviceRuleset() leads every address of a service to its endpoints', (t) => {
  const wide = service('wide', {
    clusterIP: '10.96.1.2',
    externalIPs: ['198.51.100.7'],
    ports: [{ name: 'http', port: 80, nodePort: 30080 }],
  })
  const status = {
    loadBalancer: {
      ingress: [{ ip: '198.51.100.8' }, { ip: '198.51.100.9', ipMode: 'Proxy' }],
    },
  }
  const { index, change } = indexOf([
    { ...wide, status },
    slice('s4', 'wide', 'IPv4', ['10.244.0.2']),
  ])
  const rules = rulesOf(index)
  t.match(rules, '198.51.100.7 . tcp . 80 : goto ext-ip-tcp-shop-wide-80')
  t.match(rules, '198.51.100.8 . tcp . 80 : goto ext-ip-tcp-shop-wide-80')
  t.notMatch(rules, '198.51.100.9')
  t.match(rules, 'tcp . 30080 : goto ext-ip-tcp-shop-wide-80')
  change({ type: 'MODIFIED', object: slice('s4', 'wide', 'IPv4', []) })
  t.match(rulesOf(index), '{ 198.51.100.7 . tcp . 80, 198.51.100.8 . tcp . 80 } reject')
  t.end()
})

await t.test(
  'serviceRuleset() moves few clients when a sticky service gets one endpoint more',
  (t) => {
    const sticky = { ...WEB, spec: { ...WEB.spec, sessionAffinity: 'ClientIP' } }
    const three = ['10.244.0.2', '10.244.0.3', '10.244.1.2']
    const { index, change } = indexOf([sticky, slice('s4', 'web', 'IPv4', three)])
    const groups = (): readonly string[] =>
      [...rulesOf(index).matchAll(/\d+ : (10\.244\.\d\.\d)/g)].map(([, address]) => address ?? '')
    const before = groups()
    t.equal(before.length, 128)
    change({ type: 'MODIFIED', object: slice('s4', 'web', 'IPv4', [...three, '10.244.1.3']) })
    const moved = groups().filter((address, at) => address !== before[at])
    t.strictSame([...new Set(moved)], ['10.244.1.3'], 'only to the one that came')
    t.ok(moved.length > 16 && moved.length < 48, `a quarter of them: ${moved.length} of 128`)
    t.end()
  },
)

await t.test('HostPortIndex knows a port of its node once the pod has an address', (t) => {
  const pod: StoredObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...META, name: 'p', namespace: 'shop' },
    spec: {
      nodeName: 'node-a',
      containers: [{ ports: [{ containerPort: 8080, hostPort: 8088 }, { containerPort: 9 }] }],
    },
  }
  const { api, change } = watched([pod])
  const ports = new HostPortIndex(api, () => undefined)
  t.strictSame(ports.of('node-a'), [])
  const status = { podIP: '10.244.0.2', podIPs: [{ ip: '10.244.0.2' }, { ip: 'fd98:244::2' }] }
  change({ type: 'MODIFIED', object: { ...pod, status } })
  t.strictSame(ports.of('node-b'), [])
  const rules = rulesOf(indexOf([]).index, 'node-a', ports.of('node-a'))
  t.match(rules, 'tcp dport 8088 dnat ip to 10.244.0.2:8080')
  t.match(rules, 'tcp dport 8088 dnat ip6 to [fd98:244::2]:8080')
  change({ type: 'MODIFIED', object: { ...pod, status: { ...status, phase: 'Succeeded' } } })
  t.strictSame(ports.of('node-a'), [])
  t.end()
})

await t.test(
  'parseManifests() reads several documents and lists, and knows the line of each field',
  (t) => {
    const text = `# first
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata:
      name: b
      namespace: shop
    spec:
      containers:
        - name: c
---
`
    const manifests = parseManifests(text, 'f.yaml')
    t.match(manifests, [
      { kind: 'ConfigMap', name: 'a', namespace: undefined },
      { kind: 'Pod', name: 'b', namespace: 'shop' },
    ])
    t.equal(manifests[1]?.where('spec.containers[0].name'), 'f.yaml:16')
    t.equal(manifests[1]?.where('spec.containers[0].image'), 'f.yaml:16', 'the nearest field above')
    t.strictSame(parseManifests('', 'f.yaml'), [])
    for (const [bad, message] of [
      ['- a', /f\.yaml:1: a manifest must be an object/],
      ['apiVersion: 7\nkind: X', /f\.yaml:1: field apiVersion must be a text/],
      ['apiVersion: v1\nkind: X\nmetadata: 7', /f\.yaml:3: field metadata must be an object/],
      ['a: b: c', /f\.yaml:1: this is not YAML/],
    ] as const) {
      t.throws(() => parseManifests(bad, 'f.yaml'), { code: 'AMB_BAD_MANIFEST', message })
    }
    t.end()
  },
)

await t.test(
  'PodAddressPool gives each address once, and a returned one as late as it can',
  (t) => {
    const pool = new PodAddressPool(nodePlan(1))
    const first = pool.take()
    t.match(first, { host: 2, ip4: '10.244.1.2', ip6: 'fd98:244:1::2' })
    pool.release(2)
    t.equal(pool.take()?.host, 3)
    for (let at = 4; at <= 254; at += 1) pool.take()
    t.equal(pool.take()?.host, 2, 'after all others')
    t.equal(pool.take(), undefined)
    t.equal(nodePlan(0).podCidr6, 'fd98:244::/64')
    t.end()
  },
)

await t.test('expand() replaces known names only, and $$ stands for $', (t) => {
  t.equal(expand('$(A)-$(B)-$$(A)-$A', { A: '1' }), '1-$(B)-$(A)-$A')
  t.end()
})

await t.test('topMounts() leaves out labs, namespaces, and what lies below another mount', (t) => {
  const line = (point: string): string => `1 2 0:3 / ${point} rw - tmpfs tmpfs rw`
  const points = [
    '/',
    '/sys',
    '/sys/fs/cgroup',
    '/run/netns',
    '/run/netns/x',
    '/run/ambit-lab/a/bpf',
    '/mnt/a\\040b',
  ]
  t.strictSame(topMounts(points.map(line).join('\n')), ['/sys', '/mnt/a b'])
  t.end()
})

await t.test('parseIpFamilies() takes IPv4, IPv6 or both, and nothing else', (t) => {
  t.strictSame(parseIpFamilies(undefined), ['IPv4', 'IPv6'])
  t.strictSame(parseIpFamilies('IPv6'), ['IPv6'])
  t.strictSame(parseIpFamilies('IPv4, IPv6'), ['IPv4', 'IPv6'])
  for (const bad of ['', 'ipv4', 'IPv4,x']) t.equal(parseIpFamilies(bad), undefined, bad)
  t.end()
})

const DNS = { dnsIp4: '10.96.0.10', dnsIp6: 'fd98:96::a' }

await t.test('resolvConf() and hostsFile() follow dnsPolicy, dnsConfig and hostAliases', (t) => {
  const pod = { metadata: { namespace: 'shop' }, spec: { containers: [] } }
  t.match(resolvConf(pod, ['fd98:244::2'], DNS), 'nameserver fd98:96::a')
  const own = {
    metadata: { namespace: 'shop' },
    spec: {
      containers: [],
      dnsPolicy: 'None',
      dnsConfig: {
        nameservers: ['192.0.2.1'],
        searches: ['a.test'],
        options: [{ name: 'ndots', value: '1' }],
      },
      subdomain: 'sub',
    },
  }
  t.equal(
    resolvConf(own, ['10.244.0.2'], DNS),
    'search a.test\nnameserver 192.0.2.1\noptions ndots:1',
  )
  t.match(hostsFile(own, ['10.244.0.2'], 'me'), '10.244.0.2\tme.sub.shop.svc.cluster.local\tme')
  t.end()
})

await t.test('shellQuote() lets no word become more than a word', (t) => {
  t.equal(shellQuote('plain-1.2/x'), 'plain-1.2/x')
  t.equal(shellQuote(`it's $(x)`), `'it'\\''s $(x)'`)
  t.equal(shellQuote(''), "''")
  t.end()
})

await t.test('labLayout() refuses names that cannot be one', { skip: missing('cgroup2') }, (t) => {
  for (const bad of ['', 'A', '-a', 'a-', 'a/b', 'a'.repeat(33), 'a b']) {
    t.throws(() => labLayout(bad), { code: 'AMB_USAGE' }, bad)
  }
  t.match(labLayout('a-1'), { fabricNetns: 'ambit-a-1-fabric', runDir: '/run/ambit-lab/a-1' })
  t.end()
})

void t.test('of a log that is being written whole lines are read', (t) => {
  t.strictSame(wholeLines('{"a":1}\n{"a":2}\n'), ['{"a":1}', '{"a":2}'])
  t.strictSame(
    wholeLines('{"a":1}\n{"a'),
    ['{"a":1}'],
    'the kernel shows a page of it before the next',
  )
  t.strictSame(wholeLines('{"a'), [])
  t.strictSame(wholeLines(''), [])
  t.end()
})
