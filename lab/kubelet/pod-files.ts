// SPDX-License-Identifier: Apache-2.0
// The text of a pod's /etc/hosts and /etc/resolv.conf: pure.

import type { Pod } from '../../mesh/kube/resources.ts'
import type { ClusterAddresses } from './context.ts'

/** The cluster's name for itself in DNS. */
const CLUSTER_DOMAIN = 'cluster.local'

/** The pod's /etc/resolv.conf by its dnsPolicy and dnsConfig. */
export function resolvConf(
  pod: Pod,
  podIps: readonly string[],
  dns: Pick<ClusterAddresses, 'dnsIp4' | 'dnsIp6'>,
): string {
  const { dnsPolicy = 'ClusterFirst', dnsConfig } = pod.spec ?? {}
  const namespace = pod.metadata?.namespace ?? 'default'
  const usesCluster = dnsPolicy !== 'None'
  const hasIp4 = podIps.some((ip) => !ip.includes(':'))
  // One address: most resolvers ask the next server only after a time-out.
  const nameservers = [
    ...(usesCluster ? [hasIp4 ? dns.dnsIp4 : dns.dnsIp6] : []),
    ...(dnsConfig?.nameservers ?? []),
  ]
  const searches = [
    ...(usesCluster
      ? [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN]
      : []),
    ...(dnsConfig?.searches ?? []),
  ]
  const options = new Map<string, string | undefined>(usesCluster ? [['ndots', '5']] : [])
  for (const { name, value } of dnsConfig?.options ?? []) {
    if (name !== undefined) options.set(name, value)
  }
  const optionWords = [...options].map(([name, value]) =>
    value === undefined ? name : `${name}:${value}`,
  )
  return [
    ...(searches.length === 0 ? [] : [`search ${searches.join(' ')}`]),
    ...nameservers.map((server) => `nameserver ${server}`),
    ...(optionWords.length === 0 ? [] : [`options ${optionWords.join(' ')}`]),
  ].join('\n')
}

/** The pod's /etc/hosts: itself, its loopback, and its hostAliases. */
export function hostsFile(pod: Pod, podIps: readonly string[], hostname: string): string {
  const { subdomain } = pod.spec ?? {}
  const namespace = pod.metadata?.namespace ?? 'default'
  const fullName =
    subdomain === undefined ? '' : `${hostname}.${subdomain}.${namespace}.svc.${CLUSTER_DOMAIN}\t`
  return [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    ...podIps.map((ip) => `${ip}\t${fullName}${hostname}`),
    ...(pod.spec?.hostAliases ?? []).map(
      (alias) => `${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`,
    ),
  ].join('\n')
}
