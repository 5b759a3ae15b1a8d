// SPDX-License-Identifier: Apache-2.0
// Makes waypoints of Gateways, and puts right what somebody changes or deletes of them. Runs on the leader only. It writes by server-side
// apply, so that fields that others have set stay theirs, and touches nothing that is not its own. What it made goes with the Gateway, by
// garbage collection, and before that when the Gateway is given to another controller.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import type { Collection } from '../../mesh/collections/index.ts'
import {
  CONFIG_MAPS,
  type KubeApi,
  type KubeFailure,
  type KubeObject,
  type ResourceWatch,
  watchResource,
} from '../../mesh/kube/index.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { type Result, err, ok } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import { desiredObjects } from './desired.ts'
import {
  isManaged,
  MANAGED_BY,
  MANAGED_KINDS,
  MANAGED_LABEL,
  OPTIONAL_KINDS,
} from './managed-object.ts'
import type { ManagedKind, ManagedObject, ProvisionFlaw } from './managed-object.ts'
import type { Outcomes } from './outcomes.ts'
import { NO_OVERLAY, type Overlay, readOverlay } from './overlay.ts'
import type { ProvisionSettings } from './pod-template.ts'
import type { GatewayOwner, WaypointOrder } from './waypoint-order.ts'

const FIELD_MANAGER = 'ambit-waypoint'
/** What a namespace refuses (a quota, a webhook) is tried for ever, but rarely. */
const RETRIES = { firstMs: 1_000, longestMs: 60_000 }
/** Waypoints at a time: one that the API server is slow about keeps no other from being made. */
const MOST_AT_ONCE = 4
const KINDS = Object.keys(MANAGED_KINDS) as readonly ManagedKind[]
const LAST_MADE_FIRST = KINDS.toReversed()

export interface ProvisionerOptions {
  readonly orders: Collection<ObjectKey, WaypointOrder>
  /** Gateways that are other controllers': what was made of them goes. */
  readonly others: Collection<ObjectKey, GatewayOwner>
  /** The cluster of `api`. */
  readonly cluster: string
  readonly settings: ProvisionSettings
  /** Told what became of each. */
  readonly outcomes: Outcomes
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
}

/** Makes waypoints until the signal aborts; resolves when the last write is over. */
export async function provisionWaypoints(api: KubeApi, options: ProvisionerOptions): Promise<void> {
  const provisioner = new Provisioner(api, options)
  await provisioner.finished()
}

/** What a watch keeps of an object that has our label. */
interface SeenObject {
  readonly gateway: ObjectKey
  /** Changes when somebody changes what was asked for, not when it is carried out. */
  readonly print: string
}

class Provisioner {
  readonly #api: KubeApi
  readonly #options: ProvisionerOptions
  readonly #pending = new Set<ObjectKey>()
  readonly #busy = new Map<ObjectKey, Promise<void>>()
  readonly #waiting = new Set<ObjectKey>()
  readonly #backoffs = new Map<ObjectKey, Backoff>()
  readonly #watches: readonly ResourceWatch<SeenObject>[]
  /** The ConfigMap that a Gateway names. */
  readonly #parameters = new Map<
    ObjectKey,
    { readonly name: string; readonly watch: ResourceWatch<string> }
  >()
  /** How our last writes left the objects. */
  readonly #applied = new Map<string, string>()
  readonly #unsubscribers: readonly (() => void)[]

  constructor(api: KubeApi, options: ProvisionerOptions) {
    this.#api = api
    this.#options = options
    this.#watches = KINDS.map((kind) => this.#follow(kind))
    const enqueue = (changes: readonly { readonly key: ObjectKey }[]): void => {
      for (const { key } of changes) this.#enqueue(key)
    }
    this.#unsubscribers = [options.orders.subscribe(enqueue), options.others.subscribe(enqueue)]
  }

  async finished(): Promise<void> {
    const { signal } = this.#options
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    for (const unsubscribe of this.#unsubscribers) unsubscribe()
    const parameters = [...this.#parameters.values()].map(({ watch }) => watch)
    await Promise.all([...this.#watches, ...parameters].map((watch) => watch.close()))
    await Promise.all(this.#busy.values())
  }

  #follow(kind: ManagedKind): ResourceWatch<SeenObject> {
    const { cluster, others, log, signal } = this.#options
    return watchResource<KubeObject, SeenObject>(this.#api, MANAGED_KINDS[kind], {
      logger: log,
      signal,
      labelSelector: `${MANAGED_LABEL}=${MANAGED_BY}`,
      keep: ({ metadata }) => ({
        gateway: objectKey(
          cluster,
          metadata?.namespace ?? '',
          metadata?.labels?.[GATEWAY_NAME_LABEL] ?? '',
        ),
        print: printOf(metadata),
      }),
      // At the beginning, of a Gateway that another leader saw go.
      added: ({ gateway }) => {
        if (others.get(gateway) !== undefined) this.#enqueue(gateway)
      },
      updated: (_previous, { gateway, print }, name) => {
        if (this.#applied.get(`${kind} ${name}`) !== print) this.#enqueue(gateway)
      },
      deleted: ({ gateway }, name) => {
        this.#applied.delete(`${kind} ${name}`)
        this.#enqueue(gateway)
      },
    })
  }

  /** Something has changed: whatever failed before may do now. */
  #enqueue(key: ObjectKey): void {
    this.#waiting.delete(key)
    this.#pending.add(key)
    this.#pump()
  }

  #pump(): void {
    const { orders, others, signal } = this.#options
    if (signal.aborted) return
    for (const key of this.#pending) {
      if (this.#busy.size >= MOST_AT_ONCE) return
      if (this.#busy.has(key) || this.#waiting.has(key)) continue
      this.#pending.delete(key)
      const order = orders.get(key)
      const owner = order ?? others.get(key)
      if (order === undefined) this.#forget(key)
      if (owner === undefined || (order === undefined && !this.#hasMade(key))) {
        this.#backoffs.delete(key)
        continue
      }
      const work = this.#settle(key, owner, order).finally(() => {
        this.#busy.delete(key)
        this.#pump()
      })
      this.#busy.set(key, work)
    }
  }

  /** Whether there is anything of ours for this Gateway, as far as the watches have seen. */
  #hasMade(key: ObjectKey): boolean {
    return this.#watches.some((watch) =>
      Iterator.from(watch.values()).some(({ gateway }) => gateway === key),
    )
  }

  #forget(key: ObjectKey): void {
    this.#options.outcomes.forget(key)
    void this.#parameters.get(key)?.watch.close()
    this.#parameters.delete(key)
  }

  /** Makes it, or, without an order, takes away what was made; again later where that fails. */
  async #settle(
    key: ObjectKey,
    owner: GatewayOwner,
    order: WaypointOrder | undefined,
  ): Promise<void> {
    const { outcomes, log, signal } = this.#options
    const done =
      order === undefined ? await this.#takeAway(owner) : await this.#makeOnce(key, order)
    if (signal.aborted) return
    if (order !== undefined) outcomes.set(key, done.ok ? undefined : done.error)
    if (done.ok) {
      this.#backoffs.delete(key)
      return
    }
    const gateway = `${owner.namespace}/${owner.name}`
    const what = order === undefined ? 'take away what was made of it' : 'make a waypoint'
    log.warn({ gateway, ...done.error }, `cannot ${what}`)
    const backoff = this.#backoffs.get(key) ?? new Backoff(RETRIES)
    this.#backoffs.set(key, backoff)
    this.#waiting.add(key)
    void delay(backoff.next(), signal).then(() => {
      if (this.#waiting.has(key)) this.#enqueue(key)
    })
  }

  /** The Gateway is another controller's now, and so are its name's Service and Deployment to make. */
  async #takeAway(owner: GatewayOwner): Promise<Result<void, ProvisionFlaw>> {
    for (const kind of LAST_MADE_FIRST) {
      const flaw = await this.#remove(owner, kind)
      if (flaw !== undefined) return err(flaw)
    }
    return ok(undefined)
  }

  async #makeOnce(key: ObjectKey, order: WaypointOrder): Promise<Result<void, ProvisionFlaw>> {
    const overlay = await this.#overlayOf(key, order)
    if (!overlay.ok) return overlay
    const desired = desiredObjects(order, this.#options.settings, overlay.value)
    if (!desired.ok) return desired
    for (const object of desired.value) {
      const flaw = await this.#apply(order, object)
      if (flaw !== undefined) return err(flaw)
    }
    for (const kind of OPTIONAL_KINDS) {
      if (desired.value.some((object) => object.kind === kind)) continue
      const flaw = await this.#remove(order, kind)
      if (flaw !== undefined) return err(flaw)
    }
    return ok(undefined)
  }

  async #overlayOf(
    key: ObjectKey,
    { namespace, infrastructure: { parameters } }: WaypointOrder,
  ): Promise<Result<Overlay, ProvisionFlaw>> {
    const field = 'spec.infrastructure.parametersRef'
    const wanted = parameters.kind === 'configMap' ? parameters.name : undefined
    this.#followParameters(key, namespace, wanted)
    if (parameters.kind === 'none') return ok(NO_OVERLAY)
    if (parameters.kind === 'unusable')
      return err({ object: 'the Gateway', field, reason: parameters.reason })
    const { name } = parameters
    const object = `ConfigMap ${namespace}/${name}`
    const { signal } = this.#options
    const found = await this.#api.get(CONFIG_MAPS, { namespace, name }, { signal })
    if (!found.ok) return err({ object, field, reason: found.error.message })
    return readOverlay(object, found.value.data ?? {})
  }

  /** A change of the ConfigMap is one of the waypoint. */
  #followParameters(key: ObjectKey, namespace: string, name: string | undefined): void {
    const known = this.#parameters.get(key)
    if (known?.name === name) return
    void known?.watch.close()
    this.#parameters.delete(key)
    if (name === undefined) return
    const { log: logger, signal } = this.#options
    const again = (): void => this.#enqueue(key)
    const watch = watchResource(this.#api, CONFIG_MAPS, {
      logger,
      signal,
      namespace,
      fieldSelector: `metadata.name=${name}`,
      keep: ({ metadata }) => metadata?.resourceVersion ?? '',
      added: again,
      updated: again,
      deleted: again,
    })
    this.#parameters.set(key, { name, watch })
  }

  async #apply(
    order: WaypointOrder,
    { kind, object }: ManagedObject,
  ): Promise<ProvisionFlaw | undefined> {
    const { namespace, name, uid } = order
    const { signal } = this.#options
    const resource = MANAGED_KINDS[kind]
    const target = { namespace, name }
    const called = `${resource.kind} ${namespace}/${name}`
    const found = await this.#api.get<KubeObject>(resource, target, { signal })
    if (!found.ok && found.error.kind !== 'notFound') return flawOf(called, found.error)
    if (found.ok && !isManaged(found.value, uid))
      return {
        object: called,
        field: 'metadata.ownerReferences',
        reason: 'is there already and is not of this Gateway: it stays as it is',
      }
    const applied = await this.#api.patch<KubeObject>(resource, target, object, {
      type: 'apply',
      fieldManager: FIELD_MANAGER,
      // Not over what somebody has made in the meantime.
      force: found.ok,
      signal,
    })
    if (!applied.ok) return flawOf(called, applied.error)
    this.#applied.set(`${kind} ${namespace}/${name}`, printOf(applied.value.metadata))
    return undefined
  }

  async #remove(
    { namespace, name, uid }: GatewayOwner,
    kind: ManagedKind,
  ): Promise<ProvisionFlaw | undefined> {
    const { log, signal } = this.#options
    const resource = MANAGED_KINDS[kind]
    const target = { namespace, name }
    const called = `${resource.kind} ${namespace}/${name}`
    const found = await this.#api.get<KubeObject>(resource, target, { signal })
    if (!found.ok) return found.error.kind === 'notFound' ? undefined : flawOf(called, found.error)
    const { uid: own } = found.value.metadata ?? {}
    if (!isManaged(found.value, uid) || own === undefined) return undefined
    const deleted = await this.#api.delete(resource, target, { uid: own, signal })
    if (deleted.ok) log.info({ object: called }, 'nobody asks for it any more: it is taken away')
    return deleted.ok || deleted.error.kind === 'notFound'
      ? undefined
      : flawOf(called, deleted.error)
  }
}

/** What is asked for has a generation where there is more of the object than that. */
function printOf(metadata: KubeObject['metadata']): string {
  const { uid, generation, resourceVersion, labels, ownerReferences } = metadata ?? {}
  const of = generation === undefined ? [resourceVersion] : [generation, labels, ownerReferences]
  return JSON.stringify([uid, ...of])
}

function flawOf(object: string, { message }: KubeFailure): ProvisionFlaw {
  return { object, field: '', reason: message }
}
