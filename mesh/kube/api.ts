// SPDX-License-Identifier: Apache-2.0
// The Kubernetes API as typed calls over resource descriptors. Every call has a deadline and answers with a Result.

import type { Result } from '../result.ts'
import { err, ok } from '../result.ts'
import type { ClusterAccess } from './access.ts'
import { failureOfTransport, type KubeFailure } from './failure.ts'
import { objectKey, resourcePath, type KubeObject, type KubeResource } from './resources.ts'
import { exchange, type KubeRequest } from './transport.ts'

export interface CallOptions {
  readonly signal?: AbortSignal
  /** Default 30 s. */
  readonly deadlineMs?: number
}

export interface ObjectName {
  /** Left out for cluster-scoped resources. */
  readonly namespace?: string
  readonly name: string
}

export interface WriteOptions extends CallOptions {
  /** `status`, `scale`, `binding`, `token`, ... */
  readonly subresource?: string
  readonly fieldManager?: string
}

export interface Selectors {
  /** One namespace; all of them when left out. */
  readonly namespace?: string
  /** e.g. `app=web,tier!=cache` */
  readonly labelSelector?: string
  /** e.g. `spec.nodeName=node-a` */
  readonly fieldSelector?: string
}

export type PatchType = 'merge' | 'json' | 'strategic' | 'apply'

export interface PatchOptions extends WriteOptions {
  /** Default merge. `apply` needs a fieldManager. */
  readonly type?: PatchType
  /** Only for apply: take over fields that other managers own. */
  readonly force?: boolean
}

export interface DeleteOptions extends CallOptions {
  readonly gracePeriodSeconds?: number
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
  /** Delete only the object of this uid, not a successor of the same name. */
  readonly uid?: string
}

/** All objects of a list, read page by page at one resource version. */
export interface KubeList<T> {
  readonly items: readonly T[]
  readonly resourceVersion: string
}

export interface KubeApi {
  readonly access: ClusterAccess
  get<T extends KubeObject>(
    resource: KubeResource<T>,
    name: ObjectName,
    options?: CallOptions,
  ): Promise<Result<T, KubeFailure>>
  /** With `keep`, what it takes of each object, a page at a time: the whole objects are let go. */
  list<T extends KubeObject, V>(
    resource: KubeResource<T>,
    options: Selectors & CallOptions & { readonly keep: (object: T) => V },
  ): Promise<Result<KubeList<V>, KubeFailure>>
  list<T extends KubeObject>(
    resource: KubeResource<T>,
    options?: Selectors & CallOptions,
  ): Promise<Result<KubeList<T>, KubeFailure>>
  /** Namespace (and, for a subresource such as `token`, name) come from the object's metadata. */
  create<T extends KubeObject>(
    resource: KubeResource<T>,
    object: T,
    options?: WriteOptions,
  ): Promise<Result<T, KubeFailure>>
  /** Replaces the object; its metadata.resourceVersion, if there, must still be current (else `conflict`). */
  update<T extends KubeObject>(
    resource: KubeResource<T>,
    object: T,
    options?: WriteOptions,
  ): Promise<Result<T, KubeFailure>>
  patch<T extends KubeObject>(
    resource: KubeResource<T>,
    name: ObjectName,
    patch: unknown,
    options?: PatchOptions,
  ): Promise<Result<T, KubeFailure>>
  /** The answer is the object or a Status, as the server likes. */
  delete<T extends KubeObject>(
    resource: KubeResource<T>,
    name: ObjectName,
    options?: DeleteOptions,
  ): Promise<Result<KubeObject, KubeFailure>>
  /** For what is not a resource, e.g. /version or /healthz. The body must be JSON. */
  raw<T>(request: Omit<KubeRequest, 'deadlineMs'> & CallOptions): Promise<Result<T, KubeFailure>>
}

const CALL_DEADLINE_MS = 30_000
/** What client-go asks for: bounds the server's and our memory for one answer. */
const PAGE_SIZE = 500
const PATCH_CONTENT_TYPES: Readonly<Record<PatchType, string>> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
}

interface ListBody<T> {
  readonly items?: readonly T[] | null
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string }
}

/** What an answer is, where what was asked for is not in it: a proxy's own words, or half of the server's. */
const NO_OBJECT = 'the answer is no object of Kubernetes'
const NO_LIST = 'the answer is no list of Kubernetes'

/** Makes the API of a cluster. Holds no connection until used. */
export function createKubeApi(access: ClusterAccess): KubeApi {
  const send = async <T>(
    options: CallOptions | undefined,
    request: Omit<KubeRequest, 'deadlineMs' | 'signal'>,
  ): Promise<Result<T, KubeFailure>> => {
    const answer = await exchange<T>(access, {
      ...request,
      deadlineMs: options?.deadlineMs ?? CALL_DEADLINE_MS,
      ...(options?.signal === undefined ? {} : { signal: options.signal }),
    })
    return answer.ok && !isObject(answer.value)
      ? err(failureOfTransport(request.call, NO_OBJECT))
      : answer
  }

  return {
    access,
    get: (resource, name, options) =>
      send(options, {
        method: 'GET',
        path: resourcePath(resource, name),
        call: describe('get', resource, name),
      }),

    list: <T extends KubeObject, V>(
      resource: KubeResource<T>,
      options: Selectors & CallOptions & { readonly keep?: (object: T) => V } = {},
    ) =>
      // Without `keep` V is T: so says the overload that has none.
      listAll(send, resource, options, options.keep ?? ((object) => object as unknown as V)),

    create: (resource, object, options = {}) => {
      const { namespace, name } = object.metadata ?? {}
      const target = {
        ...(namespace === undefined ? {} : { namespace }),
        ...(options.subresource === undefined
          ? {}
          : { subresource: options.subresource, ...(name === undefined ? {} : { name }) }),
      }
      return send(options, {
        method: 'POST',
        path: resourcePath(resource, target) + writeQuery(options),
        call: describe('create', resource, object.metadata ?? {}),
        body: withType(resource, object, options.subresource),
      })
    },

    update: (resource, object, options = {}) =>
      send(options, {
        method: 'PUT',
        path: resourcePath(resource, nameOf(object, options.subresource)) + writeQuery(options),
        call: describe('update', resource, object.metadata ?? {}),
        body: withType(resource, object, options.subresource),
      }),

    patch: (resource, name, patch, options = {}) =>
      send(options, {
        method: 'PATCH',
        path:
          resourcePath(resource, {
            ...name,
            ...(options.subresource === undefined ? {} : { subresource: options.subresource }),
          }) + writeQuery(options),
        call: describe('patch', resource, name),
        body: patch,
        contentType: PATCH_CONTENT_TYPES[options.type ?? 'merge'],
      }),

    delete: (resource, name, options = {}) =>
      send(options, {
        method: 'DELETE',
        path: resourcePath(resource, name),
        call: describe('delete', resource, name),
        body: {
          kind: 'DeleteOptions',
          apiVersion: 'v1',
          gracePeriodSeconds: options.gracePeriodSeconds,
          propagationPolicy: options.propagationPolicy,
          ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
        },
      }),

    raw: (request) => send(request, request),
  }
}

type Send = <T>(
  options: CallOptions | undefined,
  request: Omit<KubeRequest, 'deadlineMs' | 'signal'>,
) => Promise<Result<T, KubeFailure>>

async function listAll<T extends KubeObject, V>(
  send: Send,
  resource: KubeResource<T>,
  options: Selectors & CallOptions,
  keep: (object: T) => V,
): Promise<Result<KubeList<V>, KubeFailure>> {
  const items: V[] = []
  let continueToken = ''
  let isPaged = true
  for (;;) {
    const query = selectorQuery(options)
    if (isPaged) query.set('limit', String(PAGE_SIZE))
    if (continueToken !== '') query.set('continue', continueToken)
    const text = query.toString()
    const call = `list ${resource.plural}`
    const page = await send<ListBody<T>>(options, {
      method: 'GET',
      path: resourcePath(resource, options) + (text === '' ? '' : `?${text}`),
      call,
    })
    if (!page.ok) {
      // The snapshot behind a continue token was compacted: start again, in one piece.
      if (page.error.kind === 'gone' && continueToken !== '' && isPaged) {
        isPaged = false
        continueToken = ''
        items.length = 0
        continue
      }
      return err(page.error)
    }
    // It would be a list of nothing, and whatever was known gone.
    if (!isList(page.value)) return err(failureOfTransport(call, NO_LIST))
    // Items of a list carry neither apiVersion nor kind.
    for (const item of page.value.items ?? []) items.push(keep(withType(resource, item)))
    continueToken = page.value.metadata?.continue ?? ''
    if (continueToken === '')
      return ok({ items, resourceVersion: page.value.metadata?.resourceVersion ?? '' })
  }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether it is a list of objects: an empty one of Go's has null. */
function isList(body: ListBody<unknown> & { readonly kind?: unknown }): boolean {
  const { kind, items } = body
  if (typeof kind !== 'string' || !kind.endsWith('List')) return false
  if (items === undefined || items === null) return true
  return Array.isArray(items) && items.every(isObject)
}

/** The query of a list or watch. */
export function selectorQuery(selectors: Selectors): URLSearchParams {
  const query = new URLSearchParams()
  if (selectors.labelSelector !== undefined) query.set('labelSelector', selectors.labelSelector)
  if (selectors.fieldSelector !== undefined) query.set('fieldSelector', selectors.fieldSelector)
  return query
}

function writeQuery(options: PatchOptions): string {
  const query = new URLSearchParams()
  if (options.fieldManager !== undefined) query.set('fieldManager', options.fieldManager)
  if (options.force === true) query.set('force', 'true')
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}

function nameOf(
  object: KubeObject,
  subresource: string | undefined,
): { namespace?: string; name: string; subresource?: string } {
  const { namespace, name } = object.metadata ?? {}
  return {
    name: name ?? '',
    ...(namespace === undefined ? {} : { namespace }),
    ...(subresource === undefined ? {} : { subresource }),
  }
}

/** Fills in apiVersion and kind, except for subresources whose bodies are of another kind. */
function withType<T extends KubeObject>(
  resource: KubeResource<T>,
  object: T,
  subresource?: string,
): T {
  if (object.kind !== undefined || (subresource !== undefined && subresource !== 'status'))
    return object
  const apiVersion =
    resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
  return { ...object, apiVersion, kind: resource.kind }
}

function describe(
  verb: string,
  resource: KubeResource,
  name: { namespace?: string; name?: string },
): string {
  return `${verb} ${resource.kind} ${objectKey({ metadata: name })}`.trimEnd()
}
