// SPDX-License-Identifier: Apache-2.0
// Takes out of a real cluster what one run of `lab up` made there, and nothing else: objects that carry the run's
// label, and what hangs on them. Works without the lab's processes, which are gone by then, and after an `up` that
// was cut short at any point. In a cluster without controllers of its own nobody else would finish a deletion.

import { setTimeout as sleep } from 'node:timers/promises'
import { errorMessage } from '../../../mesh/errors.ts'
import { createKubeApi, type KubeApi } from '../../../mesh/kube/api.ts'
import { loadKubeConfig } from '../../../mesh/kube/access.ts'
import {
  CLUSTER_TRUST_BUNDLES,
  CONFIG_MAPS,
  defineResource,
  GATEWAY_CLASSES,
  type KubeObject,
  type KubeResource,
  LEASES,
  NAMESPACES,
  type Namespace,
  NODES,
  PODS,
  SECRETS,
  SERVICE_ACCOUNTS,
} from '../../../mesh/kube/resources.ts'
import { ROOT_LABEL, WAYPOINT_CONTROLLER } from '../../../mesh/model/names.ts'
import type { ControllerParts } from '../objects/cluster-api.ts'
import { MESH_ROOT_CONFIG_MAP, PART_LEASES, RUN_LABEL } from '../objects/lab-marks.ts'
import { emptyNamespace, namespacedTypes } from './namespace-content.ts'

/** An object that a lab made, or was about to. */
export interface MadeObject {
  readonly resource: Omit<KubeResource, 'objectType'>
  readonly namespace?: string | undefined
  readonly name: string
}

/** What a lab remembers of the real cluster that it stands against. */
export interface AttachedState {
  readonly server: string
  readonly context: string
  readonly runId: string
  /** What the lab runs there because the cluster does not. */
  readonly parts: ControllerParts
  /** Written down before each is made. */
  readonly made: readonly MadeObject[]
}

export interface RemovalReport {
  readonly objects: number
  /** Sentences; empty when nothing is left. */
  readonly leftovers: readonly string[]
}

/** A server that is gone must not keep the machine from being cleaned. */
const REACH_DEADLINE_MS = 5_000
const CALL_DEADLINE_MS = 10_000
/** How long namespaces may take to go: a cluster's own controllers empty them in some seconds. */
const GONE_DEADLINE_MS = 30_000
const POLL_MS = 200
const DEFINITIONS = defineResource<Definition>(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
)

interface Definition extends KubeObject {
  readonly spec?: {
    readonly group?: string
    readonly names?: { readonly plural?: string; readonly kind?: string }
    readonly versions?: readonly { readonly name: string; readonly served?: boolean }[]
  }
}

/** Where the mesh's controller keeps the root that it publishes. */
const MESH_ROOT_SECRET = { namespace: 'ambit-system', name: 'ambit-ca-secret' }

/** Removes it all. `nodes` are the names that the lab's nodes have. */
export async function removeFromCluster(
  kubeconfig: string,
  state: AttachedState,
  nodes: readonly string[],
): Promise<RemovalReport> {
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) return { objects: 0, leftovers: [unremoved(state, access.error.message)] }
  const api = createKubeApi(access.value)
  const reached = await api.raw({
    method: 'GET',
    path: '/version',
    call: 'reach it',
    deadlineMs: REACH_DEADLINE_MS,
  })
  if (!reached.ok) return { objects: 0, leftovers: [unremoved(state, reached.error.message)] }
  try {
    return await new Removal(api, state, nodes).run()
  } catch (error) {
    // Whatever it is: the machine has yet to be cleaned.
    return { objects: 0, leftovers: [unremoved(state, errorMessage(error))] }
  }
}

function unremoved(state: AttachedState, reason: string): string {
  const kinds = new Set(['nodes', ...state.made.map(({ resource }) => resource.plural)])
  return `what the lab made at ${state.server} is still there (${reason}): when it can be reached, kubectl delete ${[...kinds].join(',')} --all-namespaces -l ${RUN_LABEL}=${state.runId}`
}

class Removal {
  readonly #api: KubeApi
  readonly #state: AttachedState
  readonly #nodes: readonly string[]
  readonly #leftovers: string[] = []
  #types: Promise<readonly KubeResource[]> | undefined
  #objects = 0

  constructor(api: KubeApi, state: AttachedState, nodes: readonly string[]) {
    this.#api = api
    this.#state = state
    this.#nodes = nodes
  }

  async run(): Promise<RemovalReport> {
    const { made, parts } = this.#state
    // The nodes first, so that nobody gives them new pods.
    await this.#removeLabelled(NODES)
    await this.#removeLabelled(LEASES)
    await this.#giveLeasesBack()
    const namespaces = made.filter(({ resource }) => resource.plural === NAMESPACES.plural)
    const definitions = made.filter(({ resource }) => resource.plural === DEFINITIONS.plural)
    const others = made
      .filter((each) => !namespaces.includes(each) && !definitions.includes(each))
      .toReversed()
    const removed: { readonly uid: string; readonly namespace: string | undefined }[] = []
    for (const each of others) {
      const uid = await this.#removeMade(each)
      if (uid !== undefined) removed.push({ uid, namespace: each.namespace })
    }
    await this.#removeMeshRoots()
    await this.#removeMeshClasses()
    if (parts.manager) {
      await this.#removeLabelled(CONFIG_MAPS)
      await this.#removeLabelled(SERVICE_ACCOUNTS)
      const places = new Set(removed.flatMap(({ namespace }) => namespace ?? []))
      for (const namespace of places) {
        await this.#removeDependents(
          namespace,
          removed.flatMap((each) => (each.namespace === namespace ? [each.uid] : [])),
        )
      }
    }
    for (const each of namespaces.toReversed()) await this.#removeMade(each)
    await this.#untilGone(namespaces.map(({ name }) => name))
    // Last, when what is left of their kinds is nothing of the lab's.
    for (const each of definitions.toReversed()) await this.#removeDefinition(each)
    return { objects: this.#objects, leftovers: this.#leftovers }
  }

  /** Removes a recorded object if it is the one that the lab made. Gives its uid. */
  async #removeMade({ resource, namespace, name }: MadeObject): Promise<string | undefined> {
    const target = namespace === undefined ? { name } : { namespace, name }
    const found = await this.#api.get(resource, target, { deadlineMs: CALL_DEADLINE_MS })
    if (!found.ok) {
      // Never made, gone already, or its kind is gone with a definition that was removed before.
      if (found.error.kind !== 'notFound') this.#leftovers.push(found.error.message)
      return undefined
    }
    if (found.value.metadata?.labels?.[RUN_LABEL] !== this.#state.runId) return undefined
    return await this.#delete(resource, found.value)
  }

  /** Removes a definition of a kind, unless that would take somebody else's objects with it. */
  async #removeDefinition(made: MadeObject): Promise<void> {
    const { name } = made
    const deadlineMs = CALL_DEADLINE_MS
    const found = await this.#api.get(DEFINITIONS, { name }, { deadlineMs })
    if (found.ok && found.value.metadata?.labels?.[RUN_LABEL] === this.#state.runId) {
      const { group = '', names, versions = [] } = found.value.spec ?? {}
      const version = versions.find(({ served }) => served)?.name
      if (version !== undefined) {
        // The scope is of no matter: all of them are asked for.
        const type = defineResource(
          group,
          version,
          names?.plural ?? '',
          names?.kind ?? '',
          'cluster',
        )
        const objects = await this.#api.list(type, { deadlineMs })
        if (!objects.ok) {
          this.#leftovers.push(
            `${name} stays, for its objects cannot be listed: ${objects.error.message}`,
          )
          return
        }
        const [first, ...more] = objects.value.items
        if (first !== undefined) {
          const { namespace = '', name: object = '' } = first.metadata ?? {}
          const others = more.length === 0 ? '' : ` and ${more.length} more`
          this.#leftovers.push(
            `CustomResourceDefinition ${name} stays, for it has objects that are not the lab's (${namespace}/${object}${others}): when they are not needed, kubectl delete crd ${name}`,
          )
          return
        }
      }
    }
    await this.#removeMade(made)
  }

  async #delete(resource: KubeResource, object: KubeObject): Promise<string | undefined> {
    const { namespace, name = '', uid } = object.metadata ?? {}
    const gone = await this.#api.delete(
      resource,
      { name, ...(namespace === undefined ? {} : { namespace }) },
      {
        propagationPolicy: 'Background',
        deadlineMs: CALL_DEADLINE_MS,
        ...(uid === undefined ? {} : { uid }),
      },
    )
    if (gone.ok) this.#objects += 1
    else if (gone.error.kind !== 'notFound' && gone.error.kind !== 'conflict') {
      this.#leftovers.push(gone.error.message)
    }
    return uid
  }

  async #removeLabelled(resource: KubeResource): Promise<void> {
    const labelSelector = `${RUN_LABEL}=${this.#state.runId}`
    const found = await this.#api.list(resource, { labelSelector, deadlineMs: CALL_DEADLINE_MS })
    if (!found.ok) {
      this.#leftovers.push(found.error.message)
      return
    }
    for (const object of found.value.items) await this.#delete(resource, object)
  }

  /** The next who wants to run the cluster's controllers need not wait for the lab's leases to run out. */
  async #giveLeasesBack(): Promise<void> {
    for (const name of Object.values(PART_LEASES)) {
      const target = { namespace: 'kube-system', name }
      const found = await this.#api.get(LEASES, target, { deadlineMs: CALL_DEADLINE_MS })
      if (!found.ok) continue
      if (found.value.spec?.holderIdentity?.endsWith(`_${this.#state.runId}`) === true) {
        await this.#delete(LEASES, found.value)
      }
    }
  }

  /** The root that the lab's mesh published in every namespace: only if that mesh was the lab's. */
  async #removeMeshRoots(): Promise<void> {
    if (!this.#state.made.some(({ name }) => name === 'ambit-controller')) return
    const deadlineMs = CALL_DEADLINE_MS
    const secret = await this.#api.get(SECRETS, MESH_ROOT_SECRET, { deadlineMs })
    const encoded = secret.ok ? secret.value.data?.['ca-cert.pem'] : undefined
    // The controller makes its root before it publishes it: without one there is nothing to find.
    if (encoded === undefined) return
    const root = Buffer.from(encoded, 'base64').toString('utf8')
    const fieldSelector = `metadata.name=${MESH_ROOT_CONFIG_MAP}`
    const found = await this.#api.list(CONFIG_MAPS, { fieldSelector, deadlineMs })
    for (const object of found.ok ? found.value.items : []) {
      if (object.data?.['root-cert.pem'] === root) await this.#delete(CONFIG_MAPS, object)
    }
    for (const version of CLUSTER_TRUST_BUNDLES) {
      const bundles = await this.#api.list(version, { labelSelector: ROOT_LABEL, deadlineMs })
      for (const object of bundles.ok ? bundles.value.items : [])
        if (object.spec?.trustBundle === root) await this.#delete(version, object)
    }
  }

  /**
   * The classes of Gateways that the lab's mesh made, which name its controller: not those of a mesh of before, which somebody may have
   * left there for the next one.
   */
  async #removeMeshClasses(): Promise<void> {
    const deadlineMs = CALL_DEADLINE_MS
    const mesh = await this.#api.get(
      NAMESPACES,
      { name: MESH_ROOT_SECRET.namespace },
      { deadlineMs },
    )
    if (!mesh.ok || mesh.value.metadata?.labels?.[RUN_LABEL] !== this.#state.runId) return
    const since = mesh.value.metadata.creationTimestamp
    if (since === undefined) return
    const found = await this.#api.list(GATEWAY_CLASSES, { deadlineMs })
    for (const object of found.ok ? found.value.items : []) {
      const { creationTimestamp } = object.metadata ?? {}
      // Unread by nature: whoever may write it.
      const { controllerName } = (object.spec ?? {}) as { readonly controllerName?: unknown }
      const isOurs = controllerName === WAYPOINT_CONTROLLER
      if (isOurs && creationTimestamp !== undefined && creationTimestamp >= since)
        await this.#delete(GATEWAY_CLASSES, object)
    }
  }

  /** Removes what objects that are gone owned, and what that owned, as a garbage collector would. */
  async #removeDependents(namespace: string, owners: readonly string[]): Promise<void> {
    const gone = new Set(owners)
    const types = await this.#namespacedTypes()
    for (let isGrowing = true; isGrowing; ) {
      isGrowing = false
      for (const type of types) {
        const found = await this.#api.list(type, { namespace, deadlineMs: CALL_DEADLINE_MS })
        for (const object of found.ok ? found.value.items : []) {
          const { uid = '', ownerReferences = [] } = object.metadata ?? {}
          if (gone.has(uid) || !ownerReferences.some((owner) => gone.has(owner.uid))) continue
          await this.#delete(type, object)
          gone.add(uid)
          isGrowing = true
        }
      }
    }
  }

  /** Waits for the namespaces to go; nobody runs their pods any more, so those go without grace. */
  async #untilGone(namespaces: readonly string[]): Promise<void> {
    const deadline = Date.now() + GONE_DEADLINE_MS
    for (;;) {
      await this.#removePodsOfNodes()
      const left: string[] = []
      for (const name of namespaces) {
        const found = await this.#api.get(NAMESPACES, { name }, { deadlineMs: CALL_DEADLINE_MS })
        if (!found.ok && found.error.kind === 'notFound') continue
        if (!found.ok) left.push(`namespace ${name}: ${found.error.message}`)
        else if (found.value.metadata?.labels?.[RUN_LABEL] === this.#state.runId) {
          left.push(`namespace ${name} is still being emptied: kubectl describe namespace ${name}`)
          if (this.#state.parts.manager) await this.#emptyNamespace(found.value)
        }
      }
      if (left.length === 0) return
      if (Date.now() > deadline) {
        this.#leftovers.push(...left)
        return
      }
      await sleep(POLL_MS)
    }
  }

  /** Pods that were bound to the lab's nodes, which are gone. A node of that name that is not the lab's keeps its own. */
  async #removePodsOfNodes(): Promise<void> {
    for (const node of this.#nodes) {
      const present = await this.#api.get(NODES, { name: node }, { deadlineMs: CALL_DEADLINE_MS })
      if (present.ok || present.error.kind !== 'notFound') continue
      const pods = await this.#api.list(PODS, {
        fieldSelector: `spec.nodeName=${node}`,
        deadlineMs: CALL_DEADLINE_MS,
      })
      for (const { metadata } of pods.ok ? pods.value.items : []) {
        const { namespace = 'default', name = '', uid } = metadata ?? {}
        const gone = await this.#api.delete(
          PODS,
          { namespace, name },
          {
            gracePeriodSeconds: 0,
            deadlineMs: CALL_DEADLINE_MS,
            ...(uid === undefined ? {} : { uid }),
          },
        )
        if (gone.ok) this.#objects += 1
      }
    }
  }

  #namespacedTypes(): Promise<readonly KubeResource[]> {
    this.#types ??= namespacedTypes(this.#api)
    return this.#types
  }

  /** What a namespace controller does: deletes all in it, then lets it go. */
  async #emptyNamespace(namespace: Namespace): Promise<void> {
    const { name = '' } = namespace.metadata ?? {}
    const types = await this.#namespacedTypes()
    if ((await emptyNamespace(this.#api, types, name, { gracePeriodSeconds: 0 })) > 0) return
    // A conflict is met by the next round.
    await this.#api.update(
      NAMESPACES,
      { ...namespace, spec: { finalizers: [] } },
      { subresource: 'finalize', deadlineMs: CALL_DEADLINE_MS },
    )
  }
}
