// SPDX-License-Identifier: Apache-2.0
// Which cluster the stories are told on: that of KUBECONFIG, of whose nodes nothing is known, else the one of this machine
// (`npm run cluster`), whose nodes can be entered.

import { existsSync } from 'node:fs'
import { KUBECONFIG } from '../../../lab/real/layout.ts'

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
