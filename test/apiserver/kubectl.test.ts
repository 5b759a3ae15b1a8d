// SPDX-License-Identifier: Apache-2.0
// Stories told with the real kubectl against the lab's API server.

import { contract, missingKubectl } from './cluster.ts'
import { addNode } from './pretend-kubelet.ts'
import { untilNames, untilObject, untilOutput } from './waiting.ts'

const skip = missingKubectl()

const SHOP = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  serviceAccountName: web
  containers:
  - {name: main, image: host, command: [sleep, inf], ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`

const DEPLOYMENT = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: host, command: [sleep, inf]}]}
`

contract(
  'a multi-document manifest is applied, then found unchanged',
  { skip },
  async (t, cluster) => {
    const first = await cluster.kubectl(['apply', '-f', '-'], SHOP)
    t.equal(first.code, 0, first.stderr)
    t.match(first.stdout, /namespace\/shop created\n.*\npod\/web created\nservice\/web created/)
    t.equal(first.stderr, '', 'kubectl has nothing to warn of')
    const second = await cluster.kubectl(['apply', '-f', '-'], SHOP)
    t.equal(second.stdout.match(/unchanged/g)?.length, 4, second.stdout)

    const wait = await cluster.kubectl([
      'wait',
      '-n',
      'shop',
      '--for=condition=Ready',
      'pod/web',
      '--timeout=120s',
    ])
    t.match(wait.stdout, /condition met/)
    const wide = await cluster.kubectl(['get', 'pods', '-n', 'shop', '-o', 'wide'])
    t.match(wide.stdout, /NAME +READY +STATUS +RESTARTS +AGE +IP +NODE/)
    t.match(wide.stdout, /web +1\/1 +Running +0 .* 10\.244\.0\.\d+ +node-[ab]/)
    const json = await cluster.kubectl([
      'get',
      'pod',
      '-n',
      'shop',
      'web',
      '-o',
      'jsonpath={.status.podIP}',
    ])
    t.match(json.stdout, /^10\.244\.0\.\d+$/)
    t.strictSame(cluster.errors, [])
  },
)

contract(
  'labels and annotations are set and removed, and a watcher sees it',
  { skip },
  async (t, cluster) => {
    await cluster.kubectl(['apply', '-f', '-'], SHOP)
    const watcher = cluster.spawnKubectl(['get', 'ns', '-w', '--show-labels'])
    const { stdout } = watcher
    if (stdout === null) throw new Error('no stdout')
    const seen = untilOutput(stdout, (text) => text.includes('dataplane-mode=ambient'))
    await untilOutput(stdout, (text) => text.includes('shop'))
    const label = await cluster.kubectl(['label', 'ns', 'shop', 'istio.io/dataplane-mode=ambient'])
    t.match(label.stdout, /namespace\/shop labeled/)
    t.match(await seen, /shop +Active +\S+ +.*istio\.io\/dataplane-mode=ambient/)
    await cluster.kubectl(['label', 'ns', 'shop', 'istio.io/dataplane-mode-'])
    await cluster.kubectl(['annotate', 'pod', '-n', 'shop', 'web', 'note=hello world'])
    const space = await cluster.api.get('namespaces', undefined, 'shop')
    t.equal(space.ok && space.value.metadata.labels?.['istio.io/dataplane-mode'], undefined)
    const pod = await cluster.api.get('pods', 'shop', 'web')
    t.equal(pod.ok && pod.value.metadata.annotations?.note, 'hello world')
    const bySelector = await cluster.kubectl([
      'get',
      'pods',
      '-A',
      '-l',
      'app in (web,db),!legacy',
      '-o',
      'name',
    ])
    t.equal(bySelector.stdout, 'pod/web\n')
    const byField = await cluster.kubectl([
      'get',
      'pods',
      '-A',
      '--field-selector',
      'spec.nodeName=nowhere',
      '-o',
      'name',
    ])
    t.equal(byField.stdout, '')
  },
)

contract(
  'a pod is deleted with its grace period, by the kubelet',
  { skip, kubelet: false },
  async (t, cluster) => {
    await cluster.kubectl(['apply', '-f', '-'], SHOP)
    await untilObject(cluster.api, 'pods', (pod) => pod.spec?.nodeName !== undefined)
    const deleted = await cluster.kubectl([
      'delete',
      'pod',
      '-n',
      'shop',
      'web',
      '--grace-period=7',
      '--wait=false',
    ])
    t.match(deleted.stdout, /pod "web" deleted/)
    const pod = await cluster.api.get('pods', 'shop', 'web')
    t.equal(pod.ok && pod.value.metadata.deletionGracePeriodSeconds, 7)
    t.ok(pod.ok && pod.value.metadata.deletionTimestamp)
    t.match((await cluster.kubectl(['get', 'pod', '-n', 'shop', 'web'])).stdout, /Terminating/)
    const waiting = cluster.kubectl([
      'wait',
      '--for=delete',
      'pod/web',
      '-n',
      'shop',
      '--timeout=120s',
    ])
    await cluster.api.delete('pods', 'shop', 'web', { gracePeriodSeconds: 0 })
    t.equal((await waiting).code, 0)
  },
)

contract(
  'a deployment rolls out, scales, is updated without going below its number, and rolls back',
  { skip },
  async (t, cluster) => {
    await cluster.kubectl(['apply', '-f', '-'], DEPLOYMENT)
    const status = ['rollout', 'status', 'deploy/web', '--timeout=120s']
    t.match((await cluster.kubectl(status)).stdout, /successfully rolled out/)
    t.match((await cluster.kubectl(['get', 'deploy', 'web'])).stdout, /web +3\/3 +3 +3/)
    const pods = await cluster.api.list('pods', { namespace: 'default' })
    const names = pods.ok ? pods.value.map((pod) => pod.metadata.name) : []
    for (const name of names) t.match(name, /^web-[a-z0-9]{10}-[a-z0-9]{5}$/)

    let fewest = Number.POSITIVE_INFINITY
    const stop = cluster.api.watch('deployments.apps', ({ object }) => {
      const available = object.status?.availableReplicas
      if (typeof available === 'number') fewest = Math.min(fewest, available)
    })
    await cluster.kubectl(['set', 'env', 'deploy/web', 'VERSION=2'])
    t.match((await cluster.kubectl(status)).stdout, /successfully rolled out/)
    stop()
    t.equal(fewest, 3, 'with 3 replicas, 25% unavailable rounds down to none')
    const sets = await cluster.kubectl(['get', 'rs', '--no-headers'])
    t.match(sets.stdout, / 0 +0 +0 /, 'the old set is empty')
    t.match(sets.stdout, / 3 +3 +3 /, 'the new set is full')

    const undo = await cluster.kubectl(['rollout', 'undo', 'deploy/web'])
    t.match(undo.stdout, /rolled back/)
    t.match((await cluster.kubectl(status)).stdout, /successfully rolled out/)
    const deployment = await cluster.api.get('deployments.apps', 'default', 'web')
    t.notMatch(JSON.stringify(deployment), /VERSION/)
    t.equal((await cluster.kubectl(['scale', 'deploy/web', '--replicas=1'])).code, 0)
    await untilObject(cluster.api, 'deployments.apps', (one) => one.status?.replicas === 1)
    t.equal((await cluster.kubectl(['delete', 'deploy', 'web'])).code, 0)
    await cluster.kubectl(['wait', '--for=delete', 'pod', '-l', 'app=web', '--timeout=120s'])
    await untilNames(cluster.api, 'pods', { namespace: 'default' }, [])
    t.strictSame(cluster.errors, [])
  },
)

contract(
  'a daemon set runs one pod on each node, new nodes included',
  { skip },
  async (t, cluster) => {
    const manifest = DEPLOYMENT.replace('kind: Deployment', 'kind: DaemonSet').replace(
      '  replicas: 3\n',
      '',
    )
    await cluster.kubectl(['apply', '-f', '-'], manifest)
    t.match(
      (await cluster.kubectl(['rollout', 'status', 'ds/web', '--timeout=120s'])).stdout,
      /successfully rolled out/,
    )
    await addNode(cluster.api, 'node-z')
    await untilObject(cluster.api, 'daemonsets.apps', (set) => set.status?.numberReady === 3)
    const pods = await cluster.api.list('pods')
    const nodes = pods.ok ? pods.value.map((pod) => pod.spec?.nodeName).sort() : []
    t.strictSame(nodes, ['node-a', 'node-b', 'node-z'])
    await cluster.kubectl(['rollout', 'restart', 'ds/web'])
    t.match(
      (await cluster.kubectl(['rollout', 'status', 'ds/web', '--timeout=120s'])).stdout,
      /successfully rolled out/,
    )
  },
)

contract('a namespace goes with everything in it', { skip }, async (t, cluster) => {
  await cluster.kubectl(['apply', '-f', '-'], SHOP)
  const deleted = await cluster.kubectl(['delete', 'ns', 'shop', '--timeout=120s'])
  t.equal(deleted.code, 0, deleted.stderr)
  for (const resource of ['pods', 'services', 'serviceaccounts', 'configmaps', 'endpoints'])
    t.strictSame(
      await cluster.api.list(resource, { namespace: 'shop' }),
      { ok: true, value: [] },
      resource,
    )
  t.match((await cluster.kubectl(['get', 'ns', 'shop'])).stderr, /namespaces "shop" not found/)
  t.match((await cluster.kubectl(['delete', 'ns', 'default'])).stderr, /may not be deleted/)
})

contract(
  'a custom resource is served as soon as it is defined, and checked by its schema',
  { skip },
  async (t, cluster) => {
    const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gates.example.com}
spec:
  group: example.com
  names: {kind: Gate, plural: gates, shortNames: [gt]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Height, type: integer, jsonPath: .spec.height}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [height]
            properties:
              height: {type: integer, minimum: 1}
              colour: {type: string, default: green, enum: [green, red]}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`
    await cluster.kubectl(['apply', '-f', '-'], definition)
    t.match(
      (
        await cluster.kubectl([
          'wait',
          '--for=condition=Established',
          'crd/gates.example.com',
          '--timeout=120s',
        ])
      ).stdout,
      /condition met/,
    )
    const gate = (spec: string): string =>
      `{"apiVersion":"example.com/v1","kind":"Gate","metadata":{"name":"north"},"spec":${spec}}`
    const created = await cluster.kubectl(['apply', '-f', '-'], gate('{"height":3}'))
    t.match(created.stdout, /gate.example.com\/north created/, created.stderr)
    t.match((await cluster.kubectl(['get', 'gt'])).stdout, /NAME +HEIGHT\nnorth +3/)
    const colour = await cluster.kubectl(['get', 'gate', 'north', '-o', 'jsonpath={.spec.colour}'])
    t.equal(colour.stdout, 'green', 'defaults of the schema are filled in')
    for (const spec of ['{"height":4}', '{"height":3}']) {
      const changed = await cluster.kubectl(['apply', '-f', '-'], gate(spec))
      t.match(changed.stdout, /configured/, 'is changed also while nobody has written its status')
    }
    const cases = [
      ['{"height":0}', /spec\.height.*greater than or equal to 1/],
      ['{"height":"tall"}', /spec\.height.*must be of type integer: "string"/],
      ['{}', /spec\.height: Required value/],
      [
        '{"height":1,"colour":"blue"}',
        /Unsupported value: "blue": supported values: "green", "red"/,
      ],
      ['{"height":1,"widht":2}', /unknown field "spec\.widht"/],
    ] as const
    for (const [spec, message] of cases)
      t.match((await cluster.kubectl(['apply', '-f', '-'], gate(spec))).stderr, message, spec)
    const patched = await cluster.kubectl([
      'patch',
      'gate',
      'north',
      '--subresource=status',
      '--type=merge',
      '-p',
      '{"status":{"open":true},"spec":{"height":9}}',
    ])
    t.equal(patched.code, 0, patched.stderr)
    const stored = await cluster.api.get('gates.example.com', 'default', 'north')
    t.match(stored, { ok: true, value: { spec: { height: 3 }, status: { open: true } } })
    await cluster.kubectl(['delete', 'crd', 'gates.example.com'])
    t.match(
      (await cluster.kubectl(['get', 'gates'])).stderr,
      /the server (doesn't have a resource type "gates"|could not find the requested resource)/,
    )
  },
)

contract(
  'mistakes in manifests are refused with the field and the reason',
  { skip },
  async (t, cluster) => {
    const pod = (rest: string, meta = 'name: p'): string =>
      `apiVersion: v1\nkind: Pod\nmetadata: {${meta}}\nspec: ${rest}\n`
    const good = '{containers: [{name: c, image: host}]}'
    const cases: readonly (readonly [string, string, RegExp])[] = [
      [
        'no name',
        pod(good, 'labels: {}'),
        /resource name may not be empty|name or generateName is required/,
      ],
      ['no namespace', pod(good, 'name: p, namespace: nowhere'), /namespaces "nowhere" not found/],
      [
        'bad label',
        pod(good, 'name: p, labels: {a: "not ok!"}'),
        /metadata\.labels: Invalid value: "not ok!"/,
      ],
      ['bad name', pod(good, 'name: Bad_Name'), /metadata\.name: Invalid value: "Bad_Name"/],
      ['no containers', pod('{containers: []}'), /spec\.containers: Required value/],
      [
        'unknown field',
        pod('{containers: [{name: c, image: host, comand: [x]}]}'),
        /unknown field "spec\.containers\[0\]\.comand"/,
      ],
      [
        'wrong type',
        pod('{containers: [{name: c, image: host, ports: [{containerPort: "x"}]}]}'),
        /cannot unmarshal string into .*containerPort/,
      ],
      [
        'no service account',
        pod('{serviceAccountName: ghost, containers: [{name: c, image: host}]}'),
        /serviceaccount "ghost" not found/,
      ],
      [
        'unknown kind',
        'apiVersion: v1\nkind: Wheel\nmetadata: {name: w}\n',
        /no matches for kind "Wheel"/,
      ],
      ['not YAML', 'apiVersion: v1\nkind: [', /error (parsing|converting YAML)/],
      [
        'service without ports',
        'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {}\n',
        /spec\.ports: Required value/,
      ],
      [
        'foreign cluster IP',
        'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 1.2.3.4, ports: [{port: 1}]}\n',
        /failed to allocate IP 1\.2\.3\.4/,
      ],
    ]
    for (const [name, manifest, message] of cases) {
      const ran = await cluster.kubectl(['apply', '-f', '-'], manifest)
      t.equal(ran.code, 1, name)
      t.match(ran.stderr, message, name)
    }
    await cluster.kubectl(['apply', '-f', '-'], SHOP)
    const change = await cluster.kubectl([
      'patch',
      'svc',
      '-n',
      'shop',
      'web',
      '-p',
      '{"spec":{"clusterIP":"10.96.0.77"}}',
    ])
    t.match(
      change.stderr,
      // The second form is that of earlier versions.
      /spec\.clusterIPs\[0\]: Invalid value: (\[|\[\]string\{)"10\.96\.0\.77"[\]}]: may not change once set/,
    )
    const deployment = DEPLOYMENT.replace('labels: {app: web}', 'labels: {app: other}')
    t.match(
      (await cluster.kubectl(['apply', '-f', '-'], deployment)).stderr,
      /`selector` does not match template `labels`/,
    )
  },
)

contract('patches of every kind do what kubectl says they did', { skip }, async (t, cluster) => {
  await cluster.kubectl(['apply', '-f', '-'], DEPLOYMENT)
  const cases: readonly (readonly [string, string, string, string])[] = [
    [
      'strategic',
      '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"host"}]}}}}',
      '{.spec.template.spec.containers[*].name}',
      'side main',
    ],
    ['merge', '{"metadata":{"labels":{"a":"1","b":null}}}', '{.metadata.labels.a}', '1'],
    [
      'json',
      '[{"op":"add","path":"/metadata/labels/c~1d","value":"2"}]',
      '{.metadata.labels.c/d}',
      '2',
    ],
    [
      'strategic',
      '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}',
      '{.spec.template.spec.containers[*].name}',
      'main',
    ],
  ]
  for (const [type, patch, path, wanted] of cases) {
    const ran = await cluster.kubectl(['patch', 'deploy', 'web', `--type=${type}`, '-p', patch])
    t.equal(ran.code, 0, ran.stderr)
    const value = await cluster.kubectl(['get', 'deploy', 'web', '-o', `jsonpath=${path}`])
    t.strictSame(value.stdout.split(' ').sort(), wanted.split(' ').sort(), `${type} ${patch}`)
  }
  const failed = await cluster.kubectl([
    'patch',
    'deploy',
    'web',
    '--type=json',
    '-p',
    '[{"op":"test","path":"/spec/replicas","value":99}]',
  ])
  t.equal(failed.code, 1)
  // A true server does not tell which operation it was.
  if (cluster.kind === 'own')
    t.match(failed.stderr, /operation 0 \(test \/spec\/replicas\): the value is another one/)
  else t.match(failed.stderr, /The request is invalid/)

  const config = (labels: string): string =>
    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","labels":${labels}},"data":{"k":"v"}}`
  const apply = (manager: string, labels: string, ...rest: readonly string[]) =>
    cluster.kubectl(
      ['apply', '--server-side', `--field-manager=${manager}`, '-f', '-', ...rest],
      config(labels),
    )
  t.match((await apply('one', '{"x":"1","y":"1"}')).stdout, /serverside-applied/)
  t.match((await apply('two', '{"x":"2"}')).stderr, /conflict with "one": \.metadata\.labels\.x/)
  t.equal((await apply('two', '{"x":"2"}', '--force-conflicts')).code, 0)
  await apply('one', '{}')
  const map = await cluster.api.get('configmaps', 'default', 'c')
  t.strictSame(
    map.ok && map.value.metadata.labels,
    { x: '2' },
    'y is gone with its only owner, x stays',
  )
})

contract(
  'kubectl explains who may do what, makes tokens, and diffs and dry-runs without writing',
  { skip },
  async (t, cluster) => {
    await cluster.kubectl(['apply', '-f', '-'], SHOP)
    const token = (
      await cluster.kubectl(['create', 'token', 'web', '-n', 'shop', '--audience=mesh'])
    ).stdout.trim()
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      [key: string]: unknown
    }
    t.equal(claims.sub, 'system:serviceaccount:shop:web')
    t.strictSame(claims.aud, ['mesh'])
    const asWeb = (await cluster.kubectl(['create', 'token', 'web', '-n', 'shop'])).stdout.trim()
    t.match((await cluster.kubectl(['auth', 'can-i', 'get', 'pods'])).stdout, /yes/)
    const empty = await cluster.kubectl([
      'create',
      'configmap',
      'dry',
      '--dry-run=server',
      '-o',
      'name',
    ])
    t.equal(empty.stdout, 'configmap/dry\n')
    t.equal((await cluster.api.get('configmaps', 'default', 'dry')).ok, false)
    const anonymous = await cluster.fetch('/api/v1/pods', { token: '' })
    // To a true server nobody is a user, too: system:anonymous, whom its roles forbid nearly everything.
    const refused = cluster.kind === 'own' ? [401, 'Unauthorized'] : [403, 'Forbidden']
    const { kind, code, reason } = (await anonymous.json()) as { [field: string]: unknown }
    t.strictSame([kind, code, reason], ['Status', ...refused])
    t.equal((await cluster.fetch('/api/v1/pods', { token: 'wrong' })).status, 401)
    t.equal(
      (await cluster.fetch('/api/v1/pods', { token })).status,
      401,
      'a token for another audience',
    )
    // The lab's own server stores roles and lets everybody do everything.
    const allowed = cluster.kind === 'own' ? 200 : 403
    t.equal((await cluster.fetch('/api/v1/pods', { token: asWeb })).status, allowed)
    t.equal((await cluster.fetch('/version', { token: '' })).status, 200)
  },
)
