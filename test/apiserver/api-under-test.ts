// SPDX-License-Identifier: Apache-2.0
// The verbs of a Kubernetes API over HTTP, as the contract suite's stories use them on either server.

import type {
  DeleteOptions,
  ListOptions,
  PatchType,
  Subresource,
  WatchEvent,
} from '../../lab/kubernetes/objects/cluster-api.ts'
import { BUILT_IN_TYPES } from '../../lab/kubernetes/objects/resource-types.ts'
import type { KubeInput, StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { IssuedToken, TokenRequest } from '../../lab/kubernetes/own/apiserver/tokens.ts'
import type { KubeApi } from '../../mesh/kube/api.ts'
import type { KubeFailure } from '../../mesh/kube/failure.ts'
import { defineResource, type KubeObject, type KubeResource } from '../../mesh/kube/resources.ts'
import { watchResource } from '../../mesh/kube/watch-resource.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'

type Answer = Promise<Result<StoredObject, KubeFailure>>

/** The verbs over HTTP, resources by id (`pods`, `deployments.apps`), for whichever server. */
export interface ApiUnderTest {
  get(resource: string, namespace: string | undefined, name: string): Answer
  list(
    resource: string,
    options?: ListOptions,
  ): Promise<Result<readonly StoredObject[], KubeFailure>>
  create(resource: string, namespace: string | undefined, object: KubeInput): Answer
  update(resource: string, namespace: string | undefined, object: KubeInput): Answer
  patch(
    resource: string,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown },
    subresource?: Subresource,
  ): Answer
  delete(
    resource: string,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Promise<Result<unknown, KubeFailure>>
  watch(resource: string, onEvent: (event: WatchEvent) => void): () => void
  createToken(request: TokenRequest): Promise<Result<IssuedToken, KubeFailure>>
}

/** `deployments.apps` as a path; of other versions than v1 there is none. */
export function resourceOf(id: string): KubeResource {
  const known = BUILT_IN_TYPES.find((type) => type.id === id)
  if (known !== undefined) return known
  const [plural = '', ...group] = id.split('.')
  return defineResource(group.join('.'), 'v1', plural, '')
}

export const target = (namespace: string | undefined, name: string) =>
  namespace === undefined ? { name } : { namespace, name }

/** What a server answered has name, uid and version. */
const whole = (object: KubeObject): StoredObject => object as KubeObject & StoredObject

export function apiUnderTest(api: KubeApi): ApiUnderTest {
  const typed = (resource: KubeResource, object: KubeInput, namespace: string | undefined) => ({
    apiVersion: resource.group === '' ? resource.version : `${resource.group}/${resource.version}`,
    kind: resource.kind,
    ...object,
    metadata: { ...object.metadata, ...(namespace === undefined ? {} : { namespace }) },
  })
  const stored = async (answer: Promise<Result<KubeObject, KubeFailure>>): Answer => {
    const result = await answer
    return result.ok ? ok(whole(result.value)) : result
  }
  return {
    get: (id, namespace, name) => stored(api.get(resourceOf(id), target(namespace, name))),
    list: async (id, options = {}) => {
      const { namespace, labelSelector, fieldSelector } = options
      const found = await api.list(resourceOf(id), {
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
      })
      return found.ok ? ok(found.value.items.map(whole)) : found
    },
    create: (id, namespace, object) =>
      stored(api.create(resourceOf(id), typed(resourceOf(id), object, namespace))),
    update: (id, namespace, object) =>
      stored(api.update(resourceOf(id), typed(resourceOf(id), object, namespace))),
    patch: (id, namespace, name, { type, body }, subresource) =>
      stored(
        api.patch(resourceOf(id), target(namespace, name), body, {
          type,
          ...(subresource === undefined ? {} : { subresource }),
        }),
      ),
    delete: async (id, namespace, name, options = {}) => {
      const { gracePeriodSeconds, propagationPolicy, preconditions } = options
      return api.delete(resourceOf(id), target(namespace, name), {
        ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
        ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
        ...(preconditions?.uid === undefined ? {} : { uid: preconditions.uid }),
      })
    },
    watch: (id, onEvent) => {
      const watched = watchResource(api, resourceOf(id), {
        logger: createLogger('test', 'silent'),
        added: (object) => onEvent({ type: 'ADDED', object: whole(object) }),
        updated: (_, object) => onEvent({ type: 'MODIFIED', object: whole(object) }),
        deleted: (object) => onEvent({ type: 'DELETED', object: whole(object) }),
      })
      return () => void watched.close()
    },
    createToken: async ({ namespace, serviceAccount, audiences, expirationSeconds, pod }) => {
      const asked: KubeObject & { spec: object; status?: IssuedToken } = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        metadata: { namespace, name: serviceAccount },
        spec: {
          audiences: audiences ?? [],
          ...(expirationSeconds === undefined ? {} : { expirationSeconds }),
          ...(pod === undefined
            ? {}
            : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...pod } }),
        },
      }
      const accounts = defineResource<typeof asked>('', 'v1', 'serviceaccounts', 'TokenRequest')
      const answer = await api.create(accounts, asked, { subresource: 'token' })
      if (!answer.ok) return err(answer.error)
      if (answer.value.status === undefined) throw new Error('the server gave no token')
      return ok(answer.value.status)
    },
  }
}
