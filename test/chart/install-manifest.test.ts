// SPDX-License-Identifier: Apache-2.0
// What the chart renders to, and that what is rendered from it is not stale.

import { readFileSync } from 'node:fs'
import t from 'tap'
import { renderChart } from '../../daemonset/render/chart.ts'
import { installManifest } from '../../daemonset/render/install-manifest.ts'
import type { Values } from '../../daemonset/render/values.ts'
import { labObject } from '../../lab/cluster/lab-mesh.ts'
import { at, records } from '../../lab/kubernetes/objects/json.ts'
import { VERSION } from '../../mesh/program/version.ts'

const root = new URL('../../', import.meta.url)
const RELEASE = { namespace: 'ambit-system' }

/** The fields of an object of the chart, by kind and name. */
async function rendered(values: Values, kind: string, name = 'ambit-agent'): Promise<Values> {
  const { objects } = await renderChart(values, RELEASE)
  const found = objects.find((each) => each.kind === kind && each.name === name)
  if (found === undefined) throw new Error(`the chart has no ${kind} ${name}`)
  return found.object
}

const container = (object: Values): Values =>
  records(at(object, 'spec', 'template', 'spec', 'containers'))[0] ?? {}

void t.test('install.yaml is what the chart renders to', async (t) => {
  const file = readFileSync(new URL('daemonset/install.yaml', root), 'utf8')
  t.equal(file, await installManifest(), 'else run node scripts/render-install.ts')
})

void t.test('the chart has the version of the product', async (t) => {
  const chart = readFileSync(new URL('daemonset/chart/Chart.yaml', root), 'utf8')
  t.ok(chart.includes(`\nversion: ${VERSION}\n`) && chart.includes(`\nappVersion: ${VERSION}\n`))
  const { notes } = await renderChart({}, RELEASE)
  t.match(notes, `Ambit ${VERSION} is in namespace ambit-system`)
})

void t.test('a platform has its own directories, and a value wins over it', async (t) => {
  const paths = async (values: Values): Promise<readonly unknown[]> => {
    const { args } = container(await rendered(values, 'DaemonSet'))
    const flags = (Array.isArray(args) ? args : []).filter((each) => /^--cni/.test(String(each)))
    return flags.map((each) => String(each).split('=')[1])
  }
  t.strictSame(await paths({}), ['/opt/cni/bin', '/etc/cni/net.d'])
  t.strictSame(await paths({ platform: 'microk8s' }), [
    '/var/snap/microk8s/current/opt/cni/bin',
    '/var/snap/microk8s/current/args/cni-network',
  ])
  t.strictSame(await paths({ platform: 'k3s', cni: { binDir: '/x' } }), [
    '/x',
    '/var/lib/rancher/k3s/agent/etc/cni/net.d',
  ])
  t.match(await rendered({ platform: 'gke' }, 'ResourceQuota', 'ambit-critical-pods'), {
    spec: { hard: { pods: '5000' } },
  })
})

void t.test('values come where they belong', async (t) => {
  const agent = container(
    await rendered(
      {
        image: { repository: 'registry.example/ambit', digest: `sha256:${'0'.repeat(64)}` },
        mesh: { trustDomain: 'example.org', trustDomainAliases: ['a', 'b'], network: 'n1' },
        agent: {
          workers: 3,
          failOpen: true,
          maxConnectionsPerPod: 2_000_000,
          accessLog: { filter: 'dst.namespace == "shop"', sample: 0.5 },
          kubeletCgroups: ['/sys/fs/cgroup/kubelet'],
          extraArgs: ['--certificate-ttl=1h'],
          extraEnv: [{ name: 'A', value: '1' }],
        },
      },
      'DaemonSet',
    ),
  )
  t.equal(agent['image'], `registry.example/ambit@sha256:${'0'.repeat(64)}`)
  for (const flag of [
    '--trust-domain=example.org',
    '--trust-domain-aliases=a,b',
    '--network=n1',
    '--workers=3',
    '--fail-open',
    '--max-connections-per-pod=2000000',
    '--access-log-filter=dst.namespace == "shop"',
    '--access-log-sample=0.5',
    '--kubelet-cgroup=/sys/fs/cgroup/kubelet',
    '--certificate-ttl=1h',
  ])
    t.ok((agent['args'] as readonly string[]).includes(flag), flag)
  t.ok(records(agent['env']).some(({ name, value }) => name === 'A' && value === '1'))
  const set = await rendered({ agent: { drainSeconds: 300 } }, 'DaemonSet')
  t.equal(at(set, 'spec', 'template', 'spec', 'terminationGracePeriodSeconds'), 310)
})

void t.test('a lab runs the same objects on its own machine', async (t) => {
  const { objects } = await renderChart({}, RELEASE)
  const paths = { lab: 'l', repository: '/repo', cgroup: '/cg', run: '/run/l' }
  for (const { kind, object } of objects) {
    const fitted = labObject(object, paths)
    if (kind !== 'DaemonSet' && kind !== 'Deployment') t.strictSame(fitted, object, kind)
    else t.match(container(fitted), { image: 'host', args: container(object)['args'] })
  }
  const agent = container(labObject(await rendered({}, 'DaemonSet'), paths))
  t.match(
    (agent['command'] as readonly string[]).join(' '),
    /setpriv --bounding-set=-all,\+net_admin,/,
  )
})

void t.test('no agent is to run on nodes that run no DaemonSets, and one may be', async (t) => {
  const rules = async (values: Values): Promise<unknown> =>
    at(await rendered(values, 'DaemonSet'), 'spec', 'template', 'spec', 'affinity')
  t.match(await rules({}), {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          {
            matchExpressions: [
              { key: 'eks.amazonaws.com/compute-type', operator: 'NotIn', values: ['fargate'] },
              { key: 'type', operator: 'NotIn', values: ['virtual-kubelet'] },
            ],
          },
        ],
      },
    },
  })
  t.equal(await rules({ agent: { affinity: null } }), undefined)
})
