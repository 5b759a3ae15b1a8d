// SPDX-License-Identifier: Apache-2.0
// The controller's configuration: flags, each with an environment variable, each checked before anything starts.

import { existsSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'

export interface ControllerConfig {
  readonly kubeconfig?: string
  readonly context?: string
  /** The namespace the controller and its objects live in. */
  readonly namespace: string
  /** The name of the Service in front of the controller; first of its certificate's names. */
  readonly serviceName: string
  /** Unique to this replica: the holder of the leader lease. */
  readonly podName: string
  readonly listen: HostPort
  readonly healthAddress: HostPort
  readonly trustDomain: string
  readonly clusterId: string
  readonly clusterDomain: string
  /** The network of the cluster's pods; empty unless the mesh spans several. */
  readonly network: string
  readonly caSecret: string
  readonly tokenAudience: string
  /** `namespace/service-account` of the agents. */
  readonly trustedNodeAccounts: readonly string[]
  /** Further names or addresses for the serving certificate. */
  readonly servingNames: readonly string[]
  readonly logLevel: string
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

const DEFAULT_NAMESPACE = 'ambit-system'
/** All addresses of both families, or of IPv4 where the kernel has no IPv6. */
const ANY_HOST = existsSync('/proc/net/if_inet6') ? '[::]' : '0.0.0.0'
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** Builds the command; `run` gets the checked configuration. */
export function controllerCommand(run: (config: ControllerConfig) => Promise<void>): Command {
  return new Command('ambit controller')
    .description('Watch Kubernetes, serve the mesh to agents over xDS, and sign certificates.')
    .addOption(flag('--kubeconfig <file>', 'kubeconfig; in-cluster when left out', 'KUBECONFIG'))
    .addOption(flag('--context <name>', "another context than the kubeconfig's current one"))
    .addOption(
      flag('--namespace <name>', 'namespace of the controller', 'POD_NAMESPACE', DEFAULT_NAMESPACE),
    )
    .addOption(
      flag('--service-name <name>', 'its Service', 'AMBIT_SERVICE_NAME', 'ambit-controller'),
    )
    .addOption(
      flag('--pod-name <name>', 'unique name of this replica', 'POD_NAME', `local-${process.pid}`),
    )
    .addOption(
      flag(
        '--listen <host:port>',
        'gRPC: xDS and CA',
        'AMBIT_LISTEN',
        `${ANY_HOST}:15012`,
      ).argParser(parseHostPort),
    )
    .addOption(
      flag(
        '--health-address <host:port>',
        'HTTP: /healthz, /readyz, /metrics',
        'AMBIT_HEALTH_ADDRESS',
        `${ANY_HOST}:8080`,
      ).argParser(parseHostPort),
    )
    .addOption(
      flag(
        '--trust-domain <name>',
        'SPIFFE trust domain',
        'TRUST_DOMAIN',
        'cluster.local',
      ).argParser(parseTrustDomain),
    )
    .addOption(flag('--cluster-id <id>', 'id of this cluster', 'CLUSTER_ID', 'Kubernetes'))
    .addOption(flag('--cluster-domain <name>', 'DNS domain', 'CLUSTER_DOMAIN', 'cluster.local'))
    .addOption(flag('--network <name>', 'network of the pods, in a mesh of several', 'NETWORK', ''))
    .addOption(
      flag('--ca-secret <name>', 'Secret with the root', 'AMBIT_CA_SECRET', 'ambit-ca-secret'),
    )
    .addOption(
      flag('--token-audience <name>', "audience of callers' tokens", 'TOKEN_AUDIENCE', 'istio-ca'),
    )
    .addOption(
      flag(
        '--trusted-node-accounts <list>',
        'namespace/service-account of the agents, comma-separated',
        'CA_TRUSTED_NODE_ACCOUNTS',
        `${DEFAULT_NAMESPACE}/ambit-agent`,
      ).argParser(parseAccounts),
    )
    .addOption(
      flag(
        '--serving-names <list>',
        'more DNS names or IP addresses for the serving certificate, comma-separated',
        'AMBIT_SERVING_NAMES',
        '',
      ).argParser(parseList),
    )
    .addOption(flag('--log-level <level>', 'log level', 'LOG_LEVEL', 'info').choices(LOG_LEVELS))
    .allowExcessArguments(false)
    .action((options: RawOptions) => run(withParsedDefaults(options)))
}

type ListOption = string | readonly string[]
interface RawOptions
  extends Omit<
    ControllerConfig,
    'listen' | 'healthAddress' | 'trustedNodeAccounts' | 'servingNames'
  > {
  readonly listen: string | HostPort
  readonly healthAddress: string | HostPort
  readonly trustedNodeAccounts: ListOption
  readonly servingNames: ListOption
}

/** commander hands defaults over as they are written; only given values went through the parsers. */
function withParsedDefaults(options: RawOptions): ControllerConfig {
  const { listen, healthAddress, trustedNodeAccounts, servingNames } = options
  return {
    ...options,
    listen: typeof listen === 'string' ? parseHostPort(listen) : listen,
    healthAddress: typeof healthAddress === 'string' ? parseHostPort(healthAddress) : healthAddress,
    trustedNodeAccounts:
      typeof trustedNodeAccounts === 'string'
        ? parseAccounts(trustedNodeAccounts)
        : trustedNodeAccounts,
    servingNames: typeof servingNames === 'string' ? parseList(servingNames) : servingNames,
  }
}

function flag(flags: string, description: string, env?: string, value?: string): Option {
  const option = new Option(flags, description)
  if (env !== undefined) option.env(env)
  if (value !== undefined) option.default(value)
  return option
}

/** Reads host:port, with IPv6 addresses in brackets. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65_535)
    throw new InvalidArgumentError('It must be host:port, e.g. 0.0.0.0:15012 or [::]:15012.')
  return { host, port }
}

function parseTrustDomain(text: string): string {
  // SPIFFE ID 2.1: lower case letters, digits, dots, dashes, underscores; at most 255.
  if (!/^[a-z0-9._-]{1,255}$/.test(text))
    throw new InvalidArgumentError('It must be a SPIFFE trust domain, e.g. cluster.local.')
  return text
}

function parseList(text: string): readonly string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function parseAccounts(text: string): readonly string[] {
  const accounts = parseList(text)
  for (const account of accounts)
    if (!/^[a-z0-9.-]+\/[a-z0-9.-]+$/.test(account))
      throw new InvalidArgumentError(`"${account}" is not of the form namespace/service-account.`)
  return accounts
}
