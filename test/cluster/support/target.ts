// SPDX-License-Identifier: Apache-2.0
// Which cluster the stories are told on: that of KUBECONFIG, of whose nodes nothing is known, else the one of this machine
// (`npm run cluster`), whose nodes can be entered.

import { existsSync, readFileSync } from 'node:fs'
import { type ClusterKind, KIND_FILE, KUBECONFIG, type Network } from '../../../lab/real/layout.ts'

export interface StoryTarget {
  readonly kubeconfig: string
  /** Whether its nodes are ours to enter, and the mesh ours to install and take away. */
  readonly isOurs: boolean
}

/** Undefined where there is no cluster. */
export function storyTarget(): StoryTarget | undefined {
  const given = process.env['KUBECONFIG']
  if (given !== undefined && given !== '' && given !== KUBECONFIG)
    return { kubeconfig: given, isOurs: false }
  return existsSync(KUBECONFIG) ? { kubeconfig: KUBECONFIG, isOurs: true } : undefined
}

/** For tap's `skip`. */
export function missingCluster(needs: 'nodes' | 'api'): string | false {
  const target = storyTarget()
  if (target === undefined) return 'needs a cluster: npm run cluster, or KUBECONFIG'
  return needs === 'nodes' && !target.isOurs
    ? 'needs nodes that can be entered: npm run cluster, without KUBECONFIG'
    : false
}

/** For tap's `skip`, where a story is about who gives pods their network. */
export function missingNetwork(network: Network): string | false {
  const missing = missingCluster('nodes')
  if (missing !== false) return missing
  const kind = JSON.parse(readFileSync(KIND_FILE, 'utf8')) as ClusterKind
  return (
    kind.network !== network && `needs another network: npm run cluster -- up --network ${network}`
  )
}
