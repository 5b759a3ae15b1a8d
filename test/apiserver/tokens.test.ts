// SPDX-License-Identifier: Apache-2.0
// Service account tokens bound to pods, and their review: what the mesh's CA relies on.

import t from 'tap'
import { type Cluster, startCluster, untilObject } from './cluster.ts'

type Review = {
  readonly status: {
    readonly authenticated: boolean
    readonly error?: string
    readonly user: { readonly [key: string]: unknown }
  }
}

async function review(
  cluster: Cluster,
  token: string,
  audiences: readonly string[],
): Promise<Review['status']> {
  const response = await cluster.fetch('/apis/authentication.k8s.io/v1/tokenreviews', {
    method: 'POST',
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences },
    },
  })
  t.equal(response.status, 201)
  return ((await response.json()) as Review).status
}

async function withPod(): Promise<{ cluster: Cluster; uid: string }> {
  const cluster = await startCluster()
  cluster.api.create('serviceaccounts', 'default', { metadata: { name: 'web' } })
  cluster.api.create('pods', 'default', {
    metadata: { name: 'p' },
    spec: { serviceAccountName: 'web', containers: [{ name: 'main', image: 'host' }] },
  })
  const pod = await untilObject(cluster.api, 'pods', (one) => one.status?.phase === 'Running')
  return { cluster, uid: pod.metadata.uid }
}

void t.test(
  'a token bound to a pod says which pod and node, as long as that pod lives',
  async (t) => {
    const { cluster, uid } = await withPod()
    await using _ = cluster
    const issued = await cluster.api.createToken({
      namespace: 'default',
      serviceAccount: 'web',
      audiences: ['istio-ca'],
      pod: { name: 'p', uid },
    })
    if (!issued.ok) throw new Error(issued.error.message)
    const { token } = issued.value
    const known = await review(cluster, token, ['other', 'istio-ca'])
    const pod = cluster.api.get('pods', 'default', 'p')
    t.match(known, {
      authenticated: true,
      audiences: ['istio-ca'],
      user: {
        username: 'system:serviceaccount:default:web',
        groups: [
          'system:serviceaccounts',
          'system:serviceaccounts:default',
          'system:authenticated',
        ],
        extra: {
          'authentication.kubernetes.io/pod-name': ['p'],
          'authentication.kubernetes.io/pod-uid': [uid],
          'authentication.kubernetes.io/node-name': [pod.ok && pod.value.spec?.nodeName],
        },
      },
    })
    t.match(await review(cluster, token, []), { authenticated: false, error: /audiences/ })
    const [head, body, signature = ''] = token.split('.')
    const forged = `${head}.${Buffer.from(
      Buffer.from(body ?? '', 'base64url')
        .toString()
        .replace(':web"', ':admin"'),
    ).toString('base64url')}.${signature}`
    t.match(await review(cluster, forged, ['istio-ca']), {
      authenticated: false,
      error: /signature/,
    })
    t.match(await review(cluster, 'nonsense', ['istio-ca']), { authenticated: false })

    cluster.api.delete('pods', 'default', 'p', { gracePeriodSeconds: 0 })
    t.match(await review(cluster, token, ['istio-ca']), {
      authenticated: false,
      error: /pod no longer exists/,
    })
  },
)

void t.test('an expired token is refused', async (t) => {
  const { cluster } = await withPod()
  await using _ = cluster
  const issued = await cluster.api.createToken({
    namespace: 'default',
    serviceAccount: 'web',
    audiences: ['a'],
    expirationSeconds: 600,
  })
  if (!issued.ok) throw new Error(issued.error.message)
  t.equal((await review(cluster, issued.value.token, ['a'])).authenticated, true)
  const realNow = Date.now
  t.teardown(() => {
    Date.now = realNow
  })
  Date.now = () => realNow() + 601_000
  const late = await review(cluster, issued.value.token, ['a'])
  Date.now = realNow
  t.match(late, { authenticated: false, error: /expired/ })
})

void t.test('tokens are refused for what does not exist or does not fit', async (t) => {
  const { cluster, uid } = await withPod()
  await using _ = cluster
  const ask = (request: Partial<Parameters<typeof cluster.api.createToken>[0]>) =>
    cluster.api.createToken({ namespace: 'default', serviceAccount: 'web', ...request })
  t.match(await ask({ serviceAccount: 'ghost' }), { ok: false, error: { status: 404 } })
  t.match(await ask({ pod: { name: 'p', uid: 'another' } }), { ok: false, error: { status: 409 } })
  t.match(await ask({ serviceAccount: 'default', pod: { name: 'p', uid } }), {
    ok: false,
    error: { message: /different serviceaccount/ },
  })
  t.match(await ask({ expirationSeconds: 5 }), { ok: false, error: { status: 422 } })
})
