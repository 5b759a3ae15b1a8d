// SPDX-License-Identifier: Apache-2.0
// The controller's flags: defaults that work in a cluster, and refusals that say what is wrong.

import t from 'tap'
import { CommanderError } from 'commander'
import { servingNames } from '../../controller/ca/certificate-names.ts'
import { type ControllerConfig, controllerCommand } from '../../controller/config.ts'
import { parseHostPort } from '../../mesh/model/host-port.ts'

async function parse(...argv: readonly string[]): Promise<ControllerConfig> {
  const { promise, resolve } = Promise.withResolvers<ControllerConfig>()
  const command = controllerCommand((config) => Promise.resolve(resolve(config)))
  command.exitOverride().configureOutput({ writeErr: () => undefined })
  await command.parseAsync(argv, { from: 'user' })
  return promise
}

void t.test('without flags everything is as in an installed cluster', async (t) => {
  for (const name of ['KUBECONFIG', 'POD_NAMESPACE', 'TRUST_DOMAIN', 'CLUSTER_ID'])
    Reflect.deleteProperty(process.env, name)
  const config = await parse()
  t.match(config, {
    namespace: 'ambit-system',
    trustDomain: 'cluster.local',
    clusterId: 'Kubernetes',
    listen: { port: 15012 },
    healthAddress: { port: 8080 },
    adminAddress: { host: '127.0.0.1', port: 15_000 },
    trustedNodeAccounts: ['ambit-system/ambit-agent'],
    servingNames: [],
  })
  t.same(servingNames({ ...config, servingNames: ['172.30.0.2', 'fd98:30::2', 'mesh.example'] }), [
    { type: 'dns', value: 'ambit-controller' },
    { type: 'dns', value: 'ambit-controller.ambit-system' },
    { type: 'dns', value: 'ambit-controller.ambit-system.svc' },
    { type: 'dns', value: 'ambit-controller.ambit-system.svc.cluster.local' },
    { type: 'dns', value: 'istiod' },
    { type: 'dns', value: 'istiod.istio-system' },
    { type: 'dns', value: 'istiod.istio-system.svc' },
    { type: 'dns', value: 'istiod.istio-system.svc.cluster.local' },
    { type: 'ip', value: '172.30.0.2' },
    { type: 'ip', value: 'fd98:30::2' },
    { type: 'dns', value: 'mesh.example' },
  ])
})

void t.test('lists and addresses are read as written', async (t) => {
  const config = await parse(
    '--trusted-node-accounts=a/b, c/d',
    '--listen=127.0.0.1:0',
    '--health-address=[::1]:9',
  )
  t.same(config.trustedNodeAccounts, ['a/b', 'c/d'])
  t.same(config.listen, { host: '127.0.0.1', port: 0 })
  t.same(config.healthAddress, { host: '::1', port: 9 })
  t.same(parseHostPort('localhost:15012'), { host: 'localhost', port: 15_012 })
})

void t.test('wrong values are refused with the flag and the form it wants', async (t) => {
  const table = [
    ['--listen=15012', /--listen.*host:port/],
    ['--listen=::1:15012', /--listen.*host:port/],
    ['--listen=localhost:70000', /--listen.*host:port/],
    ['--trust-domain=..', /--trust-domain.*SPIFFE trust domain/],
    ['--trust-domain=Upper/Case', /--trust-domain.*SPIFFE trust domain/],
    ['--trusted-node-accounts=agent', /"agent" is not of the form namespace\/service-account/],
    ['--agent-taint=not-ready', /"not-ready" is no key of a taint/],
    ['--ca-secret=cacerts', /--ca-secret.*--plug-in-ca-secret.*same Secret, "cacerts"/],
    ['--log-level=loud', /--log-level.*Allowed choices/],
    ['--no-such-flag', /unknown option/],
    ['stray', /too many arguments/],
  ] as const
  for (const [flag, reason] of table) {
    const refusal = await parse(flag).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    t.ok(refusal instanceof CommanderError, flag)
    t.match(refusal instanceof Error ? refusal.message : '', reason, flag)
  }
})
