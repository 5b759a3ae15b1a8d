// SPDX-License-Identifier: Apache-2.0
// The roots of the mesh as this agent has them: the file that the kubelet mounts, and until that is there the ConfigMap itself. The
// kubelet looks for an optional ConfigMap once in a minute or two: a first installation is not to wait for it.

import { readFile } from 'node:fs/promises'
import { splitCertificates } from '../mesh/identity/pem.ts'
import { watchRoots } from '../mesh/identity/watch-roots.ts'
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeApi,
  type ResourceWatch,
  watchResource,
} from '../mesh/kube/index.ts'
import type { Logger } from '../mesh/telemetry/log.ts'

export interface MeshRootsOptions {
  readonly file: string
  /** Where the ConfigMap is: that of the agent. */
  readonly namespace: string
  readonly log: Logger
}

/** Published by the controller, ours or Istio's, in every namespace. */
const CONFIG_MAP = 'istio-ca-root-cert'
const FIELD = 'root-cert.pem'

export class MeshRoots {
  readonly #options: MeshRootsOptions
  #published = ''
  /** What was in force at the last look; empty when there was nothing. */
  #known: string | undefined
  #onChange: () => void = () => undefined
  #watch: ResourceWatch<string> | undefined
  #unwatchFile: () => void = () => undefined
  #looking: Promise<void> = Promise.resolve()

  constructor(options: MeshRootsOptions) {
    this.#options = options
  }

  /** PEM of the roots; rejects while there are none. The file comes first: an operator may have put others there. */
  async read(): Promise<string> {
    const { file, namespace } = this.#options
    const text = (await certificatesIn(file)) || this.#published
    if (text !== '') return text
    throw new Error(
      `there are none yet, neither in ${file} nor in ConfigMap ${namespace}/${CONFIG_MAP}: the control plane publishes them`,
    )
  }

  /** Follows both; calls back whenever others are in force than before, or the first have come. */
  follow(api: KubeApi, onChange: () => void): void {
    const { file, namespace, log } = this.#options
    this.#onChange = onChange
    const look = (): void => this.#look()
    this.#unwatchFile = watchRoots(file, log, look)
    const see = (published: string): void => {
      this.#published = published
      look()
    }
    this.#watch = watchResource(api, CONFIG_MAPS, {
      logger: log,
      namespace,
      fieldSelector: `metadata.name=${CONFIG_MAP}`,
      keep: ({ data }: ConfigMap) => splitCertificates(data?.[FIELD] ?? '').join('\n'),
      added: see,
      updated: (_, published) => see(published),
      // Whoever removes it does not mean that nobody is to be trusted: it is published anew.
    })
    look()
  }

  async close(): Promise<void> {
    this.#onChange = () => undefined
    this.#unwatchFile()
    await this.#watch?.close()
    await this.#looking
  }

  #look(): void {
    this.#looking = this.#looking.then(async () => {
      const text = (await certificatesIn(this.#options.file)) || this.#published
      const before = this.#known
      if (text !== '' || before === undefined) this.#known = text
      if (before !== undefined && text !== '' && text !== before) this.#onChange()
    })
  }
}

/** Its certificates alone; empty where it is missing, or holds none. */
async function certificatesIn(file: string): Promise<string> {
  // Not there is what the ConfigMap is for; what else keeps it from being read, watchRoots logs.
  const text = await readFile(file, 'utf8').catch(() => '')
  return splitCertificates(text).join('\n')
}
