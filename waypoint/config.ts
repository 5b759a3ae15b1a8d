// SPDX-License-Identifier: Apache-2.0
// The waypoint's configuration: flags, each with an environment variable, each checked before anything starts.

import type { Command } from 'commander'
import type { HostPort } from '../mesh/model/host-port.ts'
import { type AccessConfig, accessFlags, parseShare } from '../mesh/program/access-flags.ts'
import {
  ANY_HOST,
  flagCommand,
  type FlagTable,
  hostPort,
  logFormat,
  logLevel,
  MESH_FLAGS,
  optionalText,
  parsed,
  text,
  unixSocket,
  wholeNumber,
} from '../mesh/program/flags.ts'
import { OTLP_FLAGS } from '../mesh/program/otlp-flags.ts'
import { PROXY_FLAGS, PROXY_PORT_FLAGS } from '../mesh/program/proxy-flags.ts'
import type { LogFormat, LogLevel } from '../mesh/telemetry/log.ts'
import type { OtlpConfig } from '../mesh/telemetry/otlp/target.ts'
import { readRequestFilter } from './access-log.ts'

export interface WaypointConfig extends OtlpConfig, AccessConfig {
  /** The Gateway that this is a pod of; the Service in front of its pods has its name. */
  readonly gatewayName: string
  readonly namespace: string
  readonly serviceAccount: string
  readonly podName: string
  readonly podAddress: string
  readonly nodeName: string
  readonly xdsAddress: string
  readonly caAddress: string
  /** Where SPIRE, or whoever speaks its API, gives the certificate; undefined: the CA signs it. */
  readonly workloadApiSocket?: string
  readonly caRootFile: string
  readonly tokenFile: string
  readonly crlFiles: readonly string[]
  readonly trustDomain: string
  readonly trustDomainAliases: readonly string[]
  readonly clusterId: string
  readonly clusterDomain: string
  readonly network: string
  readonly rootNamespace: string
  readonly certificateTtlSeconds: number
  readonly maxTunnels: number
  readonly hboneAddress: HostPort
  readonly adminAddress: HostPort
  readonly metricsAddress: HostPort
  readonly readinessAddress: HostPort
  readonly drainDeadlineMs: number
  readonly logLevel: LogLevel
  readonly logFormat: LogFormat
  /** Of the requests about which no caller has decided, the share that is traced; it takes an endpoint for OTLP. */
  readonly traceSample: number
}

/** At some 10 KB each, idle, this is half a gigabyte. */
const DEFAULT_MAX_TUNNELS = 50_000

/** Istio's, where no Telemetry resource says otherwise. */
const DEFAULT_TRACE_SAMPLE = 0.01

/** As the flags give it: what follows from others may be left out. */
type WaypointFlags = Omit<WaypointConfig, 'caAddress' | 'serviceAccount'> & {
  readonly caAddress?: string
  readonly serviceAccount?: string
}

const flags: FlagTable<WaypointFlags> = {
  gatewayName: text('--gateway-name <name>', 'the Gateway that this is a pod of', {
    env: 'AMBIT_GATEWAY_NAME',
  }),
  namespace: text('--namespace <name>', 'its namespace', { env: 'POD_NAMESPACE' }),
  serviceAccount: optionalText(
    '--service-account <name>',
    "the pod's service account; named as the Gateway if left out",
    { env: 'SERVICE_ACCOUNT' },
  ),
  podName: text('--pod-name <name>', 'this pod', {
    env: 'POD_NAME',
    fallback: `local-${process.pid}`,
  }),
  podAddress: text('--pod-address <ip>', "this pod's address", {
    env: 'POD_IP',
    fallback: '127.0.0.1',
  }),
  nodeName: text('--node-name <name>', 'its node', { env: 'NODE_NAME', fallback: '' }),
  ...MESH_FLAGS,
  ...PROXY_FLAGS,
  workloadApiSocket: unixSocket(
    '--workload-api-socket',
    'SPIFFE Workload API, which gives the certificate in the place of the CA',
    { env: 'AMBIT_WORKLOAD_API_SOCKET' },
  ),
  maxTunnels: parsed(
    '--max-tunnels <n>',
    'open tunnels of all clients together, of which one client may have a quarter; more are refused',
    wholeNumber(4),
    { env: 'AMBIT_MAX_TUNNELS', fallback: DEFAULT_MAX_TUNNELS },
  ),
  hboneAddress: hostPort('--hbone-address', 'HBONE', {
    env: 'AMBIT_HBONE_ADDRESS',
    fallback: `${ANY_HOST}:15008`,
  }),
  ...PROXY_PORT_FLAGS,
  logLevel: logLevel(),
  logFormat: logFormat(),
  ...accessFlags('requests', 'response_code >= 500 || duration > 500', readRequestFilter),
  traceSample: parsed(
    '--trace-sample <share>',
    'how much is traced, with --otlp-endpoint, of the requests about which no caller has decided; 0 is none of them',
    parseShare,
    { env: 'AMBIT_TRACE_SAMPLE', fallback: DEFAULT_TRACE_SAMPLE },
  ),
  ...OTLP_FLAGS,
}

/** Builds the command; `run` gets the checked configuration. */
export function waypointCommand(run: (config: WaypointConfig) => Promise<void>): Command {
  return flagCommand<WaypointFlags>(
    'ambit waypoint-proxy',
    'Route and carry the calls to what is bound to a Gateway of class ambit-waypoint.',
    flags,
    (given) =>
      run({
        ...given,
        caAddress: given.caAddress ?? given.xdsAddress,
        serviceAccount: given.serviceAccount ?? given.gatewayName,
      }),
  )
}
