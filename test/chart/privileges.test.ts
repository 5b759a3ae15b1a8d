// SPDX-License-Identifier: Apache-2.0
// What the chart asks for is what docs/security.md gives a reason for, and every right that the processes use in a cluster is one that
// their roles have.

import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { type ChartObject, renderChart } from '../../daemonset/render/chart.ts'
import { at, records, texts } from '../../lab/kubernetes/objects/json.ts'

const root = new URL('../../', import.meta.url)
const { objects } = await renderChart({}, { namespace: 'ambit-system' })
/** With all that may be asked of the chart. */
const { objects: most } = await renderChart(
  {
    agent: { notReadyTaint: 'ambit.io/agent-not-ready' },
    controller: { certificateSigner: 'clusterissuers.cert-manager.io/mesh' },
  },
  { namespace: 'ambit-system' },
)

function one(kind: string, name: string, of = objects): ChartObject {
  const found = of.find((each) => each.kind === kind && each.name === name)
  if (found === undefined) throw new Error(`the chart has no ${kind} ${name}`)
  return found
}

const podOf = (kind: string, name: string): unknown =>
  at(one(kind, name).object, 'spec', 'template', 'spec')
const containerOf = (pod: unknown): unknown => records(at(pod, 'containers'))[0]

/** The first cells of a table's rows, below its heading. */
function column(heading: string): readonly (readonly string[])[] {
  const page = readFileSync(new URL('docs/security.md', root), 'utf8')
  const from = page.indexOf(heading)
  if (from < 0) throw new Error(`docs/security.md has no table ${heading}`)
  const [, , ...rows] = (page.slice(from).split('\n\n')[0] ?? '').split('\n')
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

void t.test('each capability of an agent has a reason', (t) => {
  const { drop, add } = at(
    containerOf(podOf('DaemonSet', 'ambit-agent')),
    'securityContext',
    'capabilities',
  ) as Record<string, unknown>
  t.strictSame(drop, ['ALL'])
  const told = column('| capability | because |').map(([name = '']) => name.replaceAll('`', ''))
  t.strictSame(texts(add).toSorted(), told.toSorted())
  t.end()
})

void t.test('each mount of an agent has a reason, and is writable only where that says so', (t) => {
  const pod = podOf('DaemonSet', 'ambit-agent')
  const hostPaths = new Map(
    records(at(pod, 'volumes')).map(({ name, hostPath }) => [name, at(hostPath, 'path')]),
  )
  const asked = records(at(containerOf(pod), 'volumeMounts')).map(({ name, readOnly }) => {
    const path = hostPaths.get(name)
    const place = typeof path === 'string' ? ` \`${path}\`` : ''
    return `\`${String(name)}\`${place}: ${readOnly === true ? 'read-only' : 'writable'}`
  })
  const told = column('| mount | mode |').map(([name = '', mode = '']) => `${name}: ${mode}`)
  t.strictSame(asked.toSorted(), told.toSorted())
  t.end()
})

void t.test('agents are not privileged, and controllers have nothing of a node', (t) => {
  const agent = podOf('DaemonSet', 'ambit-agent')
  t.match(at(containerOf(agent), 'securityContext'), {
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
  })
  for (const field of ['hostPID', 'hostIPC']) t.equal(at(agent, field), undefined, field)
  const controller = podOf('Deployment', 'ambit-controller')
  t.match(at(controller, 'securityContext'), {
    runAsNonRoot: true,
    seccompProfile: { type: 'RuntimeDefault' },
  })
  t.strictSame(at(containerOf(controller), 'securityContext', 'capabilities'), { drop: ['ALL'] })
  t.equal(at(controller, 'hostNetwork'), undefined)
  t.notOk(records(at(controller, 'volumes')).some(({ hostPath }) => hostPath !== undefined))
  t.end()
})

/** `verb resource` of all roles of an account, in its namespace or everywhere. */
function rights(name: string, of = objects): ReadonlySet<string> {
  const rules = ['ClusterRole', 'Role'].flatMap((kind) =>
    records(one(kind, name, of).object['rules']),
  )
  return new Set(
    rules.flatMap(({ verbs, resources }) =>
      texts(verbs).flatMap((verb) => texts(resources).map((resource) => `${verb} ${resource}`)),
    ),
  )
}

const resourceOf = (constant: string): string => constant.toLowerCase().replaceAll('_', '')

/** Kinds that a variable stands for in what is asked, by the file that asks; statuses are patched as resources of their own. */
const TABLES: Readonly<
  Record<string, readonly [verbs: readonly string[], resources: readonly string[]]>
> = {
  'controller/sources/watch-cluster.ts': [
    ['list', 'watch'],
    [...kindsIn('controller/sources/watch-cluster.ts', /follow\('\w+', ([A-Z_]+)/g)],
  ],
  'controller/ca/trust-bundle-publisher.ts': [['list', 'watch', 'patch'], ['clustertrustbundles']],
  'controller/provisioner/provisioner.ts': [
    ['get', 'list', 'watch', 'patch', 'delete'],
    [...kindsIn('controller/provisioner/managed-object.ts', /^ {2}\w+: ([A-Z_]+),$/gm)],
  ],
  'controller/status/status-writer.ts': [
    ['patch'],
    [...kindsIn('controller/status/status-writer.ts', /^ {2}\w+: ([A-Z_]+),$/gm)].map(
      (resource) => `${resource}/status`,
    ),
  ],
}

function kindsIn(file: string, pattern: RegExp): readonly string[] {
  const found = readFileSync(new URL(file, root), 'utf8').matchAll(pattern)
  return [...found].map(([, constant = '']) => resourceOf(constant))
}

/** What is asked of the API, as the source says it: `api.get(PODS, ...)`, `watchResource(api, PODS, ...)`. */
function uses(folder: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const [file, [verbs, resources]] of Object.entries(TABLES))
    if (file.startsWith(`${folder}/`))
      for (const verb of verbs)
        for (const resource of resources) found.set(`${verb} ${resource}`, file)
  const files = readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' })
  for (const file of files.filter((each) => each.endsWith('.ts'))) {
    const text = readFileSync(new URL(`${folder}/${file}`, root), 'utf8')
    const calls = [
      ...text.matchAll(/api\.(get|list|create|update|delete|patch)(?:<\w+>)?\(\s*([A-Z_]+),/g),
      ...text.matchAll(/(watch)Resource(?:<\w+>)?\(\s*[\w.#]+,\s*([A-Z_]+),/g),
    ]
    // Who watches lists first.
    for (const [, verb = '', constant = ''] of calls)
      for (const each of verb === 'watch' ? ['list', 'watch'] : [verb])
        found.set(`${each} ${resourceOf(constant)}`, `${folder}/${file}`)
  }
  return found
}

for (const [folder, account] of [
  ['agent', 'ambit-agent'],
  ['controller', 'ambit-controller'],
] as const)
  void t.test(`every right that ${folder}/ uses is one that it has`, (t) => {
    const allowed = rights(account, most)
    const used = uses(folder)
    t.ok(used.size >= 5, `${used.size} uses were found`)
    for (const [use, where] of used) {
      // Statuses are patched, and requests approved, as resources of their own.
      const [verb = '', resource = ''] = use.split(' ')
      const isAllowed =
        allowed.has(use) ||
        (verb === 'patch' && allowed.has(`patch ${resource}/status`)) ||
        (verb === 'update' && allowed.has(`update ${resource}/approval`))
      t.ok(isAllowed, `${where}: ${use}`)
    }
    t.end()
  })

/** Rights that no call of the source shows, with the reason. */
const OTHERWISE_USED: Readonly<Record<string, string>> = {
  'patch pods/status': 'said of pods, as a subresource',
  'update certificatesigningrequests/approval': 'the same',
  'approve signers': 'asked by the API server of whoever approves',
  'attest signers': 'asked by the API server of whoever writes the bundle of a signer',
  // What is applied is created where it is not there.
  'create clustertrustbundles': 'applied',
  'create serviceaccounts': 'applied',
  'create services': 'applied',
  'create deployments': 'applied',
  'create poddisruptionbudgets': 'applied',
  'create horizontalpodautoscalers': 'applied',
  'delete poddisruptionbudgets': 'of the two kinds that a waypoint may have or not',
  'delete horizontalpodautoscalers': 'the same',
}

for (const [folder, account] of [
  ['agent', 'ambit-agent'],
  ['controller', 'ambit-controller'],
] as const)
  void t.test(`no right of ${account} is more than ${folder}/ uses`, (t) => {
    const used = uses(folder)
    const unused = [...rights(account, most)].filter(
      (right) => !used.has(right) && OTHERWISE_USED[right] === undefined,
    )
    t.strictSame(unused, [])
    t.end()
  })

void t.test('nodes are changed by nobody unless their taint is to be taken off', (t) => {
  t.ok(rights('ambit-controller', most).has('patch nodes'))
  for (const account of ['ambit-agent', 'ambit-controller'])
    for (const right of ['patch nodes', 'update nodes', 'get nodes'])
      t.notOk(rights(account).has(right), `${account}: ${right}`)
  t.end()
})

void t.test('nobody may do everything, or become somebody else', (t) => {
  for (const account of ['ambit-agent', 'ambit-controller'])
    for (const right of rights(account))
      t.notMatch(
        right,
        /\*|impersonate|escalate|bind|deletecollection|pods\/exec|serviceaccounts\/token|clusterroles|webhook/,
      )
  t.end()
})

void t.test('an Issuer of a namespace may be referred to, as cert-manager wants it', async (t) => {
  const rulesWith = async (certificateSigner: string): Promise<readonly unknown[]> => {
    const values = { controller: { certificateSigner } }
    const { objects } = await renderChart(values, { namespace: 'ambit-system' })
    const role = one('ClusterRole', 'ambit-controller', objects).object
    return records(role['rules']).filter(
      ({ apiGroups }) => texts(apiGroups)[0] === 'cert-manager.io',
    )
  }
  t.strictSame(await rulesWith('issuers.cert-manager.io/vault.mesh.v2'), [
    {
      apiGroups: ['cert-manager.io'],
      resources: ['signers'],
      resourceNames: ['mesh.v2'],
      verbs: ['reference'],
    },
  ])
  for (const other of ['', 'clusterissuers.cert-manager.io/mesh', 'ambit.test/mesh'])
    t.strictSame(await rulesWith(other), [], other)
})
