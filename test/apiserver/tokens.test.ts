// SPDX-License-Identifier: Apache-2.0
// Service account tokens bound to pods, and their review: what the mesh's CA relies on.

import t from 'tap'
import { type ClusterUnderTest, contract, startCluster } from './cluster.ts'
import { untilObject } from './waiting.ts'

type Review = {
  readonly status: {
    readonly authenticated?: boolean
    readonly error?: string
    readonly user: { readonly [key: string]: unknown }
  }
}

async function review(
  cluster: ClusterUnderTest,
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
  const { status } = (await response.json()) as Review
  // On the wire, no is no field at all.
  return { ...status, authenticated: status.authenticated === true }
}

/** A running pod of a service account; gives its uid. */
async function withPod({ api }: ClusterUnderTest): Promise<string> {
  await api.create('serviceaccounts', 'default', { metadata: { name: 'web' } })
  await api.create('pods', 'default', {
    metadata: { name: 'p' },
    spec: { serviceAccountName: 'web', containers: [{ name: 'main', image: 'host' }] },
  })
  const pod = await untilObject(api, 'pods', (one) => one.status?.phase === 'Running')
  return pod.metadata.uid
}

contract(
  'a token bound to a pod says which pod and node, as long as that pod lives',
  {},
  async (t, cluster) => {
    const uid = await withPod(cluster)
    const issued = await cluster.api.createToken({
      namespace: 'default',
      serviceAccount: 'web',
      audiences: ['istio-ca'],
      pod: { name: 'p', uid },
    })
    if (!issued.ok) throw new Error(issued.error.message)
    const { token } = issued.value
    const known = await review(cluster, token, ['other', 'istio-ca'])
    const pod = await cluster.api.get('pods', 'default', 'p')
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
      error: /signature|cryptographic primitive/,
    })
    t.match(await review(cluster, 'nonsense', ['istio-ca']), { authenticated: false })

    await cluster.api.delete('pods', 'default', 'p', { gracePeriodSeconds: 0 })
    t.match(await review(cluster, token, ['istio-ca']), {
      authenticated: false,
      error: /token has been invalidated/,
    })
  },
)

// Told of the lab's own server only: the clock of another process cannot be set.
void t.test('an expired token is refused', async (t) => {
  await using cluster = await startCluster()
  await withPod(cluster)
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

contract('tokens are refused for what does not exist or does not fit', {}, async (t, cluster) => {
  const uid = await withPod(cluster)
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
