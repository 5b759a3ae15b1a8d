// SPDX-License-Identifier: Apache-2.0
// What every waypoint is told, from the controller's own configuration: they are of one mesh. Pure.

import { dirname } from 'node:path'
import type { ControllerConfig } from '../config.ts'
import type { ProvisionSettings } from './pod-template.ts'

/** Of the controller's Service. */
const DISCOVERY_PORT = 15_012

export function provisionSettings(
  config: Pick<
    ControllerConfig,
    | 'waypointImage'
    | 'waypointCommand'
    | 'waypointUser'
    | 'waypointWorkloadApiSocket'
    | 'serviceName'
    | 'namespace'
    | 'trustDomain'
    | 'trustDomainAliases'
    | 'rootNamespace'
    | 'clusterId'
    | 'clusterDomain'
    | 'network'
  >,
): ProvisionSettings {
  const environment = {
    XDS_ADDRESS: `${config.serviceName}.${config.namespace}.svc:${DISCOVERY_PORT}`,
    TRUST_DOMAIN: config.trustDomain,
    TRUST_DOMAIN_ALIASES: config.trustDomainAliases.join(','),
    ROOT_NAMESPACE: config.rootNamespace,
    CLUSTER_ID: config.clusterId,
    CLUSTER_DOMAIN: config.clusterDomain,
    NETWORK: config.network,
    AMBIT_WORKLOAD_API_SOCKET: config.waypointWorkloadApiSocket ?? '',
  }
  const socket = config.waypointWorkloadApiSocket?.replace(/^unix:\/\//, '')
  return {
    ...(socket !== undefined && { workloadApiDirectory: dirname(socket) }),
    image: config.waypointImage,
    command: config.waypointCommand,
    user: config.waypointUser,
    environment: Object.fromEntries(
      Object.entries(environment).filter(([, value]) => value !== ''),
    ),
  }
}
