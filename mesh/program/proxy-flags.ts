// SPDX-License-Identifier: Apache-2.0
// Flags of every proxy of the mesh: where the control plane is, by what it is known and what it is asked with, and whom to trust.

import {
  ANY_HOST,
  hostPort,
  loopbackPort,
  optionalText,
  parsed,
  parseDurationSeconds,
  parseList,
  parseSecondsAsMs,
  parseTrustDomains,
  text,
} from './flags.ts'
import { DEFAULT_ROOT_NAMESPACE } from '../model/policy-index.ts'

/** Istio's: renewed at half of it, a CA that is down for ten hours is not noticed. */
const DEFAULT_CERTIFICATE_TTL_SECONDS = 86_400
/** Kubernetes kills 30 s after SIGTERM by default; ten of them are left for everything else. */
const DEFAULT_DRAIN_SECONDS = 20

export const PROXY_FLAGS = {
  xdsAddress: text('--xds-address <host:port>', 'discovery server', {
    env: 'XDS_ADDRESS',
    fallback: 'ambit-controller.ambit-system.svc:15012',
  }),
  caAddress: optionalText('--ca-address <host:port>', 'CA; the discovery server if left out', {
    env: 'CA_ADDRESS',
  }),
  caRootFile: text('--ca-root-file <file>', 'roots of the control plane', {
    env: 'XDS_ROOT_CA',
    fallback: '/var/run/secrets/istio/root-cert.pem',
  }),
  crlFiles: parsed(
    '--crl-file <list>',
    'lists of revoked certificates, PEM or DER, files separated by commas; read again when they change',
    parseList,
    { env: 'CRL_PATH', fallback: [] },
  ),
  tokenFile: text('--token-file <file>', 'service account token, audience istio-ca', {
    env: 'AUTH_TOKEN',
    fallback: '/var/run/secrets/tokens/istio-token',
  }),
  trustDomainAliases: parsed(
    '--trust-domain-aliases <list>',
    'other names of the trust domain, whose identities are accepted as its own, comma-separated',
    parseTrustDomains,
    { env: 'TRUST_DOMAIN_ALIASES', fallback: [] },
  ),
  certificateTtlSeconds: parsed(
    '--certificate-ttl <duration>',
    'lifetime to ask for the certificates of workloads, such as 90s, 30m or 24h',
    parseDurationSeconds,
    { env: 'SECRET_TTL', fallback: DEFAULT_CERTIFICATE_TTL_SECONDS, shown: '24h' },
  ),
  rootNamespace: text(
    '--root-namespace <name>',
    'where policies may concern the whole mesh; as the controller has it',
    { env: 'ROOT_NAMESPACE', fallback: DEFAULT_ROOT_NAMESPACE },
  ),
  drainDeadlineMs: parsed(
    '--drain-deadline <seconds>',
    'how long connections may take to end when the process stops or a pod leaves',
    parseSecondsAsMs,
    {
      env: 'AMBIT_DRAIN_DEADLINE',
      fallback: DEFAULT_DRAIN_SECONDS * 1_000,
      shown: String(DEFAULT_DRAIN_SECONDS),
    },
  ),
} as const

/** The ports of those who watch over a proxy, by Istio's numbers. */
export const PROXY_PORT_FLAGS = {
  adminAddress: loopbackPort('--admin-address', 'the admin API, on loopback', {
    env: 'ADMIN_ADDR',
    fallback: '127.0.0.1:15000',
  }),
  metricsAddress: hostPort('--metrics-address', 'Prometheus', {
    env: 'STATS_ADDR',
    fallback: `${ANY_HOST}:15020`,
  }),
  readinessAddress: hostPort('--readiness-address', '/healthz/ready', {
    env: 'READINESS_ADDR',
    fallback: `${ANY_HOST}:15021`,
  }),
} as const
