// SPDX-License-Identifier: Apache-2.0
// The lab's stand-in for kube-proxy: keeps the nftables ruleset of every node equal to the services of the
// cluster and the pods' host ports. One instance serves all nodes, since it may enter their namespaces.

import type { ClusterApi } from '../../kubernetes/objects/cluster-api.ts'
import { netnsPath } from '../../machine/layout.ts'
import { HostPortIndex } from './host-ports.ts'
import { ServiceIndex } from '../kube-view.ts'
import { command } from '../../machine/command.ts'
import { serviceRuleset } from './ruleset.ts'
import { NFT_FROM_STDIN } from '../../network/nft.ts'

/** Changes come in bursts (a Service, then its slices): one ruleset for all that came within this time. */
const SETTLE_MS = 5
/** A refused ruleset is tried again: a node's namespace may just be going away or coming. */
const RETRY_MS = 1000

export interface ServiceProxy {
  /** Resolves when the rules for every change so far are in all nodes. */
  synced(): Promise<void>
  stop(): Promise<void>
}

/** Starts to keep the nodes' rules; `onError` hears of rules that could not be applied. */
export function startServiceProxy(options: {
  readonly api: Pick<ClusterApi, 'watch'>
  readonly nodes: readonly { readonly name: string; readonly netns: string }[]
  /** Ranges of service addresses; empty when nobody tells them. */
  readonly serviceRanges: readonly string[]
  readonly onError: (error: Error) => void
}): ServiceProxy {
  /** By node. */
  const applied = new Map<string, string>()
  let isStopped = false
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> = Promise.resolve()

  const apply = async (): Promise<void> => {
    if (isStopped) return
    const results = await Promise.allSettled(
      options.nodes.map(async ({ name, netns }) => {
        const ruleset = serviceRuleset({ ...options, index, hostPorts: hostPorts.of(name) }, name)
        if (ruleset === applied.get(name)) return
        await command(['nsenter', `--net=${netnsPath(netns)}`, 'sh', '-c', NFT_FROM_STDIN], {
          input: ruleset,
        })
        applied.set(name, ruleset)
      }),
    )
    const failure = results.find((result) => result.status === 'rejected')
    if (failure === undefined) return
    if (isStopped) return
    const { reason }: { readonly reason: unknown } = failure
    options.onError(reason instanceof Error ? reason : new Error(String(reason)))
    schedule(RETRY_MS)
  }

  const schedule = (delayMs: number): void => {
    if (isStopped) return
    timer ??= setTimeout(() => {
      timer = undefined
      running = running.then(apply)
    }, delayMs)
  }

  const onChange = (): void => schedule(SETTLE_MS)
  const index = new ServiceIndex(options.api, onChange)
  const hostPorts = new HostPortIndex(options.api, onChange)
  schedule(0)
  return {
    async synced(): Promise<void> {
      if (timer !== undefined) {
        clearTimeout(timer)
        timer = undefined
        running = running.then(apply)
      }
      await running
    },
    async stop(): Promise<void> {
      isStopped = true
      clearTimeout(timer)
      index.stop()
      hostPorts.stop()
      await running
    },
  }
}
