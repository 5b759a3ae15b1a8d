// SPDX-License-Identifier: Apache-2.0
// ConfigMaps and Secrets as pods refer to them: one watch of each kind per kubelet, begun at first use, so
// that volumes change within milliseconds of the object.

import type { KubeApi } from '../../mesh/kube/api.ts'
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeObject,
  type KubeResource,
  SECRETS,
  type Secret,
} from '../../mesh/kube/resources.ts'
import { type ResourceWatch, watchResource } from '../../mesh/kube/watch-resource.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export class ObjectCache {
  readonly #api: KubeApi
  readonly #logger: Logger
  readonly #listeners = new Set<() => void>()
  #configMaps: ResourceWatch<ConfigMap> | undefined
  #secrets: ResourceWatch<Secret> | undefined

  constructor(api: KubeApi, logger: Logger) {
    this.#api = api
    this.#logger = logger
  }

  async configMap(namespace: string, name: string): Promise<ConfigMap | undefined> {
    this.#configMaps ??= this.#watch(CONFIG_MAPS)
    await this.#configMaps.synced
    return this.#configMaps.get(`${namespace}/${name}`)
  }

  async secret(namespace: string, name: string): Promise<Secret | undefined> {
    this.#secrets ??= this.#watch(SECRETS)
    await this.#secrets.synced
    return this.#secrets.get(`${namespace}/${name}`)
  }

  /** Calls `listener` after any ConfigMap or Secret changed; the returned function ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #watch<T extends KubeObject>(resource: KubeResource<T>): ResourceWatch<T> {
    const tell = (): void => {
      for (const listener of this.#listeners) listener()
    }
    return watchResource(this.#api, resource, {
      logger: this.#logger,
      added: tell,
      updated: tell,
      deleted: tell,
    })
  }
}
