// SPDX-License-Identifier: Apache-2.0
// Requests on resources: verbs by method and path, parameters by query, handed to the registry.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Result, ok } from '../../../../../mesh/result.ts'
import {
  badRequest,
  methodNotAllowed,
  successStatus,
  unknownPath,
  unsupportedMediaType,
} from '../../../objects/refusals.ts'
import { type Draft, at, integer, record, text, texts } from '../../../objects/json.ts'
import type { Registry, WriteOptions } from '../registry.ts'
import { type ResourceType, apiVersionOf } from '../../../objects/resource-types.ts'
import { readScale } from '../scale.ts'
import type { TokenAuthority } from '../tokens.ts'
import type { Refusal } from '../../../objects/refusals.ts'
import type {
  DeleteOptions,
  ListOptions,
  PatchType,
  Subresource,
} from '../../../objects/cluster-api.ts'
import type { KubeInput } from '../../../objects/stored-object.ts'
import { type View, includeObjectOf, sendList, sendObject } from './objects.ts'
import { type ResourcePath, readObject } from './request.ts'
import { acceptedForm, sendFailure, sendJson } from './respond.ts'
import type { WatchHub } from './watch.ts'

export interface ResourceServices {
  readonly registry: Registry
  readonly watches: WatchHub
  readonly tokens: TokenAuthority
}

type Call = ResourceServices & {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly path: ResourcePath
  readonly query: URLSearchParams
  readonly type: ResourceType
  readonly view: View
}

const PATCH_TYPES: { readonly [mediaType: string]: PatchType } = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
}

const isTrue = (value: string | null): boolean => value === 'true' || value === '1'

/** Serves a request on a resource path; pods' streams (exec, log) are served elsewhere. */
export async function handleResource(
  services: ResourceServices,
  request: IncomingMessage,
  response: ServerResponse,
  path: ResourcePath,
  query: URLSearchParams,
): Promise<void> {
  const type = services.registry.context.resources.byPath(path.group, path.version, path.plural)
  if (type === undefined || (path.namespace !== undefined && !type.namespaced))
    return sendFailure(response, unknownPath().error)
  const view: View = {
    type,
    version: path.version,
    form: acceptedForm(request.headers.accept),
    includeObject: includeObjectOf(query),
  }
  const call: Call = { ...services, request, response, path, query, type, view }
  const handled = await dispatch(call)
  if (!handled.ok) sendFailure(response, handled.error)
}

type Handled = Result<void, Refusal>
const DONE: Handled = ok(undefined)

async function dispatch(call: Call): Promise<Handled> {
  const { path, request } = call
  if (path.name === undefined) return collection(call)
  if (path.subresource === undefined) return item(call)
  if (path.subresource === 'status' || path.subresource === 'scale')
    return call.type.subresources.includes(path.subresource)
      ? item(call, path.subresource)
      : unknownPath()
  if (request.method !== 'POST' && request.method !== 'PUT') return methodNotAllowed()
  return action(call, path.name, path.subresource)
}

function writeOptions(call: Call): WriteOptions & { readonly warnings: string[] } {
  const validation = call.query.get('fieldValidation')
  return {
    dryRun: call.query.get('dryRun') === 'All',
    fieldValidation: validation === 'Strict' || validation === 'Ignore' ? validation : 'Warn',
    warnings: [],
    version: call.path.version,
  }
}

function listOptions({ path, query }: Call): ListOptions {
  const byName = path.name === undefined ? [] : [`metadata.name=${path.name}`]
  const fields = [...byName, query.get('fieldSelector') ?? ''].filter((part) => part !== '')
  return {
    namespace: path.namespace,
    labelSelector: query.get('labelSelector') ?? undefined,
    fieldSelector: fields.length === 0 ? undefined : fields.join(','),
  }
}

function watch(call: Call): Handled {
  const { query, watches, response, view } = call
  const timeout = query.get('timeoutSeconds')
  watches.serve(response, {
    view,
    selectors: listOptions(call),
    resourceVersion: query.get('resourceVersion') ?? '',
    allowBookmarks: isTrue(query.get('allowWatchBookmarks')),
    sendInitialEvents: isTrue(query.get('sendInitialEvents')),
    timeoutSeconds: timeout === null ? undefined : Number(timeout),
  })
  return DONE
}

async function readInput(call: Call): Promise<Result<KubeInput, Refusal>> {
  const body = await readObject(call.request)
  if (!body.ok) return body
  const object = record(body.value)
  if (object === undefined) return badRequest('the body must be an object')
  // Built-in types are known by the path; for custom ones the object must say what it is.
  if (call.type.isCustom && (object.kind === undefined || object.apiVersion === undefined))
    return badRequest(`Object 'Kind' is missing in ${JSON.stringify(object).slice(0, 200)}`)
  return ok(object)
}

async function readDeleteOptions(call: Call): Promise<Result<DeleteOptions & Draft, Refusal>> {
  const body = await readObject(call.request)
  if (!body.ok) return body
  const options = record(body.value) ?? {}
  const { query } = call
  const grace = query.get('gracePeriodSeconds')
  const policy = text(options.propagationPolicy) ?? query.get('propagationPolicy') ?? undefined
  const preconditions = record(options.preconditions)
  const uid = text(preconditions?.uid)
  const resourceVersion = text(preconditions?.resourceVersion)
  return ok({
    gracePeriodSeconds:
      integer(options.gracePeriodSeconds) ?? (grace === null ? undefined : Number(grace)),
    propagationPolicy:
      policy === 'Foreground' || policy === 'Background' || policy === 'Orphan'
        ? policy
        : options.orphanDependents === true
          ? 'Orphan'
          : undefined,
    preconditions: {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    dryRun: texts(options.dryRun).includes('All') || query.get('dryRun') === 'All',
  })
}

async function collection(call: Call): Promise<Handled> {
  const { request, response, path, query, type, view, registry } = call
  switch (request.method) {
    case 'GET': {
      if (path.isWatchPath || isTrue(query.get('watch'))) return watch(call)
      const objects = registry.list(type, listOptions(call))
      if (!objects.ok) return objects
      sendList(response, objects.value, registry.context.store.revision, view)
      return DONE
    }
    case 'POST': {
      const input = await readInput(call)
      if (!input.ok) return input
      const options = writeOptions(call)
      const namespace =
        path.namespace ?? (type.namespaced ? text(input.value.metadata?.namespace) : undefined)
      const created = registry.create(type, namespace, input.value, options)
      if (!created.ok) return created
      sendObject(response, 201, created.value, view, options.warnings)
      return DONE
    }
    case 'DELETE': {
      const options = await readDeleteOptions(call)
      if (!options.ok) return options
      const objects = registry.list(type, listOptions(call))
      if (!objects.ok) return objects
      for (const { metadata } of objects.value)
        registry.delete(
          type,
          metadata.namespace,
          metadata.name,
          options.value,
          options.value.dryRun === true,
        )
      sendList(response, objects.value, registry.context.store.revision, view)
      return DONE
    }
    default:
      return methodNotAllowed()
  }
}

async function item(call: Call, subresource?: Subresource): Promise<Handled> {
  const { request, response, path, type, view, registry } = call
  const name = path.name ?? ''
  switch (request.method) {
    case 'GET': {
      if (path.isWatchPath) return watch(call)
      const found = registry.get(type, path.namespace, name)
      if (!found.ok) return found
      sendObject(
        response,
        200,
        subresource === 'scale' ? readScale(found.value) : found.value,
        view,
      )
      return DONE
    }
    case 'PUT': {
      const input = await readInput(call)
      if (!input.ok) return input
      const options = writeOptions(call)
      const given = text(at(input.value, 'metadata', 'name')) ?? name
      if (given !== name)
        return badRequest(
          `the name of the object (${given}) does not match the name on the URL (${name})`,
        )
      const updated = registry.update(type, path.namespace, name, input.value, subresource, options)
      if (!updated.ok) return updated
      sendObject(response, 200, updated.value, view, options.warnings)
      return DONE
    }
    case 'PATCH':
      return patch(call, name, subresource)
    case 'DELETE': {
      if (subresource !== undefined) return methodNotAllowed()
      const options = await readDeleteOptions(call)
      if (!options.ok) return options
      const deleted = registry.delete(
        type,
        path.namespace,
        name,
        options.value,
        options.value.dryRun === true,
      )
      if (!deleted.ok) return deleted
      // Pods and whatever waits for finalizers are shown; what is gone is reported by a Status.
      const isGone = registry.context.store.get(type.id, path.namespace, name) === undefined
      if (isGone && type.id !== 'pods')
        sendJson(
          response,
          200,
          successStatus({
            name,
            ...(type.group === '' ? {} : { group: type.group }),
            kind: type.plural,
            uid: deleted.value.metadata.uid,
          }),
        )
      else sendObject(response, 200, deleted.value, view)
      return DONE
    }
    default:
      return methodNotAllowed()
  }
}

async function patch(call: Call, name: string, subresource?: Subresource): Promise<Handled> {
  const { request, response, path, query, type, view, registry } = call
  const mediaType = (request.headers['content-type'] ?? '').split(';')[0] ?? ''
  const patchType = PATCH_TYPES[mediaType]
  if (patchType === undefined)
    return unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: ${Object.keys(PATCH_TYPES).join(', ')}`,
    )
  const body = await readObject(request)
  if (!body.ok) return body
  const options = writeOptions(call)
  const patched = registry.patch(
    type,
    path.namespace,
    name,
    {
      type: patchType,
      body: body.value,
      fieldManager: query.get('fieldManager') ?? undefined,
      force: isTrue(query.get('force')),
    },
    subresource,
    options,
  )
  if (!patched.ok) return patched
  sendObject(response, patched.isNew === true ? 201 : 200, patched.value, view, options.warnings)
  return DONE
}

/** Subresources that do something: token, binding, finalize. */
async function action(call: Call, name: string, subresource: string): Promise<Handled> {
  const { response, path, type, registry, tokens } = call
  if (!type.subresources.includes(subresource)) return unknownPath()
  const body = await readObject(call.request)
  if (!body.ok) return body
  const input = record(body.value) ?? {}
  switch (subresource) {
    case 'token': {
      const bound = record(at(input, 'spec', 'boundObjectRef'))
      const audiences = texts(at(input, 'spec', 'audiences'))
      if (bound !== undefined && bound.kind !== 'Pod')
        return badRequest(`cannot bind token to a ${String(bound.kind)}: only to a Pod`)
      const issued = await tokens.issue({
        namespace: path.namespace ?? '',
        serviceAccount: name,
        audiences: audiences.length === 0 ? undefined : audiences,
        expirationSeconds: integer(at(input, 'spec', 'expirationSeconds')),
        pod:
          bound === undefined
            ? undefined
            : { name: text(bound.name) ?? '', uid: text(bound.uid) ?? '' },
      })
      if (!issued.ok) return issued
      sendJson(response, 201, {
        kind: 'TokenRequest',
        apiVersion: 'authentication.k8s.io/v1',
        metadata: { name, namespace: path.namespace },
        spec: input.spec ?? {},
        status: issued.value,
      })
      return DONE
    }
    case 'binding': {
      const bound = registry.bindPod(path.namespace, name, text(at(input, 'target', 'name')) ?? '')
      if (!bound.ok) return bound
      sendJson(response, 201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' })
      return DONE
    }
    case 'finalize': {
      const finalized = registry.finalizeNamespace(name, at(input, 'spec', 'finalizers') ?? [])
      if (!finalized.ok) return finalized
      sendJson(response, 200, finalized.value)
      return DONE
    }
    default:
      return badRequest(
        `the ${subresource} subresource of ${apiVersionOf(type)} ${type.kind} is not served by the lab`,
      )
  }
}
