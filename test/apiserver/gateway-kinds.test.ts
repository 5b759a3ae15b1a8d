// SPDX-License-Identifier: Apache-2.0
// The kinds of the Gateway API as the lab defines them where a cluster has none: what a server fills in and what it refuses.

import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import type { KubeInput } from '../../lab/kubernetes/objects/stored-object.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { type ClusterUnderTest, contract } from './cluster.ts'

const GROUP = 'gateway.networking.k8s.io'

async function installKinds({ kubeconfig }: ClusterUnderTest): Promise<void> {
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const api = createKubeApi(access.value)
  await applyManifests(api, await absentKinds(api))
}

/** An object of one of the kinds; its kind stands for its resource. */
function gatewayObject(kind: string, name: string, spec: object, version = 'v1'): KubeInput {
  return { apiVersion: `${GROUP}/${version}`, kind, metadata: { name }, spec }
}

const route = (rule: object): KubeInput =>
  gatewayObject('HTTPRoute', 'canary', {
    parentRefs: [{ group: '', kind: 'Service', name: 'web', port: 80 }],
    rules: [rule],
  })

contract('an HTTPRoute has the defaults of the Gateway API', { nodes: 0 }, async (t, cluster) => {
  await installKinds(cluster)
  const created = await cluster.api.create(
    `httproutes.${GROUP}`,
    'default',
    route({ backendRefs: [{ name: 'v1', port: 80 }] }),
  )
  if (!created.ok) throw new Error(created.error.message)
  t.match(created.value.spec?.rules, [
    {
      matches: [{ path: { type: 'PathPrefix', value: '/' } }],
      backendRefs: [{ group: '', kind: 'Service', name: 'v1', port: 80, weight: 1 }],
    },
  ])
})

contract(
  'a Gateway and its class wait for their controller, and a Gateway lets its own namespace in',
  { nodes: 0 },
  async (t, cluster) => {
    await installKinds(cluster)
    const gatewayClass = gatewayObject('GatewayClass', 'some', { controllerName: 'a.test/some' })
    const classes = await cluster.api.create(`gatewayclasses.${GROUP}`, undefined, gatewayClass)
    if (!classes.ok) throw new Error(classes.error.message)
    const pending = { status: 'Unknown', reason: 'Pending' }
    t.match(classes.value.status?.conditions, [{ type: 'Accepted', ...pending }])
    const gateway = await cluster.api.create(
      `gateways.${GROUP}`,
      'default',
      gatewayObject('Gateway', 'waypoint', {
        gatewayClassName: 'some',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      }),
    )
    if (!gateway.ok) throw new Error(gateway.error.message)
    t.match(gateway.value.spec?.listeners, [{ allowedRoutes: { namespaces: { from: 'Same' } } }])
    t.match(gateway.value.status?.conditions, [
      { type: 'Accepted', ...pending },
      { type: 'Programmed', ...pending },
    ])
  },
)

contract(
  'the kinds of the Gateway API refuse what is missing, misspelt or out of range, by the name of the field',
  { nodes: 0 },
  async (t, cluster) => {
    await installKinds(cluster)
    const listener = { name: 'mesh', port: 15008, protocol: 'HBONE' }
    const gateway = (spec: object): KubeInput => gatewayObject('Gateway', 'bad', spec)
    const backend = { name: 'v1', port: 80 }
    const from = { group: GROUP, kind: 'HTTPRoute', namespace: 'shop' }
    const cases: readonly (readonly [string, KubeInput, RegExp])[] = [
      ['gateways', gateway({ gatewayClassName: 'some' }), /spec\.listeners: Required/],
      [
        'gateways',
        gateway({ gatewayClassName: 'some', listeners: [] }),
        /spec\.listeners.* 1 items/,
      ],
      ['gateways', gateway({ listeners: [listener] }), /spec\.gatewayClassName: Required/],
      [
        'gateways',
        gateway({ gatewayClassName: 'some', listeners: [{ ...listener, port: 70_000 }] }),
        /spec\.listeners\[0\]\.port.*65535/,
      ],
      [
        'gateways',
        gateway({
          gatewayClassName: 'some',
          listeners: [{ ...listener, allowedRoutes: { namespaces: { from: 'Some' } } }],
        }),
        /from: Unsupported value: "Some"/,
      ],
      [
        'httproutes',
        route({ matches: [{ path: { type: 'Prefix', value: '/' } }] }),
        /path\.type: Unsupported value: "Prefix"/,
      ],
      ['httproutes', route({ matches: [{ method: 'get' }] }), /method: Unsupported value: "get"/],
      ['httproutes', route({ matches: [{ headers: [{ name: 'x' }] }] }), /value: Required/],
      ['httproutes', route({ backendRefs: [{ ...backend, weight: -1 }] }), /weight.*equal to 0/],
      ['httproutes', route({ timeouts: { request: '1 s' } }), /timeouts\.request.*should match/],
      ['httproutes', route({ filters: [{ type: 'Rewrite' }] }), /Unsupported value: "Rewrite"/],
      [
        'grpcroutes',
        gatewayObject('GRPCRoute', 'bad', {
          rules: [{ matches: [{ method: { type: 'Prefix' } }] }],
        }),
        /method\.type: Unsupported value: "Prefix"/,
      ],
      [
        'referencegrants',
        gatewayObject('ReferenceGrant', 'bad', { from: [from], to: [{ group: '' }] }),
        /spec\.to\[0\]\.kind: Required/,
      ],
      [
        'gatewayclasses',
        gatewayObject('GatewayClass', 'bad', { controllerName: 'nothing' }),
        /spec\.controllerName.*should match/,
      ],
    ]
    for (const [plural, object, message] of cases) {
      const namespace = plural === 'gatewayclasses' ? undefined : 'default'
      const answer = await cluster.api.create(`${plural}.${GROUP}`, namespace, object)
      t.match(answer, { ok: false, error: { message } }, JSON.stringify(object.spec))
    }
  },
)
