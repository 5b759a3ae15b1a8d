// SPDX-License-Identifier: Apache-2.0
// Names and places of the real cluster: one a machine, everything of it under these.

import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Families } from './addresses.ts'

/** The first one is the control plane's, too. */
export const NODES = ['node-a', 'node-b'] as const

/** Who gives pods their network: Kubernetes' own plugins, with routes that are made by hand, or a CNI of its own, which also enforces NetworkPolicies. */
export const NETWORKS = ['bridge', 'kube-router'] as const
export type Network = (typeof NETWORKS)[number]

/** What there is to choose of a cluster. */
export interface ClusterKind {
  /** Version of Kubernetes, vX.Y.Z. */
  readonly kubernetes: string
  readonly network: Network
  readonly families: Families
}

/** On a disk: containerd's overlay file systems cannot lie on another one. */
export const STATE_DIRECTORY = process.env['AMBIT_CLUSTER_DIR'] ?? '/var/lib/ambit-cluster'

/** Programs and images that took long to make outlive a cluster, and a clone. */
const CACHE_DIRECTORY = join(
  process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
  'ambit/cluster',
)
export const PROGRAMS_DIRECTORY = join(CACHE_DIRECTORY, 'programs')
/** Those of one version of Kubernetes, vX.Y.Z. */
export const kubernetesDirectory = (version: string): string =>
  join(CACHE_DIRECTORY, `kubernetes-${version}`)
export const SOURCES_DIRECTORY = join(CACHE_DIRECTORY, 'sources')
export const IMAGES_DIRECTORY = join(STATE_DIRECTORY, 'images')
export const PKI_DIRECTORY = join(STATE_DIRECTORY, 'pki')
/** Of its administrator, by an address of this machine's loopback. */
export const KUBECONFIG = join(STATE_DIRECTORY, 'kubeconfig')

/** Of the cluster that is up: a ClusterKind, as JSON. */
export const KIND_FILE = join(STATE_DIRECTORY, 'kind.json')

/** Where tests look for kube-apiserver and etcd. */
export const TOOLS_DIRECTORY = fileURLToPath(
  new URL('../../node_modules/.ambit-tools', import.meta.url),
)
export const ROOM = fileURLToPath(new URL('.', import.meta.url))

/** Of the cgroups of nodes. */
export const CGROUP_PREFIX = 'ambit-cluster-'

export const API_PORT = 6443
