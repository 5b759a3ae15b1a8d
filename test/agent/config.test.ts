// SPDX-License-Identifier: Apache-2.0
// The agent's flags: defaults, environment, and that nonsense is refused before anything starts.

import { existsSync } from 'node:fs'
import { CommanderError } from 'commander'
import t from 'tap'
import { type AgentConfig, agentCommand, defaultWorkers } from '../../agent/config.ts'

async function parse(...argv: readonly string[]): Promise<AgentConfig> {
  let found: AgentConfig | undefined
  const command = agentCommand((config) => {
    found = config
    return Promise.resolve()
  })
  await command
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parseAsync(argv, { from: 'user' })
  if (found === undefined) throw new Error('the command did not run')
  return found
}

void t.test('the node name alone is enough', async (t) => {
  t.match(await parse('--node-name', 'node-a'), {
    nodeName: 'node-a',
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    caAddress: 'ambit-controller.ambit-system.svc:15012',
    adminAddress: { host: '127.0.0.1', port: 15000 },
    readinessAddress: { port: 15021 },
    drainDeadlineMs: 20_000,
    certificateTtlSeconds: 86_400,
    unpinOnExit: false,
  })
})

void t.test(
  'the kubelet reaches the probes, and Prometheus the metrics, by the family that nodes have',
  { skip: !existsSync('/proc/net/if_inet6') && 'this kernel has no IPv6' },
  async (t) => {
    t.match(await parse('--node-name', 'node-a'), {
      metricsAddress: { host: '::', port: 15020 },
      readinessAddress: { host: '::', port: 15021 },
    })
  },
)

void t.test('flags win, IPv6 addresses and lists are read', async (t) => {
  const config = await parse(
    ...['--node-name', 'n', '--admin-address', '[::1]:0', '--drain-deadline', '2.5'],
    ...['--kubelet-cgroup', '/a', '/b', '--workers', '3', '--ca-address', 'ca:1'],
    ...['--certificate-ttl', '30m', '--otlp-interval', '15'],
    ...['--spire-admin-socket', 'unix:///run/spire/private/admin.sock'],
    ...['--otlp-endpoint', 'https://collector:4318/mesh'],
  )
  t.match(config, {
    adminAddress: { host: '::1', port: 0 },
    drainDeadlineMs: 2500,
    kubeletCgroups: ['/a', '/b'],
    workers: 3,
    caAddress: 'ca:1',
    spireAdminSocket: 'unix:///run/spire/private/admin.sock',
    certificateTtlSeconds: 1800,
    otlpEndpoint: new URL('https://collector:4318/mesh'),
    otlpIntervalMs: 15_000,
  })
})

void t.test('nonsense is refused', async (t) => {
  for (const argv of [
    ['--workers', '0'],
    ['--workers', 'many'],
    ['--spire-admin-socket', '/run/spire/private/admin.sock'],
    ['--spire-admin-socket', 'unix://admin.sock'],
    ['--spire-admin-socket', `unix:///${'long'.repeat(30)}`],
    ['--admin-address', '15000'],
    ['--metrics-address', 'host:99999'],
    ['--drain-deadline', '-1'],
    ['--certificate-ttl', '0s'],
    ['--certificate-ttl', '24'],
    ['--log-level', 'loud'],
    ['--otlp-endpoint', 'collector:4318'],
    ['--otlp-endpoint', 'ftp://collector'],
    ['--otlp-endpoint', 'http://user:secret@collector:4318'],
    ['--otlp-endpoint', 'http://collector:4318/?key=secret'],
    ['--otlp-interval', '0'],
    ['--otlp-interval', ''],
    ['--no-such-flag'],
  ])
    await t.rejects(parse('--node-name', 'n', ...argv), CommanderError, argv.join(' '))
})

void t.test('small machines get one worker, others a quarter of their cores', (t) => {
  t.same([1, 2, 4, 8, 16, 64].map(defaultWorkers), [1, 1, 2, 2, 4, 16])
  t.end()
})
