// SPDX-License-Identifier: Apache-2.0
// The agent's configuration: flags, each with an environment variable, each checked before anything starts.

import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { SameNode } from './proxy/worker/worker-protocol.ts'

export interface AgentConfig {
  readonly nodeName: string
  readonly podName: string
  readonly podNamespace: string
  readonly nodeAddress: string
  readonly kubeconfig?: string
  readonly context?: string
  readonly cgroup: string
  readonly kubeletCgroups: readonly string[]
  readonly bpffs: string
  readonly bpfObject: string
  readonly cniBinDir?: string
  readonly cniConfDir?: string
  readonly cniBinary: string
  readonly cniSocket: string
  readonly stateDir: string
  readonly procRoot: string
  readonly xdsAddress: string
  readonly caAddress: string
  readonly caRootFile: string
  readonly tokenFile: string
  readonly trustDomain: string
  readonly clusterId: string
  readonly clusterDomain: string
  readonly network: string
  readonly certificateTtlSeconds: number
  readonly workers: number
  readonly sameNode: SameNode
  readonly maxConnectionsPerPod: number
  readonly adminAddress: HostPort
  readonly metricsAddress: HostPort
  readonly readinessAddress: HostPort
  readonly drainDeadlineMs: number
  readonly failOpen: boolean
  readonly unpinOnExit: boolean
  readonly logLevel: string
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** Kubernetes kills 30 s after SIGTERM by default; ten of them are left for everything else. */
const DEFAULT_DRAIN_SECONDS = 20

/** Istio's: renewed at half of it, a CA that is down for ten hours is not noticed. */
const DEFAULT_CERTIFICATE_TTL_SECONDS = 86_400

/** At some 30 KB each this is half a gigabyte: a pod that leaks connections must not take the node's agent with it. */
const DEFAULT_MAX_CONNECTIONS = 16_384

/** What ztunnel does without a CPU limit, but for small machines, where a second worker only takes turns. */
export function defaultWorkers(cores: number): number {
  return cores <= 2 ? 1 : Math.max(2, Math.ceil(cores / 4))
}

/** Builds the command; `run` gets the checked configuration. */
export function agentCommand(run: (config: AgentConfig) => Promise<void>): Command {
  return new Command('ambit agent')
    .description("Enrol this node's pods in the mesh and carry their connections.")
    .addOption(flag('--node-name <name>', 'this node', 'NODE_NAME').makeOptionMandatory())
    .addOption(flag('--pod-name <name>', 'this pod', 'POD_NAME', `local-${process.pid}`))
    .addOption(flag('--pod-namespace <name>', 'its namespace', 'POD_NAMESPACE', 'ambit-system'))
    .addOption(flag('--node-address <ip>', "this node's address", 'HOST_IP', '127.0.0.1'))
    .addOption(flag('--kubeconfig <file>', 'kubeconfig; in-cluster when left out', 'KUBECONFIG'))
    .addOption(flag('--context <name>', "another context than the kubeconfig's current one"))
    .addOption(flag('--cgroup <dir>', 'cgroup v2 to attach at', 'AMBIT_CGROUP', '/sys/fs/cgroup'))
    .addOption(
      flag(
        '--kubelet-cgroup <dir...>',
        'cgroups whose connections are probes (may be given more than once)',
        'AMBIT_KUBELET_CGROUP',
      ).default(['/sys/fs/cgroup/system.slice/kubelet.service']),
    )
    .addOption(
      flag('--bpffs <dir>', 'directory on a BPF file system', 'AMBIT_BPFFS', '/sys/fs/bpf/ambit'),
    )
    .addOption(
      flag(
        '--bpf-object <file>',
        'compiled programs',
        'AMBIT_BPF_OBJECT',
        besideUs('bpf/build/capture.bpf.o'),
      ),
    )
    .addOption(flag('--cni-bin-dir <dir>', 'where to install the plugin', 'AMBIT_CNI_BIN_DIR'))
    .addOption(flag('--cni-conf-dir <dir>', 'where to chain the plugin', 'AMBIT_CNI_CONF_DIR'))
    .addOption(
      flag(
        '--cni-binary <file>',
        'the built plugin',
        'AMBIT_CNI_BINARY',
        besideUs('native/build/ambit-cni'),
      ),
    )
    .addOption(
      flag(
        '--cni-socket <path>',
        'socket of the plugin',
        'AMBIT_CNI_SOCKET',
        '/run/ambit/cni.sock',
      ),
    )
    .addOption(
      flag('--state-dir <dir>', 'what to remember of pods', 'AMBIT_STATE_DIR', '/run/ambit/state'),
    )
    .addOption(flag('--proc-root <dir>', "the host's /proc", 'AMBIT_PROC_ROOT', '/proc'))
    .addOption(
      flag(
        '--xds-address <host:port>',
        'discovery server',
        'XDS_ADDRESS',
        'ambit-controller.ambit-system.svc:15012',
      ),
    )
    .addOption(
      flag('--ca-address <host:port>', 'CA; the discovery server if left out', 'CA_ADDRESS'),
    )
    .addOption(
      flag(
        '--ca-root-file <file>',
        'roots of the control plane',
        'XDS_ROOT_CA',
        '/var/run/secrets/istio/root-cert.pem',
      ),
    )
    .addOption(
      flag(
        '--token-file <file>',
        'service account token, audience istio-ca',
        'AUTH_TOKEN',
        '/var/run/secrets/tokens/istio-token',
      ),
    )
    .addOption(flag('--trust-domain <name>', 'of all identities', 'TRUST_DOMAIN', 'cluster.local'))
    .addOption(flag('--cluster-id <name>', 'this cluster', 'CLUSTER_ID', 'Kubernetes'))
    .addOption(flag('--cluster-domain <name>', 'DNS domain', 'CLUSTER_DOMAIN', 'cluster.local'))
    .addOption(flag('--network <name>', 'network of the pods', 'NETWORK', ''))
    .addOption(
      flag(
        '--certificate-ttl <duration>',
        "lifetime to ask for the pods' certificates, such as 90s, 30m or 24h",
        'SECRET_TTL',
      )
        .default(DEFAULT_CERTIFICATE_TTL_SECONDS, '24h')
        .argParser(parseDuration),
    )
    .addOption(
      flag('--workers <n>', 'data-plane threads', 'AMBIT_WORKERS')
        .default(defaultWorkers(availableParallelism()))
        .argParser(parseCount),
    )
    .addOption(
      flag(
        '--same-node <way>',
        "between pods of this node: direct relays without TLS and past the CNI's NetworkPolicy, encrypt uses HBONE",
        'AMBIT_SAME_NODE',
        'direct',
      ).choices(['direct', 'encrypt']),
    )
    .addOption(
      flag(
        '--max-connections-per-pod <n>',
        'open connections of one pod, both directions together; more are reset',
        'AMBIT_MAX_CONNECTIONS_PER_POD',
      )
        .default(DEFAULT_MAX_CONNECTIONS)
        .argParser(parseConnections),
    )
    .addOption(
      address('--admin-address', 'config dump, log level', 'ADMIN_ADDR', '127.0.0.1:15000'),
    )
    .addOption(address('--metrics-address', 'Prometheus', 'STATS_ADDR', '0.0.0.0:15020'))
    .addOption(address('--readiness-address', '/healthz/ready', 'READINESS_ADDR', '0.0.0.0:15021'))
    .addOption(
      flag(
        '--drain-deadline <seconds>',
        'how long connections may take to end when the agent stops or a pod leaves',
        'AMBIT_DRAIN_DEADLINE',
      )
        .default(DEFAULT_DRAIN_SECONDS)
        .argParser(parseSeconds),
    )
    .addOption(
      flag(
        '--fail-open',
        'let pods out in plaintext while no agent runs',
        'AMBIT_FAIL_OPEN',
      ).default(false),
    )
    .addOption(
      flag(
        '--unpin-on-exit',
        'take all pods out of the mesh on exit',
        'AMBIT_UNPIN_ON_EXIT',
      ).default(false),
    )
    .addOption(flag('--log-level <level>', 'verbosity', 'LOG_LEVEL', 'info').choices(LOG_LEVELS))
    .action(async (options: Flags) => run(toConfig(options)))
}

/** What commander gives: the flags by their camel-case names. */
type Flags = Omit<
  AgentConfig,
  'kubeletCgroups' | 'caAddress' | 'drainDeadlineMs' | 'certificateTtlSeconds'
> & {
  readonly kubeletCgroup: readonly string[] | string
  readonly caAddress?: string
  readonly drainDeadline: number
  readonly certificateTtl: number
}

function toConfig(flags: Flags): AgentConfig {
  const { kubeletCgroup, caAddress, drainDeadline, certificateTtl, ...rest } = flags
  return {
    ...rest,
    // From the environment it comes as one string.
    kubeletCgroups: typeof kubeletCgroup === 'string' ? kubeletCgroup.split(',') : kubeletCgroup,
    caAddress: caAddress ?? rest.xdsAddress,
    drainDeadlineMs: drainDeadline * 1_000,
    certificateTtlSeconds: certificateTtl,
  }
}

function flag(flags: string, description: string, env?: string, fallback?: string): Option {
  const option = new Option(flags, description)
  if (env !== undefined) option.env(env)
  if (fallback !== undefined) option.default(fallback)
  return option
}

function address(name: string, description: string, env: string, fallback: string): Option {
  return flag(`${name} <host:port>`, description, env)
    .default(parseHostPort(fallback), fallback)
    .argParser(parseHostPort)
}

function parseHostPort(text: string): HostPort {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  const port = Number(text.slice(colon + 1))
  if (colon < 1 || !Number.isInteger(port) || port < 0 || port > 65_535)
    throw new InvalidArgumentError('It must be host:port.')
  return { host, port }
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > 256)
    throw new InvalidArgumentError('It must be a whole number from 1 to 256.')
  return count
}

function parseConnections(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError('It must be a whole number, 1 or more.')
  return count
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!Number.isFinite(seconds) || seconds < 0 || text.trim() === '')
    throw new InvalidArgumentError('It must be a number of seconds, 0 or more.')
  return seconds
}

/** Seconds of a duration as Go writes it, in one unit. */
function parseDuration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,6})(s|m|h)$/.exec(text) ?? []
  if (count === undefined)
    throw new InvalidArgumentError('It must be a duration such as 90s, 30m or 24h.')
  return Number(count) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : 1)
}

/** A file of this installation, by its path from the repository's root. */
function besideUs(path: string): string {
  return fileURLToPath(new URL(`../${path}`, import.meta.url))
}
