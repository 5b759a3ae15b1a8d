// SPDX-License-Identifier: Apache-2.0
// Where the API server has ClusterTrustBundles there is one with the mesh's roots, and it stays right; where it has none nobody misses it.

import { pino } from 'pino'
import t, { type Test } from 'tap'
import { publishTrustBundle } from '../../controller/ca/trust-bundle-publisher.ts'
import {
  CLUSTER_TRUST_BUNDLES,
  type ClusterTrustBundle,
  createKubeApi,
} from '../../mesh/kube/index.ts'
import { authorityOf, makeCa, plugIn } from '../identity/pki.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { HeldAuthority } from './held-authority.ts'

const NAME = 'ambit.io:mesh:roots'
const PATH = /\/clustertrustbundles/

/** The kind, in the versions that a server of the test has. */
const definition = (...versions: readonly string[]) => ({
  metadata: { name: 'clustertrustbundles.certificates.k8s.io' },
  spec: {
    group: 'certificates.k8s.io',
    scope: 'Cluster',
    names: { plural: 'clustertrustbundles', kind: 'ClusterTrustBundle' },
    versions: versions.map((name, at) => ({
      name,
      served: true,
      storage: at === 0,
      schema: {
        openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      },
    })),
  },
})

interface Line {
  readonly level: number
  readonly reason?: string
}

/** `faults` are there before the first question. */
async function world(
  t: Test,
  versions: readonly string[] = [],
  faults: (api: FaultyApi) => void = () => undefined,
) {
  const stub = new FaultyApi()
  faults(stub)
  await stub.start()
  t.teardown(() => stub.stop())
  if (versions.length > 0) {
    const made = stub.local.create(
      'customresourcedefinitions.apiextensions.k8s.io',
      undefined,
      definition(...versions),
    )
    if (!made.ok) throw new Error(made.error.message)
  }
  const root = await makeCa('root')
  const authority = new HeldAuthority(await authorityOf(plugIn(root, [root])))
  const ending = new AbortController()
  const lines: Line[] = []
  const write = (line: string): unknown => lines.push(JSON.parse(line) as Line)
  const log = pino({ level: 'warn' }, { write })
  const publishing = publishTrustBundle(createKubeApi(stub.access()), {
    authority,
    log,
    signal: ending.signal,
    retries: { firstMs: 1, longestMs: 10 },
  })
  t.teardown(async () => {
    ending.abort()
    await publishing
  })
  const [resource] = CLUSTER_TRUST_BUNDLES
  if (resource === undefined) throw new Error('there is no version of the kind')
  const bundle = (): ClusterTrustBundle | undefined => stub.get(resource, NAME)
  return { stub, root, authority, publishing, resource, bundle, lines }
}

for (const versions of [['v1'], ['v1beta1'], ['v1', 'v1beta1']])
  void t.test(`the roots are published by ${versions.join(' and ')}`, async (t) => {
    const { stub, root, bundle } = await world(t, versions)
    await stub.until(() => bundle() !== undefined, 'the bundle')
    t.match(bundle(), {
      metadata: { labels: { 'ambit.io/root': 'published' } },
      spec: { signerName: 'ambit.io/mesh', trustBundle: root.pem },
    })
    const used = stub.requests.filter(({ method }) => method === 'PATCH').map(({ url }) => url)
    t.match(used[0]?.pathname, `/apis/certificates.k8s.io/${versions[0]}/clustertrustbundles/`)
  })

void t.test(
  'a bundle that is edited, deleted, refused, or has older roots is put right',
  async (t) => {
    const { stub, root, authority, resource, bundle } = await world(t, ['v1'])
    const roots = (): string | undefined => bundle()?.spec?.trustBundle
    await stub.until(() => roots() === root.pem, 'the bundle')

    stub.put(resource, { ...bundle(), spec: { signerName: 'ambit.io/mesh', trustBundle: 'mine' } })
    await stub.until(() => roots() === root.pem, 'the roots again')

    stub.local.delete(`${resource.plural}.${resource.group}`, undefined, NAME)
    await stub.until(() => roots() === root.pem, 'the bundle again')

    stub.fail('PATCH', PATH, 1, 500)
    const next = await makeCa('next root')
    authority.change(await authorityOf(plugIn(next, [next, root])))
    await stub.until(() => roots() === next.pem + root.pem, 'both roots, at the second try')
    t.match(bundle()?.metadata?.labels, { 'ambit.io/root': 'published' })
  },
)

void t.test('a server that has no such kind is asked for it once', async (t) => {
  const { stub, publishing } = await world(t)
  await publishing
  const asked = stub.requests.filter(({ url }) => PATH.test(url.pathname))
  t.equal(asked.length, CLUSTER_TRUST_BUNDLES.length, 'once by each version')
})

void t.test(
  'a controller without the right says so once, and publishes when it has it',
  async (t) => {
    const { stub, lines, bundle } = await world(t, ['v1'], (api) => {
      api.fail('GET', PATH, 1, 503)
      api.fail('GET', PATH, 4, 403, 'Forbidden')
    })
    await stub.until(() => bundle() !== undefined, 'the bundle')
    const reasons = lines.map(({ reason = '' }) => /HTTP \d+/.exec(reason)?.[0])
    t.strictSame(reasons, ['HTTP 503', 'HTTP 403'], 'once, however often it is tried')
  },
)
