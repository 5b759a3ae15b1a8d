// SPDX-License-Identifier: Apache-2.0
// The verbs on stored objects: create, update, patch and delete with defaults, checks and admission.
// HTTP and in-process callers both end here; authentication is not its business.

import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { type Result, ok } from '../../../../mesh/result.ts'
import { strategyOf } from './admission/index.ts'
import type { AdmissionContext } from './admission/strategy.ts'
import { deleteObject, finishIfFinalized } from './deletion.ts'
import {
  alreadyExists,
  badRequest,
  conflict,
  forbidden,
  invalid,
  notFound,
  unknownPath,
} from '../../objects/refusals.ts'
import { type Draft, at, draftOf, ensureRecord, record, records, text } from '../../objects/json.ts'
import { type NameKind, generateName, metadataErrors } from './names.ts'
import { patchObject } from './patch/index.ts'
import { type ResourceType, apiVersionOf } from '../../objects/resource-types.ts'
import { readScale, writeScale } from './scale.ts'
import { type FieldValidation, checkSchema } from './schema/index.ts'
import { parseSelectors } from '../../objects/selectors.ts'
import type { Refusal } from '../../objects/refusals.ts'
import type {
  DeleteOptions,
  ListOptions,
  PatchType,
  ResourceId,
  Subresource,
} from '../../objects/cluster-api.ts'
import type { KubeInput, StoredObject } from '../../objects/stored-object.ts'

/** How one request wants to be treated; all optional. */
export interface WriteOptions {
  readonly dryRun?: boolean
  readonly fieldValidation?: FieldValidation
  /** Collects the warnings of fieldValidation=Warn. */
  readonly warnings?: string[]
  /** The version of the resource the client speaks; the storage version by default. */
  readonly version?: string
}

export interface PatchRequest {
  readonly type: PatchType
  readonly body: unknown
  readonly fieldManager?: string | undefined
  readonly force?: boolean | undefined
}

type Outcome = Result<StoredObject, Refusal>

/** Resources whose status writers also set labels and annotations, as kubelets and node agents do. */
const METADATA_WITH_STATUS = new Set(['pods', 'nodes', 'services', 'namespaces'])
/** Who registers a node knows its status. */
const STATUS_ON_CREATE = new Set(['nodes'])

const NAME_KINDS: { readonly [resource: ResourceId]: NameKind } = {
  namespaces: 'label',
  services: 'label',
  'roles.rbac.authorization.k8s.io': 'path-segment',
  'rolebindings.rbac.authorization.k8s.io': 'path-segment',
  'clusterroles.rbac.authorization.k8s.io': 'path-segment',
  'clusterrolebindings.rbac.authorization.k8s.io': 'path-segment',
  'clustertrustbundles.certificates.k8s.io': 'path-segment',
}

/** RFC 3339 to the second, as Kubernetes writes times. */
const timestamp = (at = Date.now()): string => new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')

export class Registry {
  readonly context: AdmissionContext

  constructor(context: AdmissionContext) {
    this.context = context
  }

  type(resource: ResourceId): Result<ResourceType, Refusal> {
    const type = this.context.resources.byId(resource)
    return type === undefined ? unknownPath() : ok(type)
  }

  get(type: ResourceType, namespace: string | undefined, name: string): Outcome {
    const object = this.context.store.get(type.id, type.namespaced ? namespace : undefined, name)
    return object === undefined ? notFound(type, name) : ok(object)
  }

  list(type: ResourceType, options: ListOptions): Result<readonly StoredObject[], Refusal> {
    const matches = parseSelectors(options)
    if (!matches.ok) return badRequest(matches.error)
    const objects = this.context.store.list(
      type.id,
      type.namespaced ? options.namespace : undefined,
    )
    return ok(
      options.labelSelector === undefined && options.fieldSelector === undefined
        ? objects
        : objects.filter(matches.value),
    )
  }

  create(
    type: ResourceType,
    namespace: string | undefined,
    input: KubeInput,
    options: WriteOptions = {},
  ): Outcome {
    const draft = draftOf(input)
    const addressed = this.#address(type, namespace, draft, options)
    if (!addressed.ok) return addressed
    const metadata = ensureRecord(draft, 'metadata')
    const base = text(metadata.generateName)
    if ((text(metadata.name) ?? '') === '' && base !== undefined && base !== '')
      metadata.name = generateName(base)
    const name = text(metadata.name) ?? ''
    if (metadata.resourceVersion !== undefined && metadata.resourceVersion !== '')
      return badRequest('resourceVersion should not be set on objects to be created')
    const welcome = this.#checkNamespace(type, namespace, name)
    if (!welcome.ok) return welcome

    Object.assign(metadata, {
      uid: randomUUID(),
      creationTimestamp: timestamp(),
      ...(type.hasGeneration ? { generation: 1 } : {}),
    })
    delete metadata.deletionTimestamp
    delete metadata.deletionGracePeriodSeconds
    if (type.subresources.includes('status') && !STATUS_ON_CREATE.has(type.id)) delete draft.status
    const checked = this.#check(type, draft, undefined, options)
    if (!checked.ok) return checked
    const admitted = strategyOf(type.id).admitCreate?.(draft, this.context)
    if (admitted?.ok === false) return admitted
    if (this.context.store.get(type.id, text(metadata.namespace), name) !== undefined)
      return alreadyExists(type, name)
    return this.#store(type, draft, undefined, options)
  }

  update(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    input: KubeInput,
    subresource?: Subresource,
    options: WriteOptions = {},
  ): Outcome {
    const found = this.get(type, namespace, name)
    if (!found.ok) return found
    const draft = draftOf(input)
    if (subresource === 'scale') return this.#updateScale(type, found.value, draft, options)
    if (subresource === 'finalize' && type.id === 'namespaces')
      return this.finalizeNamespace(name, at(draft, 'spec', 'finalizers') ?? [])
    const addressed = this.#address(type, namespace, draft, options)
    if (!addressed.ok) return addressed
    return this.#replace(type, found.value, draft, subresource, options)
  }

  /** Apply patches create what is missing; every other type answers 404 then. */
  patch(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    patch: PatchRequest,
    subresource?: Subresource,
    options: WriteOptions = {},
  ): Outcome & { readonly isNew?: boolean } {
    const stored = this.context.store.get(type.id, type.namespaced ? namespace : undefined, name)
    if (stored === undefined && (patch.type !== 'apply' || subresource !== undefined))
      return notFound(type, name)
    const version = options.version ?? type.version
    const scaled = subresource === 'scale' && stored !== undefined
    const target = stored === undefined ? {} : draftOf(scaled ? readScale(stored) : stored)
    if (type.isCustom && stored !== undefined) target.apiVersion = apiVersionOf(type, version)
    const patched = patchObject(type, version, name, target, patch, subresource, timestamp())
    if (!patched.ok) return patched
    const draft = patched.value
    if (stored === undefined) {
      const created = this.create(type, namespace, draft, options)
      return created.ok ? { ...created, isNew: true } : created
    }
    if (scaled) return this.#updateScale(type, stored, draft, options)
    const addressed = this.#address(type, namespace, draft, options)
    if (!addressed.ok) return addressed
    if (at(draft, 'metadata', 'name') !== name)
      return badRequest('the name of the object does not match the name on the URL')
    return this.#replace(type, stored, draft, subresource, options)
  }

  delete(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    options: DeleteOptions = {},
    isDryRun = false,
  ): Outcome {
    const found = this.get(type, namespace, name)
    if (!found.ok) return found
    return deleteObject(this.context, type, found.value, options, isDryRun)
  }

  /** Replaces a namespace's finalizers: its subresource of that name. */
  finalizeNamespace(name: string, finalizers: unknown): Outcome {
    const type = this.type('namespaces')
    if (!type.ok) return type
    const found = this.get(type.value, undefined, name)
    if (!found.ok) return found
    const draft = draftOf(found.value)
    ensureRecord(draft, 'spec').finalizers = finalizers
    return finishIfFinalized(this.context, type.value, found.value, draft)
  }

  /** Binds a pod to a node, as a scheduler does. */
  bindPod(namespace: string | undefined, name: string, nodeName: string): Outcome {
    const type = this.type('pods')
    if (!type.ok) return type
    const found = this.get(type.value, namespace, name)
    if (!found.ok) return found
    const bound = text(found.value.spec?.nodeName) ?? ''
    if (bound !== '')
      return conflict(type.value, name, `pod ${name} is already assigned to node "${bound}"`)
    const draft = draftOf(found.value)
    ensureRecord(draft, 'spec').nodeName = nodeName
    const status = ensureRecord(draft, 'status')
    status.conditions = [
      ...records(status.conditions).filter((condition) => condition.type !== 'PodScheduled'),
      { type: 'PodScheduled', status: 'True', lastTransitionTime: timestamp() },
    ]
    return ok(this.context.store.put('pods', draft))
  }

  #replace(
    type: ResourceType,
    stored: StoredObject,
    draft: Draft,
    subresource: Subresource | undefined,
    options: WriteOptions,
  ): Outcome {
    const { name } = stored.metadata
    const metadata = ensureRecord(draft, 'metadata')
    const given = text(metadata.resourceVersion) ?? ''
    if (given !== '' && given !== stored.metadata.resourceVersion)
      return conflict(
        type,
        name,
        'the object has been modified; please apply your changes to the latest version and try again',
      )
    if (metadata.uid !== undefined && metadata.uid !== stored.metadata.uid)
      return conflict(
        type,
        name,
        `Precondition failed: UID in precondition: ${String(metadata.uid)}, UID in object meta: ${stored.metadata.uid}`,
      )
    const merged =
      subresource === 'status'
        ? statusDraft(type, draft, stored)
        : type.subresources.includes('status')
          ? withStatus(draft, draftOf(stored).status)
          : draft
    keepServerMetadata(merged, stored)
    strategyOf(type.id).prepareUpdate?.(merged, stored)
    const checked = this.#check(type, merged, stored, options)
    if (!checked.ok) return checked
    if (type.hasGeneration && !isDeepStrictEqual(specOf(merged), specOf(stored)))
      ensureRecord(merged, 'metadata').generation = (stored.metadata.generation ?? 0) + 1
    if (isDeepStrictEqual(draftOf(merged), draftOf(stored))) return ok(stored)
    return this.#store(type, merged, stored, options)
  }

  #updateScale(
    type: ResourceType,
    stored: StoredObject,
    scale: Draft,
    options: WriteOptions,
  ): Outcome {
    const written = writeScale(type, stored, scale)
    if (!written.ok) return written
    const replaced = this.#replace(type, stored, written.value, undefined, options)
    return replaced.ok ? ok(readScale(replaced.value)) : replaced
  }

  /** Checks that the body is what the path says it is, and completes it from the path. */
  #address(
    type: ResourceType,
    namespace: string | undefined,
    draft: Draft,
    options: WriteOptions,
  ): Result<void, Refusal> {
    const version = options.version ?? type.version
    const expected = apiVersionOf(type, version)
    draft.kind ??= type.kind
    draft.apiVersion ??= expected
    if (draft.kind !== type.kind || draft.apiVersion !== expected)
      return badRequest(
        `the API version in the data (${String(draft.apiVersion)}, Kind=${String(draft.kind)}) does not match the expected API version (${expected}, Kind=${type.kind})`,
      )
    const metadata = ensureRecord(draft, 'metadata')
    if (!type.namespaced) delete metadata.namespace
    else {
      if ((text(metadata.namespace) ?? '') === '') metadata.namespace = namespace
      if (metadata.namespace !== namespace)
        return badRequest(
          'the namespace of the provided object does not match the namespace sent on the request',
        )
    }
    draft.apiVersion = apiVersionOf(type)
    return ok(undefined)
  }

  #checkNamespace(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
  ): Result<void, Refusal> {
    if (!type.namespaced) return ok(undefined)
    if (namespace === undefined)
      return badRequest('an empty namespace may not be set during creation')
    const space = this.context.store.get('namespaces', undefined, namespace)
    const namespaces = this.context.resources.byId('namespaces')
    if (space === undefined && namespaces !== undefined) return notFound(namespaces, namespace)
    if (space?.metadata.deletionTimestamp !== undefined)
      return forbidden(
        type,
        name,
        `unable to create new content in namespace ${namespace} because it is being terminated`,
      )
    return ok(undefined)
  }

  #check(
    type: ResourceType,
    draft: Draft,
    stored: StoredObject | undefined,
    options: WriteOptions,
  ): Result<void, Refusal> {
    const name = text(at(draft, 'metadata', 'name')) ?? ''
    const shape = checkSchema(type, draft, options.fieldValidation ?? 'Ignore', options.warnings)
    if (!shape.ok) return shape
    const strategy = strategyOf(type.id)
    strategy.setDefaults?.(draft)
    const errors = [
      ...metadataErrors(ensureRecord(draft, 'metadata'), NAME_KINDS[type.id] ?? 'subdomain'),
      ...shape.value,
      ...(strategy.validate?.(draft, stored) ?? []),
    ]
    return errors.length === 0 ? ok(undefined) : invalid(type.kind, type.group, name, errors)
  }

  #store(
    type: ResourceType,
    draft: Draft,
    stored: StoredObject | undefined,
    options: WriteOptions,
  ): Outcome {
    const strategy = strategyOf(type.id)
    if (options.dryRun === true) return ok(draft as unknown as StoredObject)
    const errors = strategy.claim?.(draft, stored, this.context) ?? []
    if (errors.length > 0)
      return invalid(type.kind, type.group, text(at(draft, 'metadata', 'name')) ?? '', errors)
    if (stored !== undefined) return finishIfFinalized(this.context, type, stored, draft)
    const object = this.context.store.put(type.id, draftOf(draft))
    strategy.afterStore?.(object, this.context)
    return ok(object)
  }
}

/** A draft with this status in the place of its own; without a field of that name for none, which no schema allows. */
function withStatus(draft: Draft, status: Draft['status']): Draft {
  const merged = { ...draft, status }
  if (status === undefined) delete merged.status
  return merged
}

/** The stored object with the status of the draft (and what else its status writers may set). */
function statusDraft(type: ResourceType, draft: Draft, stored: StoredObject): Draft {
  const merged = withStatus(draftOf(stored), draft.status)
  const metadata = ensureRecord(merged, 'metadata')
  const given = record(draft.metadata) ?? {}
  metadata.managedFields = given.managedFields ?? metadata.managedFields
  if (METADATA_WITH_STATUS.has(type.id)) {
    metadata.labels = given.labels
    metadata.annotations = given.annotations
  }
  return merged
}

/** Everything but metadata and status: what generation counts changes of. */
function specOf(object: Draft | StoredObject): Draft {
  const { metadata: _metadata, status: _status, ...rest } = draftOf(object)
  return rest
}

function keepServerMetadata(draft: Draft, stored: StoredObject): void {
  const metadata = ensureRecord(draft, 'metadata')
  const kept = stored.metadata
  Object.assign(metadata, {
    name: kept.name,
    uid: kept.uid,
    creationTimestamp: kept.creationTimestamp,
    resourceVersion: kept.resourceVersion,
    deletionTimestamp: kept.deletionTimestamp,
    deletionGracePeriodSeconds: kept.deletionGracePeriodSeconds,
    generateName: kept.generateName,
    generation: kept.generation,
  })
  // A writer that knows nothing of managed fields must not erase them.
  metadata.managedFields ??= kept.managedFields
}
