// SPDX-License-Identifier: Apache-2.0
// The controller's configuration: flags, each with an environment variable, each checked before anything starts.

import { type Command, InvalidArgumentError } from 'commander'
import type { HostPort } from '../mesh/model/host-port.ts'
import { DEFAULT_ROOT_NAMESPACE } from '../mesh/model/policy-index.ts'
import {
  ANY_HOST,
  choice,
  flagCommand,
  type FlagTable,
  hostPort,
  KUBE_FLAGS,
  logFormat,
  logLevel,
  loopbackPort,
  MESH_FLAGS,
  parseList,
  parseTrustDomains,
  parsed,
  text,
  unixSocket,
  wholeNumber,
} from '../mesh/program/flags.ts'
import { VERSION } from '../mesh/program/version.ts'
import { OTLP_FLAGS } from '../mesh/program/otlp-flags.ts'
import type { LogFormat, LogLevel } from '../mesh/telemetry/log.ts'
import type { OtlpConfig } from '../mesh/telemetry/otlp/target.ts'

export interface ControllerConfig extends OtlpConfig {
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
  /** Loopback: whoever reaches it reads the audit. */
  readonly adminAddress: HostPort
  readonly trustDomain: string
  /** Other names of the same domain, which policies mean, too. */
  readonly trustDomainAliases: readonly string[]
  /** The namespace whose policies are those of the whole mesh. */
  readonly rootNamespace: string
  /** Whether agents hold pods to the NetworkPolicies that select them. */
  readonly networkPolicies: 'enforce' | 'ignore'
  readonly clusterId: string
  readonly clusterDomain: string
  /** The network of the cluster's pods; empty unless the mesh spans several. */
  readonly network: string
  /** The Secret with the root that the mesh makes for itself. */
  readonly caSecret: string
  /** The Secret with an authority of the operator's, which comes before that root. */
  readonly plugInCaSecret: string
  /** The signer of workloads' certificates, of the Kubernetes API; empty: the mesh's own authority. */
  readonly certificateSigner: string
  readonly tokenAudience: string
  /** What waypoints run: an image, and its command if it is not the image's own. */
  readonly waypointImage: string
  readonly waypointCommand: readonly string[]
  readonly waypointUser: number
  /** Undefined: the authority of the mesh signs their certificates. */
  readonly waypointWorkloadApiSocket?: string
  /** `namespace/service-account` of the agents. */
  readonly trustedNodeAccounts: readonly string[]
  /** The key of a taint that is taken off nodes whose agent is ready; empty: none is. */
  readonly agentTaint: string
  /** Further names or addresses for the serving certificate. */
  readonly servingNames: readonly string[]
  readonly logLevel: LogLevel
  readonly logFormat: LogFormat
}

const DEFAULT_NAMESPACE = 'ambit-system'
/** The user of Istio's proxies, so that policies on pods that let those in let ours in, too. */
const PROXY_USER = 1_337

const flags: FlagTable<ControllerConfig> = {
  ...KUBE_FLAGS,
  ...MESH_FLAGS,
  namespace: text('--namespace <name>', 'namespace of the controller', {
    env: 'POD_NAMESPACE',
    fallback: DEFAULT_NAMESPACE,
  }),
  serviceName: text('--service-name <name>', 'its Service', {
    env: 'AMBIT_SERVICE_NAME',
    fallback: 'ambit-controller',
  }),
  podName: text('--pod-name <name>', 'unique name of this replica', {
    env: 'POD_NAME',
    fallback: `local-${process.pid}`,
  }),
  listen: hostPort('--listen', 'gRPC: xDS and CA', {
    env: 'AMBIT_LISTEN',
    fallback: `${ANY_HOST}:15012`,
  }),
  healthAddress: hostPort('--health-address', 'HTTP: /healthz, /readyz, /metrics', {
    env: 'AMBIT_HEALTH_ADDRESS',
    fallback: `${ANY_HOST}:8080`,
  }),
  adminAddress: loopbackPort('--admin-address', 'the admin API, on loopback', {
    env: 'AMBIT_ADMIN_ADDRESS',
    fallback: '127.0.0.1:15000',
  }),
  trustDomainAliases: parsed(
    '--trust-domain-aliases <list>',
    'other names of the trust domain, which principals of policies mean, too, comma-separated',
    parseTrustDomains,
    { env: 'TRUST_DOMAIN_ALIASES', fallback: [] },
  ),
  rootNamespace: text('--root-namespace <name>', 'namespace whose policies are those of the mesh', {
    env: 'AMBIT_ROOT_NAMESPACE',
    fallback: DEFAULT_ROOT_NAMESPACE,
  }),
  networkPolicies: choice(
    '--network-policies <what>',
    'NetworkPolicies that select pods of the mesh: enforce them on the true port and peer, or ignore them',
    ['enforce', 'ignore'],
    { env: 'AMBIT_NETWORK_POLICIES', fallback: 'enforce' },
  ),
  caSecret: text('--ca-secret <name>', 'Secret with the root that the mesh makes for itself', {
    env: 'AMBIT_CA_SECRET',
    fallback: 'ambit-ca-secret',
  }),
  plugInCaSecret: text(
    '--plug-in-ca-secret <name>',
    'Secret with an authority of yours, which comes before that root',
    { env: 'AMBIT_PLUG_IN_CA_SECRET', fallback: 'cacerts' },
  ),
  certificateSigner: parsed(
    '--certificate-signer <name>',
    "signerName by which the Kubernetes API has workloads' certificates signed, domain/name; the authority of the mesh if left out",
    parseSigner,
    { env: 'AMBIT_CERTIFICATE_SIGNER', fallback: '' },
  ),
  waypointImage: text('--waypoint-image <image>', 'what waypoints are made of', {
    env: 'AMBIT_WAYPOINT_IMAGE',
    fallback: `ambit:${VERSION}`,
  }),
  waypointCommand: parsed(
    '--waypoint-command <list>',
    "command of the waypoints' containers before its arguments, comma-separated; the image's own if left out",
    parseList,
    { env: 'AMBIT_WAYPOINT_COMMAND', fallback: [] },
  ),
  waypointUser: parsed('--waypoint-user <uid>', 'whom waypoints run as', wholeNumber(0), {
    env: 'AMBIT_WAYPOINT_USER',
    fallback: PROXY_USER,
  }),
  waypointWorkloadApiSocket: unixSocket(
    '--waypoint-workload-api-socket',
    'SPIFFE Workload API that gives waypoints their certificates, in a directory that the CSI driver csi.spiffe.io makes',
    { env: 'AMBIT_WAYPOINT_WORKLOAD_API_SOCKET' },
  ),
  tokenAudience: text('--token-audience <name>', "audience of callers' tokens", {
    env: 'TOKEN_AUDIENCE',
    fallback: 'istio-ca',
  }),
  trustedNodeAccounts: parsed(
    '--trusted-node-accounts <list>',
    'namespace/service-account of the agents, comma-separated',
    parseAccounts,
    { env: 'CA_TRUSTED_NODE_ACCOUNTS', fallback: [`${DEFAULT_NAMESPACE}/ambit-agent`] },
  ),
  agentTaint: parsed(
    '--agent-taint <key>',
    'a taint of new nodes that is taken off when the agent there is ready; none is if left out',
    parseTaintKey,
    { env: 'AMBIT_AGENT_TAINT', fallback: '' },
  ),
  servingNames: parsed(
    '--serving-names <list>',
    'more DNS names or IP addresses for the serving certificate, comma-separated',
    parseList,
    { env: 'AMBIT_SERVING_NAMES', fallback: [] },
  ),
  logLevel: logLevel(),
  logFormat: logFormat(),
  ...OTLP_FLAGS,
}

/** Builds the command; `run` gets the checked configuration. */
export function controllerCommand(run: (config: ControllerConfig) => Promise<void>): Command {
  const command = flagCommand<ControllerConfig>(
    'ambit controller',
    'Watch Kubernetes, serve the mesh to agents over xDS, and sign certificates.',
    flags,
    async (config) => {
      // The root that the mesh makes would be taken for yours, and be none: yours comes with a bundle.
      if (config.caSecret === config.plugInCaSecret)
        command.error(
          `error: options '--ca-secret' and '--plug-in-ca-secret' name the same Secret, "${config.caSecret}": they must be two.`,
        )
      await run(config)
    },
  )
  return command
}

function parseSigner(name: string): string {
  // Kubernetes' own signers are for its own components, and know no SPIFFE identity.
  if (!/^[a-z0-9.-]+\.[a-z0-9-]+\/\S+$/.test(name) || name.startsWith('kubernetes.io/'))
    throw new InvalidArgumentError(
      `"${name}" is no signer of the form domain/name, or is one of Kubernetes' own.`,
    )
  return name
}

function parseAccounts(text: string): readonly string[] {
  const accounts = parseList(text)
  for (const account of accounts)
    if (!/^[a-z0-9.-]+\/[a-z0-9.-]+$/.test(account))
      throw new InvalidArgumentError(`"${account}" is not of the form namespace/service-account.`)
  return accounts
}

/** A qualified name, with a prefix: the taints without one are Kubernetes' own or nobody's. */
function parseTaintKey(text: string): string {
  if (
    text === '' ||
    /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$/.test(text)
  )
    return text
  throw new InvalidArgumentError(
    `"${text}" is no key of a taint, such as ambit.io/agent-not-ready.`,
  )
}
