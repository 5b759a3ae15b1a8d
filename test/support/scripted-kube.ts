// SPDX-License-Identifier: Apache-2.0
// The lab's API server in the test's process as the test's script has it: away, asked by several at once, and of a mind of its
// own about tokens. Everything else is the server's answer.

import {
  type KubeApi,
  type KubeFailure,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  TOKEN_REVIEWS,
  type TokenReview,
} from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import { TestKube } from './kube.ts'
import { localKubeApi } from './local-kube-api.ts'

/** What the API server says of one token. */
export type ReviewedToken = NonNullable<TokenReview['status']>

const AWAY: KubeFailure = {
  kind: 'unavailable',
  message: 'connect ECONNREFUSED',
  status: 0,
  reason: '',
}

export class ScriptedKube extends TestKube {
  /** The verdicts on tokens; of others the server does not know. */
  readonly tokens = new Map<string, ReviewedToken>()
  /** Verb and resource of each call through the API, in order. */
  readonly calls: string[] = []
  isAway = false
  /** Runs before each object is created, for races. */
  beforeCreate: () => Promise<void> = () => Promise.resolve()
  readonly #server = localKubeApi(this)
  readonly api: KubeApi = {
    ...this.#server,
    get: (resource, name) => this.#call('get', resource, () => this.#server.get(resource, name)),
    list: <T extends KubeObject>(
      resource: KubeResource<T>,
      options: Parameters<KubeApi['list']>[1],
    ) => this.#call('list', resource, () => this.#server.list(resource, options)),
    create: (resource, object) =>
      this.#call('create', resource, async () => {
        if (resource.plural === TOKEN_REVIEWS.plural) return ok(this.#review(object))
        await this.beforeCreate()
        return this.#server.create(resource, object)
      }),
    update: (resource, object) =>
      this.#call('update', resource, () => this.#server.update(resource, object)),
  }

  constructor() {
    super()
    // The mesh's own namespace is there before any of its programs; without it nothing can be created in it.
    this.put(NAMESPACES, { metadata: { name: 'ambit-system' } })
  }

  async #call<T>(
    verb: string,
    resource: KubeResource,
    ask: () => Promise<Result<T, KubeFailure>>,
  ): Promise<Result<T, KubeFailure>> {
    this.calls.push(`${verb} ${resource.plural}`)
    return this.isAway ? err(AWAY) : ask()
  }

  #review<T extends KubeObject>(object: T): T {
    const review = object as KubeObject as TokenReview
    const status = this.tokens.get(review.spec.token ?? '') ?? {
      authenticated: false,
      error: 'token is not known',
    }
    return { ...object, status }
  }
}

/** The verdict on a good token of a service account, bound to a pod when one is given. */
export function acceptedToken(
  namespace: string,
  serviceAccount: string,
  pod?: { readonly name: string; readonly uid: string },
): ReviewedToken {
  return {
    authenticated: true,
    audiences: ['istio-ca'],
    user: {
      username: `system:serviceaccount:${namespace}:${serviceAccount}`,
      ...(pod && {
        extra: {
          'authentication.kubernetes.io/pod-name': [pod.name],
          'authentication.kubernetes.io/pod-uid': [pod.uid],
        },
      }),
    },
  }
}
