// SPDX-License-Identifier: Apache-2.0
// The agent's configuration: flags, each with an environment variable, each checked before anything starts.

import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type Command, InvalidArgumentError } from 'commander'
import type { HostPort } from '../mesh/model/host-port.ts'
import {
  choice,
  flagCommand,
  type FlagTable,
  KUBE_FLAGS,
  logFormat,
  logLevel,
  MESH_FLAGS,
  onOff,
  optionalText,
  parsed,
  text,
  unixSocket,
  wholeNumber,
  words,
} from '../mesh/program/flags.ts'
import { OTLP_FLAGS } from '../mesh/program/otlp-flags.ts'
import { PROXY_FLAGS, PROXY_PORT_FLAGS } from '../mesh/program/proxy-flags.ts'
import { type AccessConfig, accessFlags } from '../mesh/program/access-flags.ts'
import { parseLabelSelector } from '../mesh/kube/index.ts'
import { readConnectionFilter } from '../mesh/telemetry/access-spec.ts'
import type { LogFormat, LogLevel } from '../mesh/telemetry/log.ts'
import type { OtlpConfig } from '../mesh/telemetry/otlp/target.ts'
import type { MissingPolicies } from './proxy/decision/policy-judge.ts'
import type { SameNode } from './proxy/worker/worker-protocol.ts'

export interface AgentConfig extends OtlpConfig, AccessConfig {
  readonly nodeName: string
  readonly podName: string
  readonly podNamespace: string
  readonly nodeAddress: string
  readonly kubeconfig?: string
  readonly context?: string
  /** Undefined: found among the mounts. */
  readonly cgroup?: string
  /** Empty: found by the kubelet's process. */
  readonly kubeletCgroups: readonly string[]
  readonly bpffs: string
  readonly bpfObject: string
  readonly cniBinDir?: string
  readonly cniConfDir?: string
  readonly cniBinary: string
  readonly cniSocket: string
  /** Undefined: beside the configuration that the plugin is chained into. */
  readonly cniMembers?: string
  readonly podLogs: string
  /** As it is written; empty: every namespace. */
  readonly namespaceSelector: string
  readonly stateDir: string
  readonly procRoot: string
  readonly xdsAddress: string
  readonly caAddress: string
  /** Where SPIRE's agent gives the identities of pods; undefined: the CA signs them. */
  readonly spireAdminSocket?: string
  readonly caRootFile: string
  readonly tokenFile: string
  readonly trustDomain: string
  /** Other names of the trust domain, whose identities are taken for those of the same account in it. */
  readonly trustDomainAliases: readonly string[]
  /** Lists of revoked certificates. */
  readonly crlFiles: readonly string[]
  readonly clusterId: string
  readonly clusterDomain: string
  readonly network: string
  readonly certificateTtlSeconds: number
  readonly workers: number
  readonly sameNode: SameNode
  readonly sameNodeSecurityLabel: string
  readonly missingPolicies: MissingPolicies
  readonly rootNamespace: string
  readonly maxConnectionsPerPod: number
  readonly adminAddress: HostPort
  readonly metricsAddress: HostPort
  readonly readinessAddress: HostPort
  readonly drainDeadlineMs: number
  readonly failOpen: boolean
  readonly unpinOnExit: boolean
  readonly logLevel: LogLevel
  readonly logFormat: LogFormat
}

/** At some 30 KB each this is half a gigabyte: a pod that leaks connections must not take the node's agent with it. */
const DEFAULT_MAX_CONNECTIONS = 16_384

/** What ztunnel does without a CPU limit, but for small machines, where a second worker only takes turns. */
export function defaultWorkers(cores: number): number {
  return cores <= 2 ? 1 : Math.max(2, Math.ceil(cores / 4))
}

/** As the flags give it: the CA may be left out. */
type AgentFlags = Omit<AgentConfig, 'caAddress'> & { readonly caAddress?: string }

const flags: FlagTable<AgentFlags> = {
  nodeName: text('--node-name <name>', 'this node', { env: 'NODE_NAME' }),
  podName: text('--pod-name <name>', 'this pod', {
    env: 'POD_NAME',
    fallback: `local-${process.pid}`,
  }),
  podNamespace: text('--pod-namespace <name>', 'its namespace', {
    env: 'POD_NAMESPACE',
    fallback: 'ambit-system',
  }),
  nodeAddress: text('--node-address <ip>', "this node's address", {
    env: 'HOST_IP',
    fallback: '127.0.0.1',
  }),
  ...KUBE_FLAGS,
  cgroup: optionalText(
    '--cgroup <dir>',
    'cgroup v2 to attach at; the outermost one that is mounted here if left out',
    { env: 'AMBIT_CGROUP' },
  ),
  kubeletCgroups: words(
    '--kubelet-cgroup <dir...>',
    "cgroups whose connections are probes (may be given more than once); that of the kubelet's process if left out",
    { env: 'AMBIT_KUBELET_CGROUP', fallback: [] },
  ),
  bpffs: text('--bpffs <dir>', 'directory on a BPF file system; made where it is missing', {
    env: 'AMBIT_BPFFS',
    fallback: '/sys/fs/bpf/ambit',
  }),
  bpfObject: text('--bpf-object <file>', 'compiled programs', {
    env: 'AMBIT_BPF_OBJECT',
    fallback: besideUs('bpf/build/capture.bpf.o'),
  }),
  cniBinDir: optionalText('--cni-bin-dir <dir>', 'where to install the plugin', {
    env: 'AMBIT_CNI_BIN_DIR',
  }),
  cniConfDir: optionalText('--cni-conf-dir <dir>', 'where to chain the plugin', {
    env: 'AMBIT_CNI_CONF_DIR',
  }),
  cniBinary: text('--cni-binary <file>', 'the built plugin', {
    env: 'AMBIT_CNI_BINARY',
    fallback: besideUs('native/build/ambit-cni'),
  }),
  cniSocket: text('--cni-socket <path>', 'socket of the plugin', {
    env: 'AMBIT_CNI_SOCKET',
    fallback: '/run/ambit/cni.sock',
  }),
  cniMembers: optionalText(
    '--cni-members <file>',
    'what the plugin goes by while no agent answers; ambit-members in --cni-conf-dir if left out',
    { env: 'AMBIT_CNI_MEMBERS' },
  ),
  podLogs: text(
    '--pod-logs <dir>',
    "the kubelet's directory of pods' logs on the host, where the plugin sees whether an agent is left",
    { env: 'AMBIT_POD_LOGS', fallback: '/var/log/pods' },
  ),
  namespaceSelector: parsed(
    '--namespace-selector <labels>',
    "labels of the namespaces that are this mesh's to take pods of, where another one has a part of the cluster; all if left out",
    parseSelector,
    { env: 'AMBIT_NAMESPACE_SELECTOR', fallback: '' },
  ),
  stateDir: text('--state-dir <dir>', 'what to remember of pods', {
    env: 'AMBIT_STATE_DIR',
    fallback: '/run/ambit/state',
  }),
  procRoot: text('--proc-root <dir>', "the host's /proc", {
    env: 'AMBIT_PROC_ROOT',
    fallback: '/proc',
  }),
  ...MESH_FLAGS,
  ...PROXY_FLAGS,
  spireAdminSocket: unixSocket(
    '--spire-admin-socket',
    "admin API of SPIRE's agent, which gives the certificates of pods in the place of the CA",
    { env: 'AMBIT_SPIRE_ADMIN_SOCKET' },
  ),
  workers: parsed('--workers <n>', 'data-plane threads', wholeNumber(1, 256), {
    env: 'AMBIT_WORKERS',
    fallback: defaultWorkers(availableParallelism()),
  }),
  sameNode: choice(
    '--same-node <way>',
    "between pods of this node: direct relays without TLS and past the CNI's NetworkPolicy, encrypt uses HBONE",
    ['direct', 'encrypt'],
    { env: 'AMBIT_SAME_NODE', fallback: 'direct' },
  ),
  sameNodeSecurityLabel: parsed(
    '--same-node-security-label <word>',
    'what metrics call the security of direct calls between pods of this node: identities by the kernel, no TLS',
    parseLabelWord,
    { env: 'AMBIT_SAME_NODE_SECURITY_LABEL', fallback: 'node_local' },
  ),
  missingPolicies: choice(
    '--missing-policies <what>',
    'calls into pods of whose authorization policies one has not arrived or cannot be read: refuse, or serve as the others say',
    ['refuse', 'serve'],
    { env: 'AMBIT_MISSING_POLICIES', fallback: 'refuse' },
  ),
  maxConnectionsPerPod: parsed(
    '--max-connections-per-pod <n>',
    'open connections of one pod, both directions together; more are reset',
    wholeNumber(1),
    { env: 'AMBIT_MAX_CONNECTIONS_PER_POD', fallback: DEFAULT_MAX_CONNECTIONS },
  ),
  ...PROXY_PORT_FLAGS,
  failOpen: onOff('--fail-open', 'let pods out in plaintext while no agent runs', {
    env: 'AMBIT_FAIL_OPEN',
  }),
  unpinOnExit: onOff('--unpin-on-exit', 'take all pods out of the mesh on exit', {
    env: 'AMBIT_UNPIN_ON_EXIT',
  }),
  logLevel: logLevel(),
  logFormat: logFormat(),
  ...accessFlags('connections', 'has(error) || dst.namespace == "shop"', readConnectionFilter),
  ...OTLP_FLAGS,
}

/** Builds the command; `run` gets the checked configuration. */
export function agentCommand(run: (config: AgentConfig) => Promise<void>): Command {
  return flagCommand<AgentFlags>(
    'ambit agent',
    "Enrol this node's pods in the mesh and carry their connections.",
    flags,
    (given) => run({ ...given, caAddress: given.caAddress ?? given.xdsAddress }),
  )
}

/** A value of connection_security_policy that stands beside Istio's in dashboards and queries without quoting. */
function parseLabelWord(text: string): string {
  if (!/^[A-Za-z0-9_-]{1,63}$/.test(text))
    throw new InvalidArgumentError('It must be a word of letters, digits, _ and -, at most 63.')
  return text
}

/** A label selector as kubectl takes it, kept as it is written. */
function parseSelector(text: string): string {
  const selector = parseLabelSelector(text)
  if (!selector.ok)
    throw new InvalidArgumentError(
      `It must be a label selector, as "mesh=ambit" or "mesh in (a,b),!legacy": ${selector.error}.`,
    )
  return text
}

/** A file of this installation, by its path from the repository's root. */
function besideUs(path: string): string {
  return fileURLToPath(new URL(`../${path}`, import.meta.url))
}
