// SPDX-License-Identifier: Apache-2.0
// The configurations of the waypoint's rivals: Envoy as Istio sets it up for a waypoint (terminates HBONE, routes requests, makes HBONE), and
// nginx with mutual TLS on both sides. Both have the routes of parties.ts, and write an access log to nowhere.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TLS_CIPHERS } from '../../mesh/hbone/limits.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { HttpRule } from '../../mesh/model/http-routes.ts'
import { type Protocol, REQUEST_TIMEOUT_S, RETRIED_STATUS, RETRIES, TARGET } from './parties.ts'

export interface RivalSettings {
  readonly certificate: WorkloadCertificate
  readonly port: number
  readonly backendPort: number
  readonly protocol: Protocol
  readonly rules: readonly HttpRule[]
}

/** None of these is to be reached. */
const MANY = 100_000
const NAMES = {
  hcm: 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
  router: 'envoy.extensions.filters.http.router.v3.Router',
  fileLog: 'envoy.extensions.access_loggers.file.v3.FileAccessLog',
  serverTls: 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
  clientTls: 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
  internalUpstream:
    'envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport',
  rawBuffer: 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
  internalListener: 'envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
  tcpProxy: 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
  protocolOptions: 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
} as const

const typed = (kind: keyof typeof NAMES, name: string, config: object = {}): object => ({
  name,
  typed_config: { '@type': `type.googleapis.com/${NAMES[kind]}`, ...config },
})

/** Writes the certificate's files; their paths. */
function writeFiles(
  folder: string,
  { chainPem, privateKeyPem, rootsPem }: WorkloadCertificate,
): { readonly chain: string; readonly key: string; readonly roots: string } {
  mkdirSync(folder, { recursive: true })
  const write = (name: string, text: string): string => {
    const file = join(folder, name)
    writeFileSync(file, text, { mode: 0o600 })
    return file
  }
  return {
    chain: write('chain.pem', chainPem),
    key: write('key.pem', privateKeyPem),
    roots: write('roots.pem', rootsPem),
  }
}

/** Writes Envoy's configuration into `folder`; its path. */
export function writeEnvoy(folder: string, settings: RivalSettings): string {
  const { chain, key, roots } = writeFiles(folder, settings.certificate)
  const tls = (kind: 'serverTls' | 'clientTls'): object =>
    typed(kind, 'envoy.transport_sockets.tls', {
      ...(kind === 'serverTls' && { require_client_certificate: true }),
      common_tls_context: {
        tls_certificates: [
          { certificate_chain: { filename: chain }, private_key: { filename: key } },
        ],
        validation_context: {
          trusted_ca: { filename: roots },
          match_typed_subject_alt_names: [
            { san_type: 'URI', matcher: { prefix: 'spiffe://cluster.local/' } },
          ],
        },
        alpn_protocols: ['h2'],
        tls_params: {
          tls_minimum_protocol_version: 'TLSv1_3',
          tls_maximum_protocol_version: 'TLSv1_3',
        },
      },
    })
  const at = (address: string, port: number): object => ({
    socket_address: { address, port_value: port },
  })
  const cluster = (name: string, address: object, rest: object): object => ({
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    lb_policy: 'LEAST_REQUEST',
    circuit_breakers: {
      thresholds: [
        {
          max_connections: MANY,
          max_pending_requests: MANY,
          max_requests: MANY,
          max_retries: MANY,
        },
      ],
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
    },
    ...rest,
  })
  const toListener = (name: string): object => ({
    envoy_internal_address: { server_listener_name: name, endpoint_id: name },
  })
  const internal = {
    transport_socket: typed('internalUpstream', 'envoy.transport_sockets.internal_upstream', {
      transport_socket: typed('rawBuffer', 'envoy.transport_sockets.raw_buffer'),
    }),
  }
  const speaking = (options: object): object => ({
    typed_extension_protocol_options: {
      [NAMES.protocolOptions]: {
        '@type': `type.googleapis.com/${NAMES.protocolOptions}`,
        explicit_http_config: { http2_protocol_options: options },
      },
    },
  })
  const router = typed('router', 'envoy.filters.http.router')
  const manager = (config: object): object =>
    typed('hcm', 'envoy.filters.network.http_connection_manager', {
      http_filters: [router],
      ...config,
    })
  const terminate = manager({
    stat_prefix: 'terminate',
    codec_type: 'HTTP2',
    stream_idle_timeout: '0s',
    http2_protocol_options: { allow_connect: true, max_concurrent_streams: 200 },
    upgrade_configs: [{ upgrade_type: 'CONNECT' }],
    route_config: {
      virtual_hosts: [
        {
          name: 'tunnels',
          domains: ['*'],
          routes: [
            {
              match: { connect_matcher: {} },
              route: {
                cluster: 'main',
                timeout: '0s',
                upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
              },
            },
          ],
        },
      ],
    },
  })
  const main = manager({
    stat_prefix: 'main',
    codec_type: 'AUTO',
    use_remote_address: true,
    normalize_path: true,
    access_log: [typed('fileLog', 'envoy.access_loggers.file', { path: '/dev/null' })],
    route_config: {
      name: 'routes',
      virtual_hosts: [{ name: 'service', domains: ['*'], routes: settings.rules.map(envoyRoute) }],
    },
  })
  const originate = typed('tcpProxy', 'envoy.filters.network.tcp_proxy', {
    stat_prefix: 'originate',
    cluster: 'outbound',
    tunneling_config: { hostname: `${TARGET.address}:${TARGET.port}` },
  })
  const config = {
    bootstrap_extensions: [typed('internalListener', 'envoy.bootstrap.internal_listener')],
    static_resources: {
      listeners: [
        {
          name: 'terminate',
          address: at('127.0.0.1', settings.port),
          filter_chains: [{ transport_socket: tls('serverTls'), filters: [terminate] }],
        },
        { name: 'main', internal_listener: {}, filter_chains: [{ filters: [main] }] },
        { name: 'originate', internal_listener: {}, filter_chains: [{ filters: [originate] }] },
      ],
      clusters: [
        cluster('main', toListener('main'), internal),
        cluster('backend', toListener('originate'), {
          ...internal,
          ...(settings.protocol === 'grpc' && speaking({})),
        }),
        cluster('outbound', at('127.0.0.1', settings.backendPort), {
          transport_socket: tls('clientTls'),
          ...speaking({ allow_connect: true, max_concurrent_streams: 100 }),
        }),
      ],
    },
  }
  const file = join(folder, 'envoy.json')
  writeFileSync(file, JSON.stringify(config))
  return file
}

function envoyRoute({ route, matches: [match], filters }: HttpRule): object {
  const added = (kind: 'requestHeaders' | 'responseHeaders'): readonly object[] =>
    filters.flatMap((filter) =>
      filter.kind === kind
        ? filter.edit.set.map(({ name, value }) => ({
            header: { key: name, value },
            append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
          }))
        : [],
    )
  return {
    name: route.name,
    match: {
      path_separated_prefix: match?.path.value,
      headers: match?.headers.map(({ name, match: { value } }) => ({
        name,
        string_match: { exact: value },
      })),
    },
    route: {
      cluster: 'backend',
      timeout: `${REQUEST_TIMEOUT_S}s`,
      retry_policy: {
        retry_on: 'connect-failure,refused-stream,retriable-status-codes',
        retriable_status_codes: [RETRIED_STATUS],
        num_retries: RETRIES,
      },
    },
    request_headers_to_add: added('requestHeaders'),
    response_headers_to_add: added('responseHeaders'),
  }
}

/** Writes the configuration of nginx into `folder`; its path. */
export function writeNginx(folder: string, settings: RivalSettings): string {
  const { chain, key, roots } = writeFiles(folder, settings.certificate)
  const places = settings.rules
    .filter(({ matches: [match] }) => match?.headers.length === 0)
    .map(({ route: { name }, matches: [match] }) => {
      const canary = settings.rules.find((each) => each.route.name === `${name}-canary`)
      const [header] = canary?.matches[0]?.headers ?? []
      const variable = `$http_${header?.name.replaceAll('-', '_')}`
      const choice =
        header === undefined
          ? ''
          : `if (${variable} = ${header.match.value}) { set $route ${canary?.route.name}; }`
      return `    location ${match?.path.value} {
      set $route ${name}; ${choice}
      proxy_pass https://backend;
      proxy_set_header x-ambit-route $route;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Connection "";
      add_header x-served-by waypoint;
    }`
    })
  const tls = (prefix: string): string =>
    `${prefix}_certificate ${chain}; ${prefix}_certificate_key ${key}; ${prefix}_protocols TLSv1.3;`
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/temporary;`)
    .join(' ')
  const file = join(folder, 'nginx.conf')
  writeFileSync(
    file,
    `daemon off; user root; worker_processes 1; pid ${folder}/pid; error_log ${folder}/errors;
events { worker_connections 4096; multi_accept on; }
http {
  access_log /dev/null combined buffer=8k;
  keepalive_requests ${MANY * MANY}; server_tokens off; ${temporary}
  upstream backend { server 127.0.0.1:${settings.backendPort}; keepalive 512; keepalive_requests ${MANY * MANY}; }
  server {
    listen 127.0.0.1:${settings.port} ssl backlog=1024;
    ${tls('ssl')} ssl_client_certificate ${roots}; ssl_verify_client on; ssl_conf_command Ciphersuites ${TLS_CIPHERS};
    ${tls('proxy_ssl')} proxy_http_version 1.1; proxy_read_timeout ${REQUEST_TIMEOUT_S}s;
    proxy_next_upstream error timeout http_${RETRIED_STATUS}; proxy_next_upstream_tries ${RETRIES + 1};
${places.join('\n')}
  }
}
`,
  )
  return file
}
