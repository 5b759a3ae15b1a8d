// SPDX-License-Identifier: Apache-2.0
// A KubeApi over a map, with the API server's rules on conflicts, for tests that need no watch. Tokens are looked
// up in a table. Faults are switched on by the test.

import {
  type KubeApi,
  type KubeFailure,
  type KubeObject,
  type KubeResource,
  type ObjectName,
  type Pod,
  type Secret,
  SECRETS,
  PODS,
  TOKEN_REVIEWS,
  type TokenReview,
} from '../../mesh/kube/index.ts'
import { type Result, err, ok } from '../../mesh/result.ts'

/** What the API server says of one token. */
export type ReviewedToken = NonNullable<TokenReview['status']>

export class FakeKube {
  readonly #objects = new Map<string, KubeObject>()
  readonly tokens = new Map<string, ReviewedToken>()
  readonly calls: string[] = []
  isAway = false
  /** Runs before each create, for races. */
  beforeCreate: () => Promise<void> = () => Promise.resolve()
  #version = 0

  readonly api: KubeApi = {
    get access(): never {
      throw new Error('there is no server behind this API')
    },
    get: async <T extends KubeObject>(resource: KubeResource<T>, name: ObjectName) => {
      this.calls.push(`get ${resource.plural}`)
      if (this.isAway) return away()
      const found = this.#objects.get(keyOf(resource, name))
      return found === undefined
        ? failure('notFound', `${resource.plural} "${name.name}" not found`)
        : ok(structuredClone(found) as T)
    },
    list: async <T extends KubeObject>(
      resource: KubeResource<T>,
      options: { namespace?: string; fieldSelector?: string } = {},
    ) => {
      this.calls.push(`list ${resource.plural}`)
      if (this.isAway) return away()
      const node = options.fieldSelector?.split('=')[1]
      const items = [...this.#objects]
        .filter(([key]) => key.startsWith(`${resource.plural}/${options.namespace ?? ''}`))
        .map(([, object]) => structuredClone(object) as T)
        .filter((object) => node === undefined || (object as Pod).spec?.nodeName === node)
      return ok({ items, resourceVersion: String(this.#version) })
    },
    create: async <T extends KubeObject>(resource: KubeResource<T>, object: T) => {
      this.calls.push(`create ${resource.plural}`)
      if (this.isAway) return away()
      if (resource.plural === TOKEN_REVIEWS.plural)
        return ok(this.#review(object as KubeObject as TokenReview) as KubeObject as T)
      await this.beforeCreate()
      const key = keyOf(resource, object.metadata as ObjectName)
      if (this.#objects.has(key)) return failure('alreadyExists', `${key} already exists`)
      return ok(this.#store(key, object))
    },
    update: async <T extends KubeObject>(resource: KubeResource<T>, object: T) => {
      this.calls.push(`update ${resource.plural}`)
      if (this.isAway) return away()
      const key = keyOf(resource, object.metadata as ObjectName)
      const present = this.#objects.get(key)
      if (present === undefined) return failure('notFound', `${key} not found`)
      if (present.metadata?.resourceVersion !== object.metadata?.resourceVersion)
        return failure('conflict', `${key} has been modified`)
      return ok(this.#store(key, object))
    },
    patch: () => Promise.reject(new Error('not needed here')),
    delete: () => Promise.reject(new Error('not needed here')),
    raw: () => Promise.reject(new Error('not needed here')),
  }

  /** Puts a pod into the cluster. */
  addPod(pod: {
    readonly namespace: string
    readonly name: string
    readonly uid: string
    readonly serviceAccount: string
    readonly node: string
    readonly phase?: string
    readonly hostNetwork?: boolean
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }): Pod {
    const object: Pod = {
      metadata: {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
        ...(pod.labels !== undefined && { labels: { ...pod.labels } }),
        ...(pod.annotations !== undefined && { annotations: { ...pod.annotations } }),
      },
      spec: {
        containers: [],
        nodeName: pod.node,
        serviceAccountName: pod.serviceAccount,
        ...(pod.hostNetwork !== undefined && { hostNetwork: pod.hostNetwork }),
      },
      status: { phase: pod.phase ?? 'Running' },
    }
    return this.#store(keyOf(PODS, object.metadata as ObjectName), object)
  }

  removePod(namespace: string, name: string): void {
    this.#objects.delete(keyOf(PODS, { namespace, name }))
  }

  putSecret(secret: Secret): void {
    this.#store(keyOf(SECRETS, secret.metadata as ObjectName), secret)
  }

  #store<T extends KubeObject>(key: string, object: T): T {
    this.#version += 1
    const stored = structuredClone(object)
    stored.metadata = { ...stored.metadata, resourceVersion: String(this.#version) }
    this.#objects.set(key, stored)
    return structuredClone(stored)
  }

  #review(review: TokenReview): TokenReview {
    const status = this.tokens.get(review.spec.token ?? '') ?? {
      authenticated: false,
      error: 'token is not known',
    }
    return { ...review, status }
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

function keyOf(resource: KubeResource, name: ObjectName): string {
  return `${resource.plural}/${name.namespace ?? ''}/${name.name}`
}

function failure(kind: KubeFailure['kind'], message: string): Result<never, KubeFailure> {
  return err({ kind, message, status: 0, reason: '' })
}

function away(): Result<never, KubeFailure> {
  return failure('unavailable', 'connect ECONNREFUSED')
}
