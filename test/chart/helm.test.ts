// SPDX-License-Identifier: Apache-2.0
// The chart in the hands of Helm itself: it passes its lint, renders to the objects that our renderer makes, and refuses the same values.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import t from 'tap'
import { chartKinds, renderChart } from '../../daemonset/render/chart.ts'
import type { Values } from '../../daemonset/render/values.ts'
import { schemaLeaves, valuesAt } from './schema-leaves.ts'
import { parseManifests } from '../../lab/machine/manifests.ts'

const CHART = fileURLToPath(new URL('../../daemonset/chart', import.meta.url))
const CACHE = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
const HELM = [join(CACHE, 'ambit/helm-v3.22.0/helm'), 'helm'].find(
  (program) => spawnSync(program, ['version']).status === 0,
)
const skip = HELM === undefined && 'helm is missing: sh scripts/helm.sh builds it'

const helm = (...args: readonly string[]): SpawnSyncReturns<string> =>
  spawnSync(HELM ?? 'helm', [...args, '--kube-version', '1.31.0'], { encoding: 'utf8' })

const PLATFORMS = ['generic', 'k3s', 'k3d', 'microk8s', 'minikube', 'gke']
const EVERYTHING: Values = {
  createNamespace: true,
  image: { repository: 'r.example:5000/ambit', tag: 'v1', pullSecrets: ['one', 'two'] },
  mesh: {
    trustDomainAliases: ['old.example'],
    network: 'net',
    clusterId: 'east',
    namespaceSelector: 'mesh in (ours, mine),!old',
  },
  otlp: { endpoint: 'http://collector:4318', secretName: 'otlp' },
  spire: {
    adminSocket: 'unix:///run/spire/private/admin.sock',
    workloadApiSocket: 'unix:///spiffe-workload-api/spire-agent.sock',
  },
  agent: {
    workers: 4,
    failOpen: true,
    cgroup: '/sys/fs/cgroup/unified',
    kubeletCgroups: ['/sys/fs/cgroup/a', '/sys/fs/cgroup/b'],
    maxConnectionsPerPod: 2_000_000,
    maxSurge: '10%',
    seLinuxType: 'spc_t',
    accessLog: { filter: 'dst.namespace == "shop" || has(error)', sample: 0.25 },
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'a', operator: 'In', values: ['yes', 'no'] }] },
          ],
        },
      },
    },
    podLabels: { team: 'mesh', on: 'yes' },
    podAnnotations: { note: 'two\nlines', number: '1' },
    extraArgs: ['--certificate-ttl=1h'],
    extraEnv: [
      { name: 'A', value: 'true' },
      { name: 'B', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
    ],
    extraVolumes: [{ name: 'crl', secret: { secretName: 'crl' } }],
    extraVolumeMounts: [{ name: 'crl', mountPath: '/crl', readOnly: true }],
    resources: { limits: { memory: '1Gi' }, requests: { cpu: 0.5 } },
  },
  controller: {
    replicas: 3,
    servingNames: ['ambit.example', '10.0.0.1'],
    tolerations: [{ key: 'control', operator: 'Exists', effect: 'NoSchedule' }],
    podDisruptionBudget: false,
  },
  waypoint: { image: 'other/waypoint:1' },
}

void t.test('helm lint, strictly', { skip }, (t) => {
  const { status, stdout, stderr } = helm('lint', '--strict', CHART)
  t.equal(status, 0, stdout + stderr)
  t.end()
})

void t.test('Helm renders what we render', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-chart-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const cases = [...PLATFORMS.map((platform): Values => ({ platform })), EVERYTHING]
  for (const [at, values] of cases.entries()) {
    const file = join(directory, 'values.json')
    writeFileSync(file, JSON.stringify(values))
    const args = ['template', 'mine', CHART, '--namespace', 'mesh', '--skip-tests', '-f', file]
    const { status, stdout, stderr } = helm(...args)
    t.equal(status, 0, stderr)
    const { objects } = await renderChart(values, {
      name: 'mine',
      namespace: 'mesh',
      service: 'Helm',
    })
    t.strictSame(byName(parseManifests(stdout, 'helm')), byName(objects), `values ${at}`)
  }
})

void t.test('the kinds and the test come with it', { skip }, (t) => {
  const { stdout } = helm('template', 'mine', CHART, '--include-crds', '--namespace', 'mesh')
  const all = parseManifests(stdout, 'helm')
  for (const { kind, name } of chartKinds())
    t.ok(
      all.some((each) => each.kind === kind && each.name === name),
      name,
    )
  const pod = all.find(({ kind }) => kind === 'Pod')
  t.match(pod?.object, { metadata: { annotations: { 'helm.sh/hook': 'test' } } })
  t.end()
})

void t.test('Helm refuses what we refuse, by the same path', { skip }, async (t) => {
  const cases = {
    'agent.wrokers=2': /wrokers/,
    'platform=k8s': /platform/,
    'controller.replicas=0': /replicas/,
    'agent.workers=257': /workers/,
    'mesh.trustDomain=Upper': /trustDomain/,
    'cni.binDir=opt/cni': /binDir/,
  }
  for (const [set, path] of Object.entries(cases)) {
    const { status, stderr } = helm('template', 'mine', CHART, '--set', set)
    t.not(status, 0, set)
    t.match(stderr, path, set)
    t.match(stderr, /values don't meet the specifications of the schema/, set)
  }
  const { status, stderr } = helm('template', 'mine', CHART, '--set', 'controller.caSecret=cacerts')
  t.not(status, 0)
  t.match(stderr, /controller\.plugInCaSecret is "cacerts" as controller\.caSecret is/)
})

void t.test('and every value of a wrong kind, whichever it is', { skip }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-chart-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'values.json')
  for (const [path] of schemaLeaves()) {
    writeFileSync(file, JSON.stringify(valuesAt(path, [{ un: 'fit' }])))
    const { status, stderr } = helm('template', 'mine', CHART, '-f', file)
    t.not(status, 0, path.join('.'))
    t.ok(stderr.includes(path.at(-1) ?? ''), `${path.join('.')}: ${stderr}`)
  }
  t.end()
})

interface Named {
  readonly kind: string
  readonly name: string
  readonly object: Values
}

const byName = (objects: readonly Named[]): Readonly<Record<string, Values>> =>
  Object.fromEntries(objects.map(({ kind, name, object }) => [`${kind} ${name}`, object]))
