// SPDX-License-Identifier: Apache-2.0
// The lab's own API server as tests use it, in their process and without certificates: its store, its rules, its HTTP.
// What a test puts there is there as if it had always been: with the uid that the test knows, and not asked for validity.
// Whatever the code under test asks for goes by the server's rules.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { defaultPodSpec } from '../../lab/kubernetes/own/apiserver/admission/pods.ts'
import { ClusterIpPools } from '../../lab/kubernetes/own/apiserver/cluster-ip.ts'
import { PodStreams } from '../../lab/kubernetes/own/apiserver/http/pod-streams.ts'
import { Router } from '../../lab/kubernetes/own/apiserver/http/router.ts'
import { WatchHub } from '../../lab/kubernetes/own/apiserver/http/watch.ts'
import { type LocalApi, localApi } from '../../lab/kubernetes/own/apiserver/local-api.ts'
import { Registry } from '../../lab/kubernetes/own/apiserver/registry.ts'
import { ResourceTable } from '../../lab/kubernetes/own/apiserver/resource-table.ts'
import { Store } from '../../lab/kubernetes/own/apiserver/store.ts'
import { TokenAuthority } from '../../lab/kubernetes/own/apiserver/tokens.ts'
import { type Draft, draftOf, record } from '../../lab/kubernetes/objects/json.ts'
import { resourceId } from '../../lab/kubernetes/objects/resource-types.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import { type KubeObject, type KubeResource, objectKey, PODS } from '../../mesh/kube/index.ts'

/** More than any test changes. */
const HISTORY = 20_000
/** Bookmarks come when a test wants them. */
const NO_BOOKMARKS_MS = 3_600_000
const SOME_NAMESPACE = 'default'
const SERVICE_CIDR_4 = '10.96.0.0/16'
const SERVICE_CIDR_6 = 'fd98:96::/112'

export class TestKube {
  /** The verbs as the server's own code uses them: by its rules, at once. */
  readonly local: LocalApi
  /** Of the administrator. */
  readonly adminToken: string = randomUUID()
  readonly #store = new Store(HISTORY)
  readonly #router: Router

  constructor() {
    const resources = new ResourceTable()
    const clusterIps = new ClusterIpPools(SERVICE_CIDR_4, SERVICE_CIDR_6)
    const registry = new Registry({ store: this.#store, resources, clusterIps })
    const tokens = new TokenAuthority('https://kubernetes.default.svc', this.#store, resources)
    this.local = localApi(registry, tokens)
    this.#router = new Router({
      registry,
      tokens,
      watches: new WatchHub(this.#store, NO_BOOKMARKS_MS),
      adminToken: this.adminToken,
      podStreams: new PodStreams(registry, undefined),
    })
    this.local.create('namespaces', undefined, { metadata: { name: SOME_NAMESPACE } })
  }

  get revision(): number {
    return this.#store.revision
  }

  get<T extends KubeObject>(resource: KubeResource<T>, key: string): T | undefined {
    const [name = '', namespace] = key.split('/').reverse()
    const found = this.#store.get(idOf(resource), namespace, name)
    return found === undefined ? undefined : asClientsSee<T>(found)
  }

  list<T extends KubeObject>(resource: KubeResource<T>): readonly T[] {
    return this.#store.list(idOf(resource)).map((each) => asClientsSee<T>(each))
  }

  /** Creates or replaces, as it is. Returns what is stored. */
  put<T extends KubeObject>(resource: KubeResource<T>, object: T): T {
    const previous = this.get(resource, objectKey(object))
    const whole: KubeObject = {
      ...object,
      apiVersion: resource.group === '' ? 'v1' : `${resource.group}/${resource.version}`,
      kind: resource.kind,
      metadata: {
        ...object.metadata,
        name: object.metadata?.name ?? '',
        uid: object.metadata?.uid ?? previous?.metadata?.uid ?? randomUUID(),
      },
    }
    const draft = draftOf(whole as Draft)
    // Without the defaults that the server gives a pod, every later change would be one of its spec, too.
    const spec = resource.plural === PODS.plural ? record(draft.spec) : undefined
    if (spec !== undefined) defaultPodSpec(spec)
    return asClientsSee<T>(this.#store.put(idOf(resource), draft))
  }

  remove(resource: KubeResource, key: string): void {
    const [name = '', namespace] = key.split('/').reverse()
    const stored = this.#store.get(idOf(resource), namespace, name)
    if (stored === undefined) throw new Error(`there is no ${key}`)
    this.#store.remove(idOf(resource), stored, draftOf(stored))
  }

  /** Forgets history: watches from an older version are told 410. */
  compact(): void {
    this.#store.compact()
  }

  protected serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    return this.#router.handle(request, response)
  }
}

/** A stored object in the words of the client's types, which are those of the resource it was asked for. */
export function asClientsSee<T extends KubeObject>(stored: StoredObject): T {
  return draftOf(stored) as KubeObject as T
}

/** As the server's own code calls a resource. */
export function idOf(resource: KubeResource): string {
  return resourceId(resource.group, resource.plural)
}
