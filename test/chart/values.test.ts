// SPDX-License-Identifier: Apache-2.0
// The chart's values: every one has a default, a description and a schema that refuses what is wrong, with its path.

import t from 'tap'
import { renderChart } from '../../daemonset/render/chart.ts'
import { requireValid } from '../../daemonset/render/schema.ts'
import { mergeValues, readValuesFile, type Values } from '../../daemonset/render/values.ts'
import { schemaLeaves, valuesAt } from './schema-leaves.ts'

const chart = new URL('../../daemonset/chart/', import.meta.url)
const defaults = readValuesFile(new URL('values.yaml', chart).pathname)

const render = (values: Values): Promise<unknown> => renderChart(values, { namespace: 'mesh' })
const judge = (values: Values): void => requireValid(mergeValues(defaults, values))

void t.test('each value has a default and a description, and there is no other', (t) => {
  const ofDefaults = (from: unknown, path: readonly string[]): unknown =>
    path.reduce<unknown>((value, name) => (value as Values)[name], from)
  for (const [path, { description }] of schemaLeaves()) {
    t.not(ofDefaults(defaults, path), undefined, `${path.join('.')} has a default`)
    t.match(description, /\w.*\.$/, `${path.join('.')} has a description`)
  }
  t.end()
})

void t.test('every value of a wrong kind is refused, by its path', (t) => {
  const wrong: unknown[] = [{ un: 'fit' }, [{ un: 'fit' }], -1.5, 'no such thing !']
  for (const [path] of schemaLeaves()) {
    const dotted = path.join('.')
    const told = wrong.flatMap((value) => refusalOf(() => judge(valuesAt(path, value))))
    // A free text takes a text that says nothing to anybody, and nothing else.
    t.ok(told.length >= 3, `${dotted}: ${told.length} of ${wrong.length} refused`)
    for (const error of told) {
      t.match(error, { code: 'AMB_CHART_VALUES' })
      t.ok(error.message.includes(dotted), `${dotted}: ${error.message}`)
    }
  }
  t.end()
})

function refusalOf(call: () => void): readonly Error[] {
  try {
    call()
    return []
  } catch (thrown) {
    return thrown instanceof Error ? [thrown] : []
  }
}

void t.test('what is wrong is told in words', async (t) => {
  const cases: readonly (readonly [Values, RegExp])[] = [
    [{ agnet: {} }, /agnet is no value of this chart/],
    [{ agent: { wrokers: 2 } }, /agent\.wrokers is no value of this chart/],
    [{ platform: 'k8s' }, /platform must be one of generic, k3s, k3d, microk8s, minikube, gke/],
    [{ agent: { workers: 257 } }, /agent\.workers must be <= 256/],
    [{ controller: { replicas: 0 } }, /controller\.replicas must be >= 1/],
    [{ controller: { replicas: '2' } }, /controller\.replicas must be integer/],
    [{ mesh: { trustDomain: 'Upper' } }, /mesh\.trustDomain must match pattern/],
    [{ cni: { binDir: 'opt/cni' } }, /cni\.binDir must match pattern/],
    [
      { agent: { extraArgs: ['--log-level=debug', 'log-level'] } },
      /agent\.extraArgs\[1\] must match/,
    ],
    [{ agent: { tolerations: [{ effect: 'Never' }] } }, /tolerations\[0\]\.effect must be one of/],
    [{ agent: { resources: { limits: { memory: '1 GB' } } } }, /resources\.limits\.memory must/],
    [{ agent: { podLabels: { 'a b': 'c' } } }, /agent\.podLabels\.a b/],
    [{ image: { digest: 'sha256:1' } }, /image\.digest must match pattern/],
    [{ image: { repository: 'registry//ambit' } }, /image\.repository must match pattern/],
    [{ waypoint: { image: 'Upper:' } }, /waypoint\.image must match pattern/],
    [{ agent: { priorityClassName: 'Very High' } }, /agent\.priorityClassName must match pattern/],
    [{ agent: { extraEnv: [{ name: 'A=B' }] } }, /agent\.extraEnv\[0\]\.name must match pattern/],
    [{ agent: { extraVolumes: [{ name: 'A_B' }] } }, /agent\.extraVolumes\[0\]\.name must match/],
    [{ agent: { podAnnotations: { 'a b': 'c' } } }, /agent\.podAnnotations\.a b/],
    [{ agent: { tolerations: [{ key: 'a b' }] } }, /tolerations\[0\]\.key must match pattern/],
    [{ mesh: { namespaceSelector: 'a=b;c' } }, /mesh\.namespaceSelector must match pattern/],
    [{ otlp: { endpoint: 'collector:4318' } }, /otlp\.endpoint must match pattern/],
    [{ spire: { adminSocket: '/run/spire/admin.sock' } }, /spire\.adminSocket must match pattern/],
    [
      { agent: { podLabels: { app: 'mine' } } },
      /agent\.podLabels\.app is set by the chart itself$/,
    ],
    [{ agent: { extraEnv: [{ name: 'NODE_NAME' }] } }, /extraEnv\[0\]\.name is set by the chart/],
    [
      { agent: { extraVolumes: [{ name: 'proc' }] } },
      /extraVolumes\[0\]\.name is set by the chart/,
    ],
    [{ image: null }, /: image is missing$/],
    [{ controller: { replicas: null } }, /controller\.replicas is missing/],
    [{ agent: { tolerations: [{}] } }, /tolerations\[0\]\.key is missing$/],
    [
      { agent: { tolerations: [{ key: 'a', operator: 'Exists', value: 'b' }] } },
      /tolerations\[0\]\.value must be empty$/,
    ],
    [
      { agent: { tolerations: [{ key: 'a', effect: 'NoSchedule', tolerationSeconds: 1 }] } },
      /tolerations\[0\]\.effect must be one of NoExecute$/,
    ],
    [
      { controller: { caSecret: 'cacerts' } },
      /controller\.plugInCaSecret is "cacerts" as controller\.caSecret is: they must be two/,
    ],
    [{ cni: { confDir: '/etc/../cni' } }, /cni\.confDir must match pattern/],
    [{ cni: { netnsDir: '/run:netns' } }, /cni\.netnsDir must match pattern/],
    // Its directory is mounted: not the node's own root.
    [{ spire: { adminSocket: 'unix:///admin.sock' } }, /spire\.adminSocket must match pattern/],
  ]
  for (const [values, reason] of cases)
    await t.rejects(render(values), { code: 'AMB_CHART_VALUES', message: reason })
  await t.rejects(
    render({ image: { tag: 1 }, agent: { workers: 'x' } }),
    {
      message: /image\.tag .*; agent\.workers /,
    },
    'all of them at once',
  )
})

void t.test('what null takes away may be away where the chart does without', async (t) => {
  const nothing = { nodeSelector: null, tolerations: null, resources: null, podLabels: null }
  const more = { podAnnotations: null, affinity: null, extraEnv: null, extraArgs: null }
  const agent = { ...nothing, ...more, kubeletCgroups: null, priorityClassName: null }
  await t.resolves(render({ agent, controller: { ...nothing, ...more, servingNames: null } }))
})

void t.test('a text that YAML would take for something else stays a text', async (t) => {
  for (const word of ['123', 'true', 'null', 'no', '1e3', '0x1f']) {
    const { objects } = await renderChart(
      { image: { pullSecrets: [word] }, createNamespace: true, agent: { seLinuxType: 'spc_t' } },
      { namespace: word, name: word },
    )
    const text = JSON.stringify(objects.map(({ object }) => object))
    // To a reader of YAML 1.1 "no" is false, too.
    const bare = new RegExp(`(name|namespace|instance): ${word}$`, 'm')
    for (const each of objects) t.notMatch(each.text, bare)
    t.match(text, `"namespace":"${word}"`)
    t.match(text, `"imagePullSecrets":[{"name":"${word}"}]`)
  }
  const flags = async (values: Values): Promise<readonly unknown[]> =>
    (await renderChart(values, { namespace: 'mesh' })).objects
      .flatMap(({ object }) => /"args":(\[.*?\])/.exec(JSON.stringify(object))?.[1] ?? [])
      .flatMap((args) => JSON.parse(args) as unknown[])
  const colons = await flags({
    mesh: { clusterId: 'east:', network: 'net:' },
    otlp: { endpoint: 'http://collector:' },
    controller: { servingNames: ['fe80::'] },
    agent: { podLogs: '/var/log/pods:' },
  })
  for (const wanted of [
    '--cluster-id=east:',
    '--serving-names=fe80::',
    '--pod-logs=/var/log/pods:',
  ])
    t.ok(colons.includes(wanted), wanted)
})

void t.test('annotations for scraping may be others', async (t) => {
  const podAnnotations = { 'prometheus.io/scrape': 'false', mine: 'yes' }
  const { objects } = await renderChart(
    { agent: { podAnnotations }, controller: { podAnnotations } },
    { namespace: 'mesh' },
  )
  for (const { object } of objects.filter(({ kind }) => /DaemonSet|Deployment/.test(kind)))
    t.match(object, {
      spec: {
        template: {
          metadata: { annotations: { ...podAnnotations, 'prometheus.io/path': '/metrics' } },
        },
      },
    })
})
