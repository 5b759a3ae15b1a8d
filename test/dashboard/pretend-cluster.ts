// SPDX-License-Identifier: Apache-2.0
// A cluster of pretended agents that answer as true ones do: dumps, metrics and audits of as many services as wanted, the same at each run.

import type { AgentPod } from '../../cli/cluster/agents.ts'
import type { WaypointPod } from '../../cli/cluster/waypoint-pods.ts'
import type { AgentClient, AgentRequest } from '../../cli/dashboard/poll/agent-client.ts'
import { auditLine } from '../../mesh/audit/event.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { TRAFFIC_LABELS } from '../../mesh/telemetry/traffic.ts'

export interface PretendCluster {
  readonly agents: readonly AgentPod[]
  readonly waypoints: readonly WaypointPod[]
  readonly client: (pod: string) => AgentClient
  /** From now on this agent answers so to every request; as before when undefined. */
  readonly spoil: (pod: string, answer: (() => Promise<Result<string, string>>) | undefined) => void
  /** Time goes on: counters grow by so many seconds' worth. */
  readonly grow: (seconds: number) => void
}

const NAMESPACES = ['shop', 'payments', 'search', 'accounts', 'logistics', 'media', 'data', 'edge']
const NAMES = [
  'gateway',
  'api',
  'catalog',
  'orders',
  'cart',
  'pricing',
  'stock',
  'mail',
  'ledger',
  'index',
]
/** Calls of one service, on average. */
const CALLEES = 2.2
const NOW = Date.UTC(2026, 10, 28, 12)

export interface Call {
  readonly from: string
  readonly to: string
  readonly security: 'mutual_tls' | 'node_local' | 'unknown'
  readonly perSecond: number
  readonly flag: string
}

/** `odd` is what one pod calls itself: anything. */
export function pretendCluster(
  services: number,
  nodes: number,
  odd = 'odd',
  withWaypoint = false,
): PretendCluster {
  const random = seeded(services)
  const names = Array.from({ length: services }, (_, at) => {
    const namespace = NAMESPACES[Math.floor((at * NAMESPACES.length) / services)] ?? 'shop'
    const name = at === 1 ? odd : `${NAMES[at % NAMES.length] ?? ''}-${at}`
    return { namespace, name, id: `${namespace}/${name}`, node: at % nodes }
  })
  const calls: Call[] = []
  for (let at = 0; at < services * CALLEES; at += 1) {
    const from = Math.floor(random() * services)
    // Mostly near by, and mostly onward: as teams call.
    const isNear = random() < 0.8
    const to = isNear
      ? (from + 1 + Math.floor(random() * 12)) % services
      : Math.floor(random() * services)
    const [caller, callee] = [names[from], names[to]]
    if (caller === undefined || callee === undefined || from === to) continue
    const draw = random()
    const call = { from: caller.id, to: callee.id, perSecond: random() < 0.3 ? 0 : random() * 40 }
    if (draw < 0.05) calls.push({ ...call, security: 'unknown', flag: '-' })
    else if (draw < 0.09) calls.push({ ...call, security: 'mutual_tls', flag: 'DENY' })
    else if (draw < 0.12) calls.push({ ...call, security: 'mutual_tls', flag: 'CONNECT' })
    else calls.push({ ...call, security: draw < 0.3 ? 'node_local' : 'mutual_tls', flag: '-' })
  }
  const agents = Array.from({ length: nodes }, (_, at) => ({
    pod: `ambit-agent-${at}`,
    node: `node-${at}`,
    isReady: true,
    restarts: 0,
  }))
  const spoilt = new Map<string, () => Promise<Result<string, string>>>()
  let seconds = 600
  const answer = (pod: string, { path }: AgentRequest): Result<string, string> => {
    if (pod === 'way-1')
      return waypointAnswer(path, names[0]?.id ?? '', names[2]?.id ?? '', seconds)
    const node = Number(pod.slice(pod.lastIndexOf('-') + 1))
    const own = names.filter((each) => each.node === node)
    if (path === '/metrics')
      return ok(
        metrics(
          calls,
          own.map(({ id }) => id),
          seconds,
        ),
      )
    if (path.startsWith('/audit')) return ok(node === 0 ? denials(calls) : '')
    if (path === '/config_dump?local') return ok(JSON.stringify(localDump(own, calls)))
    if (path === '/config_dump') return ok(JSON.stringify(meshDump(names)))
    return err('there is no such path')
  }
  const way = { namespace: 'shop', pod: 'way-1', gateway: 'way', node: 'node-0' }
  const waypoints = withWaypoint ? [way] : []
  return {
    agents,
    waypoints,
    client: (pod) => ({
      ask: async (request) => (await spoilt.get(pod)?.()) ?? answer(pod, request),
      close: () => undefined,
    }),
    spoil: (pod, how) => {
      if (how === undefined) spoilt.delete(pod)
      else spoilt.set(pod, how)
    },
    grow: (by) => {
      seconds += by
    },
  }
}

/** As the pod of a waypoint answers: one request a second from one to the other, a tenth of them denied, and some failed. */
function waypointAnswer(
  path: string,
  from: string,
  to: string,
  seconds: number,
): Result<string, string> {
  if (path === '/metrics') return ok(requestMetrics(from, to, seconds))
  if (path === '/config_dump')
    return ok(
      JSON.stringify({
        version: { version: '0.1.0' },
        pending: [],
        discovery: { state: 'connected', since: '' },
        tunnels: 3,
        traffic: { requests: seconds * 11 + 5, failed: 5, denied: seconds },
      }),
    )
  return path.startsWith('/audit')
    ? ok(
        auditLine({
          kind: 'request.denied',
          time: NOW,
          namespace: halves(to)[0],
          who: `spiffe://cluster.local/ns/${halves(from)[0]}/sa/${halves(from)[1]}`,
          what: 'GET catalog.shop/admin',
          object: 'AuthorizationPolicy shop/no-admin',
          why: 'explicitly denied by: shop/no-admin',
        }),
      )
    : err('there is no such path')
}

/** As a waypoint's registry writes them. */
export function requestMetrics(from: string, to: string, seconds: number): string {
  const line = (status: number, flag: string, endpoint: string, value: number): string => {
    const labels = labelText({ from, to: endpoint, security: 'mutual_tls' }, 'waypoint', flag)
    return `istio_requests_total{${labels},response_code="${status}"} ${value}`
  }
  return [
    line(200, '-', to, seconds * 10),
    line(503, 'UF', to, 5),
    line(403, 'RBAC', 'unknown/unknown', seconds),
    '',
  ].join('\n')
}

interface Named {
  readonly namespace: string
  readonly name: string
  readonly id: string
  readonly node: number
}

/** As an agent's registry writes them. */
export function metrics(
  calls: readonly Call[],
  reported: readonly string[],
  seconds: number,
): string {
  const lines: string[] = ['# TYPE istio_tcp_connections_opened_total counter']
  for (const call of calls) {
    const { from, to, security, perSecond, flag } = call
    for (const [reporter, of] of [
      ['source', from],
      ['destination', to],
    ] as const) {
      if (!reported.includes(of)) continue
      const labels = (flagged: string): string => labelText(call, reporter, flagged)
      const count = Math.floor(3 + perSecond * seconds)
      if (flag !== '-') {
        const seen = reporter === 'source' && flag === 'DENY' ? 'CONNECT' : flag
        lines.push(`istio_tcp_connections_failed_total{${labels(seen)}} ${count}`)
        continue
      }
      lines.push(
        `istio_tcp_connections_opened_total{${labels('-')}} ${count}`,
        `istio_tcp_connections_closed_total{${labels('-')}} ${count - 1}`,
        `istio_tcp_sent_bytes_total{${labels('-')}} ${count * (security === 'unknown' ? 90_000 : 5_200)}`,
        `istio_tcp_received_bytes_total{${labels('-')}} ${count * 700}`,
      )
    }
  }
  return `${lines.join('\n')}\n`
}

function labelText(
  { from, to, security }: Pick<Call, 'from' | 'to' | 'security'>,
  reporter: string,
  flag: string,
): string {
  const [fromNamespace = '', fromName = ''] = halves(from)
  const [toNamespace = '', toName = ''] = halves(to)
  const known: Readonly<Record<string, string>> = {
    reporter,
    source_workload: fromName,
    source_workload_namespace: fromNamespace,
    destination_workload: toName,
    destination_workload_namespace: toNamespace,
    destination_service_name: toName,
    destination_service_namespace: toNamespace,
    request_protocol: 'tcp',
    response_flags: flag,
    connection_security_policy: security,
  }
  return TRAFFIC_LABELS.map((name) => `${name}="${escaped(known[name] ?? 'unknown')}"`).join(',')
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function halves(id: string): readonly [string, string] {
  const slash = id.indexOf('/')
  return [id.slice(0, slash), id.slice(slash + 1)]
}

function meshDump(names: readonly Named[]): object {
  return {
    workloads: names.map(({ namespace, name, node }, at) => ({
      uid: `Kubernetes//Pod/${namespace}/${name}-0`,
      namespace,
      name: `${name}-0`,
      workloadName: name,
      workloadIps: [addressOf(at)],
      node: `node-${node}`,
      protocol: 'HBONE',
      status: at % 41 === 17 ? 'Unhealthy' : 'Healthy',
      services: [`${namespace}/${name}.${namespace}.svc.cluster.local`],
      authorizationPolicies: at % 7 === 1 ? [`${namespace}/only-callers`] : [],
      trustDomain: 'cluster.local',
      serviceAccount: name,
    })),
    services: names.map(({ namespace, name }, at) => ({
      name,
      namespace,
      hostname: `${name}.${namespace}.svc.cluster.local`,
      vips: [`/10.96.0.${at}`],
      endpoints: {},
    })),
    policies: [
      {
        name: 'only-callers',
        namespace: 'shop',
        scope: 'WorkloadSelector',
        action: 'Allow',
        rules: [
          [
            [
              {
                principals: [{ Exact: 'cluster.local/ns/edge/sa/gateway' }],
                destinationPorts: [8080],
              },
            ],
          ],
        ],
        places: [0],
      },
      {
        name: 'converted_peer_authentication_strict',
        namespace: 'shop',
        scope: 'Namespace',
        action: 'Deny',
        madeOf: 'PeerAuthentication shop/strict',
        rules: [[[{ notPrincipals: [{ Presence: {} }] }]]],
        places: [null],
      },
    ],
    unreadablePolicies: [],
  }
}

function localDump(own: readonly Named[], calls: readonly Call[]): object {
  const ids = new Set(own.map(({ id }) => id))
  return {
    version: { version: '0.1.0' },
    pending: [],
    discovery: { state: 'connected', since: '', resources: { workloads: { digest: 'a' } } },
    capture: own.map(({ namespace, name }, at) => ({
      uid: name,
      namespace,
      name: `${name}-0`,
      ...(at % 23 === 5
        ? { state: 'failed', reason: 'port 15008 is taken' }
        : { state: 'captured' }),
    })),
    certificates: own.map(({ namespace, name }, at) => ({
      identity: `spiffe://cluster.local/ns/${namespace}/sa/${name}`,
      state: 'Available',
      certChain: [
        {
          serialNumber: String(7_000_000 + at * 7919),
          validFrom: new Date(NOW - 3_600_000).toISOString(),
          expirationTime: new Date(Date.now() + (2 + at) * 3_600_000).toISOString(),
        },
      ],
    })),
    workloadState: Object.fromEntries(
      own.map(({ namespace, name, id }) => [
        id,
        {
          state: 'Up',
          info: {
            namespace,
            name: `${name}-0`,
            workloadUid: `Kubernetes//Pod/${id}-0`,
            identity: '',
          },
          connections: {
            inbound: calls
              .filter(({ to, from }) => to === id && ids.has(from))
              .map(() => ({
                src: '10.244.0.9:40000',
                actualDst: '10.244.0.1:15008',
                originalDst: '10.244.0.1:8080',
                protocol: 'HBONE',
              })),
            outbound: [],
          },
        },
      ]),
    ),
  }
}

function addressOf(at: number): string {
  return `10.244.${Math.floor(at / 250)}.${at % 250}`
}

function denials(calls: readonly Call[]): string {
  return calls
    .filter(({ flag }) => flag === 'DENY')
    .map(({ from, to }, at) =>
      auditLine({
        kind: 'connection.denied',
        time: NOW + at * 1_000,
        namespace: halves(to)[0],
        who: `spiffe://cluster.local/ns/${halves(from)[0]}/sa/${halves(from)[1]}`,
        what: `pod ${to}-0 at 10.244.0.1:8080`,
        object: 'AuthorizationPolicy shop/only-callers',
        why: 'connection closed due to policy rejection: allow policies exist, but none allowed',
      }),
    )
    .join('\n')
}

/** The same numbers for the same seed. */
function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
