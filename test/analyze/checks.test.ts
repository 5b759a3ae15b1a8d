// SPDX-License-Identifier: Apache-2.0
// Each finding of `ambit analyze`, in a cluster that has nothing else wrong; and clusters that look like it and have nothing wrong.

import t from 'tap'
import { analyze } from '../../cli/analyze/analyze.ts'
import { CATALOGUE } from '../../cli/analyze/catalogue.ts'
import { refName } from '../../cli/analyze/finding.ts'
import { makeRoot } from '../hbone/certs.ts'
import { clusterOf, OPTIONS, SHOP } from './clusters.ts'

const policy = (name: string, spec: string, more = '', namespace = 'shop'): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: ${namespace}${more} }
spec: ${spec}
`
const peer = (name: string, spec: string, namespace = 'shop', createdAt = '2026-11-02'): string => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: ${name}, namespace: ${namespace}, creationTimestamp: "${createdAt}T00:00:00Z" }
spec: ${spec}
`
const service = (name: string, spec: string, more = ''): string => `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop${more} }
spec: ${spec}
`
const pod = (name: string, metadata: string, namespace = 'shop'): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, ${metadata} }
spec: { containers: [{ name: app, ports: [{ name: http, containerPort: 8080 }] }] }
`
const namespace = (name: string, labels: string): string => `
apiVersion: v1
kind: Namespace
metadata: { name: ${name}, labels: { ${labels} } }
`
const slice = (ready: boolean): string => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: catalog-1, namespace: shop, labels: { kubernetes.io/service-name: catalog } }
endpoints: [{ addresses: [10.0.0.1], conditions: { ready: ${String(ready)} } }]
`
const webhook = (port: number): string => `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: { name: guard }
webhooks: [{ name: guard.shop, clientConfig: { service: { namespace: shop, name: catalog, port: ${String(port)} } } }]
`
const gateway = (name: string, more = '', status = '{}', className = 'ambit-waypoint'): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: ${name}, namespace: shop${more} }
spec: { gatewayClassName: ${className}, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
status: ${status}
`
const route = (
  name: string,
  rules: string,
  parent = 'way',
  kind = 'HTTPRoute',
  day = 1,
): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: ${kind}
metadata: { name: ${name}, namespace: shop, creationTimestamp: "2026-11-0${String(day)}T00:00:00Z" }
spec: { parentRefs: [{ group: "", kind: Service, name: ${parent} }], rules: ${rules} }
`
const atGateway = (name: string, gatewayName: string): string =>
  route(name, '[{}]').replace('group: "", kind: Service, name: way', `name: ${gatewayName}`)
const network = (name: string, spec: string, namespace = 'shop'): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`
const AUTHORITY = (await makeRoot()).pem
const bundle = (name: string, text: string): string =>
  `\n{ apiVersion: v1, kind: ConfigMap, metadata: { name: ${name}, namespace: shop }, data: { ca.crt: ${JSON.stringify(text)} } }\n`
const bundleRef = (name: string): string => `{ group: "", kind: ConfigMap, name: ${name} }`
const backendTls = (name: string, target: string, authorities: readonly string[]): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: { name: ${name}, namespace: shop }
spec:
  targetRefs: [{ group: "", kind: Service, name: ${target} }]
  validation: { hostname: catalog.example, caCertificateRefs: [${authorities.join(', ')}] }
`
const gatewayClass = (name: string, controllerName: string, more = ''): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: ${name}${more} }
spec: { controllerName: ${controllerName} }
`
const programmed = (status: string): string =>
  `{ conditions: [{ type: Accepted, status: "True" }, { type: Programmed, status: "${status}", reason: Pending, message: no pod is ready }] }`
const waypointFor = (word: string): string => `, labels: { istio.io/waypoint-for: ${word} }`
/** A Service and a pod that name the Gateway shop/gate. */
const uses = (): string =>
  [
    service(
      'way',
      '{ selector: { app: frontend }, ports: [{ port: 80, targetPort: 8080 }] }',
      ', labels: { istio.io/use-waypoint: gate }',
    ),
    pod('bound', 'labels: { app: bound, istio.io/use-waypoint: gate }'),
  ].join('---')
/** A Service that names two Gateways of the shop. */
const canary = (name: string, beside: string, other: string, weight: string): string =>
  service(
    name,
    '{ selector: { app: frontend }, ports: [{ port: 80, targetPort: 8080 }] }',
    `, labels: { istio.io/use-waypoint: ${beside}, istio.io/use-waypoint-canary: ${other} }, annotations: { istio.io/use-waypoint-canary-weight: "${weight}" }`,
  )
const PORT_8080 = 'to: [{ operation: { ports: ["8080"] } }]'
const frontend = 'from: [{ source: { principals: [cluster.local/ns/shop/sa/frontend] } }]'

/** What stands beside the shop, and what is said of it: code, object and field. */
const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['nothing is wrong with the shop', '', []],
  [
    'a misspelt label',
    policy('typo', '{ selector: { matchLabels: { app: catalogue } }, rules: [{}] }'),
    ['AMB101 shop/typo spec.selector.matchLabels'],
  ],
  [
    'a target that is not there',
    policy(
      'gate',
      '{ targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: gate }], rules: [{}] }',
    ),
    ['AMB102 shop/gate spec.targetRefs[0]'],
  ],
  [
    'targets that no waypoint serves',
    policy(
      'svc',
      '{ targetRefs: [{ kind: Service, name: catalog }, { group: gateway.networking.k8s.io, kind: GatewayClass, name: ambit-waypoint }], rules: [{}] }',
    ) + `---${gatewayClass('ambit-waypoint', 'ambit.io/waypoint-controller')}`,
    ['AMB204 shop/svc spec.targetRefs[0]', 'AMB204 shop/svc spec.targetRefs[1]'],
  ],
  [
    'targets that a waypoint serves, and what its policies may ask',
    [
      uses(),
      gateway('gate', '', programmed('True')),
      policy(
        'l7',
        '{ targetRefs: [{ kind: Service, name: way }, { group: gateway.networking.k8s.io, kind: Gateway, name: gate }], rules: [{ to: [{ operation: { paths: ["/a/{*}"] } }], when: [{ key: "request.headers[x]", values: [a] }] }] }',
      ),
      policy(
        'jwt',
        '{ targetRef: { kind: Service, name: way }, rules: [{ from: [{ source: { requestPrincipals: ["*"] } }] }] }',
      ),
    ].join('---'),
    [
      'AMB109 shop/bound metadata.labels[istio.io/use-waypoint]',
      'AMB201 shop/jwt spec.rules[0].from[0].source.requestPrincipals',
    ],
  ],
  [
    'routes to what is not there, and for what is not there',
    [
      uses(),
      gateway('gate', '', programmed('True')),
      gatewayClass('ambit-waypoint', 'ambit.io/waypoint-controller', waypointFor('all')),
      route(
        'a',
        '[{ backendRefs: [{ name: catalog, port: 80 }, { name: gone, port: 80 }], filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: catalog, port: 81 } } }] }]',
      ),
      route(
        'b',
        '[{ backendRefs: [{ name: gone, namespace: legacy, port: 80 }] }]',
        'way',
        'TCPRoute',
      ),
      route('c', '[{ backendRefs: [{ name: catalog, port: 80 }] }]', 'nobody', 'GRPCRoute'),
      route('d', '[{ backendRefs: [{ name: catalog, port: 80 }] }]', 'catalog'),
      route('e', '[{ backendRefs: [{ name: x, port: 80, group: example.com, kind: Thing }] }]'),
    ].join('---'),
    [
      'AMB110 shop/a spec.rules[0].backendRefs[1]',
      'AMB110 shop/a spec.rules[0].filters[0].requestMirror.backendRef',
      'AMB110 shop/b spec.rules[0].backendRefs[0]',
      'AMB111 shop/c spec.parentRefs',
      'AMB209 shop/d spec.parentRefs',
      'AMB302 shop/e spec.rules[0]',
    ],
  ],
  [
    'BackendTLSPolicies for what is not there, and by which nobody can be trusted',
    [
      bundle('right', AUTHORITY),
      bundle('odd', 'no certificate'),
      '\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: bare, namespace: shop }\ndata: { x: y }\n',
      backendTls('a', 'catalog', [bundleRef('right')]),
      backendTls('b', 'gone', [bundleRef('gone'), bundleRef('odd'), bundleRef('bare')]),
      backendTls('c', 'catalog, sectionName: http', [
        bundleRef('right'),
        '{ group: "", kind: Secret, name: right }',
      ]),
      backendTls('d', 'catalog', []),
    ].join('---'),
    [
      'AMB112 shop/b spec.targetRefs',
      'AMB112 shop/c spec.targetRefs',
      'AMB113 shop/b spec.validation.caCertificateRefs[0]',
      'AMB113 shop/b spec.validation.caCertificateRefs[1]',
      'AMB113 shop/b spec.validation.caCertificateRefs[2]',
      'AMB113 shop/c spec.validation.caCertificateRefs[1]',
      'AMB202 shop/d spec.validation.wellKnownCACertificates',
    ],
  ],
  [
    'rules that others leave nothing',
    [
      uses(),
      gateway('gate', '', programmed('True')),
      gatewayClass('ambit-waypoint', 'ambit.io/waypoint-controller', waypointFor('all')),
      route(
        'old',
        '[{ matches: [{ path: { value: /a }, headers: [{ name: X-One, value: "1" }, { name: x-two, value: "2" }] }] }, { matches: [{ method: GET }] }, { matches: [{ method: GET }, { method: PUT }] }, { matches: [{ method: GET }] }]',
      ),
      route(
        'new',
        '[{ matches: [{ path: { value: /a }, headers: [{ name: x-two, value: "2" }, { name: x-one, value: "1" }] }] }, { matches: [{ path: { value: /a } }] }, { matches: [{ method: PUT }] }]',
        'way',
        'HTTPRoute',
        2,
      ),
      route('else', '[{ matches: [{ method: { method: GET, service: a } }] }]', 'way', 'GRPCRoute'),
    ].join('---'),
    [
      'AMB302 shop/new spec.rules[0]',
      'AMB302 shop/new spec.rules[2]',
      'AMB302 shop/old spec.rules[3]',
    ],
  ],
  [
    'sources that are not there',
    policy(
      'who',
      '{ action: DENY, rules: [{ from: [{ source: { namespaces: [shopp] } }, { source: { principals: [cluster.local/ns/shop/sa/fronted, other.domain/ns/x/sa/y] } }], when: [{ key: source.serviceAccount, values: [catalog, gone] }] }] }',
    ),
    [
      'AMB103 shop/who spec.rules[0].from[0].source.namespaces[0]',
      'AMB104 shop/who spec.rules[0].from[1].source.principals[0]',
      'AMB104 shop/who spec.rules[0].when[0].values[1]',
    ],
  ],
  [
    'a Service for nobody',
    service('none', '{ selector: { app: nobody }, ports: [{ port: 80 }] }'),
    ['AMB105 shop/none spec.selector'],
  ],
  [
    'a Service whose endpoints somebody else writes',
    service('own', '{ ports: [{ port: 80 }] }'),
    [],
  ],
  [
    'a port by a wrong name',
    service(
      'web',
      '{ selector: { app: frontend }, ports: [{ port: 80, targetPort: htp }, { port: 81, targetPort: 9000 }] }',
    ),
    ['AMB106 shop/web spec.ports[0].targetPort'],
  ],
  [
    'waypoints that are not there',
    service(
      'way',
      '{ selector: { app: frontend }, ports: [{ port: 80 }] }',
      ', labels: { istio.io/use-waypoint: gate, istio.io/use-waypoint-namespace: legacy }',
    ),
    ['AMB107 shop/way metadata.labels[istio.io/use-waypoint]'],
  ],
  [
    'waypoints that are there, and ready for all that names them',
    gateway('gate', waypointFor('all'), programmed('True')) +
      '---' +
      gatewayClass('ambit-waypoint', 'ambit.io/waypoint-controller') +
      '---' +
      uses(),
    [],
  ],
  [
    'a waypoint that nobody has judged yet, as in files',
    gateway('gate', waypointFor('all')) + '---' + uses(),
    [],
  ],
  [
    'a waypoint that is not Programmed',
    gateway('gate', waypointFor('all'), programmed('False')) + '---' + uses(),
    [
      'AMB108 shop/bound metadata.labels[istio.io/use-waypoint]',
      'AMB108 shop/way metadata.labels[istio.io/use-waypoint]',
    ],
  ],
  [
    "a Gateway of somebody else's class, whatever it is for",
    gateway('gate', waypointFor('none'), programmed('True'), 'ingress') +
      '---' +
      gatewayClass('ingress', 'example.com/ingress') +
      '---' +
      uses(),
    [
      'AMB108 shop/bound metadata.labels[istio.io/use-waypoint]',
      'AMB108 shop/way metadata.labels[istio.io/use-waypoint]',
    ],
  ],
  [
    'a waypoint that is for Services, as it is where nobody says',
    gateway('gate', '', programmed('True')) + '---' + uses(),
    ['AMB109 shop/bound metadata.labels[istio.io/use-waypoint]'],
  ],
  [
    'a waypoint that is for workloads, as its class says',
    gateway('gate', '', programmed('True')) +
      '---' +
      gatewayClass('ambit-waypoint', 'ambit.io/waypoint-controller', waypointFor('workload')) +
      '---' +
      uses(),
    ['AMB109 shop/way metadata.labels[istio.io/use-waypoint]'],
  ],
  [
    'a waypoint for nothing that a namespace names, and one for workloads',
    [
      gateway('gate', waypointFor('none'), programmed('True')),
      gateway('side', waypointFor('workload'), programmed('True')),
      namespace('one', 'istio.io/use-waypoint: gate, istio.io/use-waypoint-namespace: shop'),
      namespace('two', 'istio.io/use-waypoint: side, istio.io/use-waypoint-namespace: shop'),
    ].join('---'),
    ['AMB109 one metadata.labels[istio.io/use-waypoint]'],
  ],
  [
    'canaries of waypoints that are not there, or are for workloads',
    [
      gateway('gate', waypointFor('all'), programmed('True')),
      gateway('side', waypointFor('workload'), programmed('True')),
      canary('lost', 'gate', 'nowhere', '5'),
      canary('other', 'gate', 'side', '5'),
    ].join('---'),
    [
      'AMB107 shop/lost metadata.labels[istio.io/use-waypoint-canary]',
      'AMB109 shop/other metadata.labels[istio.io/use-waypoint-canary]',
    ],
  ],
  [
    'canaries that take nothing, whatever Gateways there are',
    [
      gateway('gate', waypointFor('all'), programmed('True')),
      gateway('side', waypointFor('all'), programmed('True')),
      canary('same', 'gate', 'gate', '5'),
      canary('alone', 'none', 'gate', '5'),
      canary('much', 'gate', 'side', '101'),
      canary('fine', 'gate', 'side', '100'),
    ].join('---'),
    [
      'AMB114 shop/alone metadata.labels[istio.io/use-waypoint-canary]',
      'AMB114 shop/much metadata.annotations[istio.io/use-waypoint-canary-weight]',
      'AMB114 shop/same metadata.labels[istio.io/use-waypoint-canary]',
    ],
  ],
  [
    'routes whose parent is a waypoint, or a Gateway of somebody else',
    [
      gateway('gate', waypointFor('all'), programmed('True')),
      gateway('edge', '', '{}', 'theirs'),
      gatewayClass('theirs', 'example.com/edge'),
      atGateway('at-gate', 'gate'),
      atGateway('at-edge', 'edge'),
    ].join('---'),
    ['AMB115 shop/at-gate spec.parentRefs'],
  ],
  [
    'a canary of who keeps out of the waypoint of his namespace',
    [
      gateway('gate', waypointFor('all'), programmed('True')),
      gateway('side', waypointFor('all'), programmed('True')),
      namespace('shop', 'istio.io/dataplane-mode: ambient, istio.io/use-waypoint: gate'),
      canary('out', 'none', 'side', '5'),
    ].join('---'),
    ['AMB114 shop/out metadata.labels[istio.io/use-waypoint-canary]'],
  ],
  [
    'a condition on requests',
    policy(
      'l7',
      `{ action: DENY, rules: [{ to: [{ operation: { methods: [POST], ports: ["1"] } }] }] }`,
    ),
    ['AMB201 shop/l7 spec.rules[0].to[0].operation.methods'],
  ],
  ['a misspelt field', policy('bad', '{ rulez: [] }'), ['AMB202 shop/bad spec.rulez']],
  [
    'a policy for those outside',
    policy('out', '{ rules: [{ to: [{ operation: { ports: ["1"] } }] }] }', '', 'legacy'),
    ['AMB203 legacy/out metadata.namespace'],
  ],
  ['a DENY without rules', policy('empty', '{ action: DENY }'), ['AMB205 shop/empty spec.rules']],
  [
    'a provider',
    policy('ask', '{ action: CUSTOM, provider: { name: x }, rules: [{}] }'),
    ['AMB206 shop/ask spec.action'],
  ],
  [
    'a trial of a month, and one of a day',
    policy(
      'old',
      `{ action: DENY, rules: [{ ${PORT_8080} }] }`,
      ', creationTimestamp: "2026-10-28T00:00:00Z", annotations: { istio.io/dry-run: "true" }',
    ) +
      '---' +
      policy(
        'new',
        `{ action: DENY, rules: [{ ${PORT_8080} }] }`,
        ', creationTimestamp: "2026-11-27T00:00:00Z", annotations: { istio.io/dry-run: "true" }',
      ),
    ['AMB207 shop/old metadata.annotations[istio.io/dry-run]'],
  ],
  [
    'a DENY of all',
    policy('nobody', '{ action: DENY, rules: [{}] }'),
    ['AMB208 shop/frontend-only spec.action', 'AMB502 shop/catalog spec.selector'],
  ],
  [
    'a rule within another, of the namespace',
    policy('wide', `{ rules: [{ ${frontend} }] }`),
    ['AMB301 shop/frontend-only spec.rules[0]'],
  ],
  [
    'the same rule twice: the later one goes',
    policy(
      'twice',
      `{ action: DENY, rules: [{ ${PORT_8080} }, { to: [{ operation: { ports: ["1"] } }] }, { ${PORT_8080} }] }`,
    ),
    ['AMB301 shop/twice spec.rules[2]'],
  ],
  [
    'a rule of another action',
    policy('deny', `{ action: DENY, rules: [{ ${frontend}, ${PORT_8080} }] }`),
    [],
  ],
  ['a webhook', webhook(80), ['AMB402 guard webhooks[0].clientConfig.service']],
  [
    'a webhook with a port of its own',
    webhook(9443) +
      '---' +
      service('guard', '{ selector: { app: catalog }, ports: [{ port: 9443 }] }'),
    [],
  ],
  [
    'a node port',
    service(
      'out',
      '{ type: NodePort, selector: { app: catalog }, ports: [{ port: 80, targetPort: http }] }',
    ),
    ['AMB403 shop/out spec.ports[0]'],
  ],
  ['no endpoint is ready', slice(false), ['AMB501 shop/catalog spec.selector']],
  ['one is', slice(true), []],
  [
    'nobody is allowed',
    policy('nothing', '{}') +
      '---' +
      service('front', '{ selector: { app: frontend }, ports: [{ port: 80 }] }'),
    ['AMB502 shop/front spec.selector'],
  ],
  [
    'two of the namespace, two of a pod',
    peer('one', '{}') +
      '---' +
      peer('two', '{}', 'shop', '2026-11-03') +
      '---' +
      peer('three', '{ selector: { matchLabels: { app: catalog } } }'),
    ['AMB601 shop/three spec.selector', 'AMB601 shop/two metadata.namespace'],
  ],
  [
    "the Service's port instead of the pod's",
    peer(
      'front',
      '{ selector: { matchLabels: { app: frontend } }, portLevelMtls: { 80: { mode: PERMISSIVE } } }',
    ) +
      '---' +
      service('front', '{ selector: { app: frontend }, ports: [{ port: 80, targetPort: 8080 }] }'),
    ['AMB602 shop/front spec.portLevelMtls[80]'],
  ],
  [
    'both modes at once',
    namespace('both', 'istio.io/dataplane-mode: ambient, istio-injection: enabled') +
      '---' +
      pod('side', 'labels: { sidecar.istio.io/inject: "true" }'),
    [
      'AMB603 both metadata.labels[istio-injection]',
      'AMB603 shop/side metadata.labels[sidecar.istio.io/inject]',
    ],
  ],
  [
    'a mode that there is not',
    namespace('odd', 'istio.io/dataplane-mode: ambiant'),
    ['AMB604 odd metadata.labels[istio.io/dataplane-mode]'],
  ],
  [
    'NetworkPolicies of which something cannot be read',
    [
      network('rules', '{ podSelector: {}, ingress: 7 }'),
      network('port', '{ podSelector: {}, ingress: [{ ports: [{ port: 99999 }] }] }'),
      network('field', '{ podSelector: {}, egres: [] }'),
    ].join('---'),
    [
      'AMB202 shop/field spec.egres',
      'AMB202 shop/port spec.ingress[0].ports[0].port',
      'AMB202 shop/rules spec.ingress',
    ],
  ],
  [
    'NetworkPolicies that let the app through, and not HBONE',
    [
      network(
        'into',
        '{ podSelector: { matchExpressions: [{ key: app, operator: In, values: [catalog, x] }] }, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: http }] }] }',
      ),
      network(
        'out',
        '{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ podSelector: {} }], ports: [{ port: 8080 }] }, { ports: [{ port: 53, protocol: UDP }] }] }',
      ),
    ].join('---'),
    ['AMB605 shop/into spec.ingress', 'AMB605 shop/out spec.egress'],
  ],
  [
    'NetworkPolicies that mean what they say: of HBONE as well, of all ports, of nobody, of who is outside, and of pods outside',
    [
      network(
        'into',
        '{ podSelector: { matchLabels: { app: catalog } }, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: http }] }] }',
      ),
      network(
        'tunnels',
        '{ podSelector: {}, ingress: [{ ports: [{ port: 15000, endPort: 15010 }] }] }',
      ),
      network(
        'peers',
        '{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ namespaceSelector: {} }] }] }',
      ),
      network('nobody', '{ podSelector: { matchLabels: { app: frontend } } }'),
      network(
        'outside',
        '{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 203.0.113.0/24 } }], ports: [{ port: 8080 }] }] }',
      ),
      network('legacy', '{ podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }', 'legacy'),
    ].join('---'),
    [],
  ],
]

const covered = new Set<string>()

function codesOf(texts: readonly string[], options = OPTIONS): readonly string[] {
  const { findings } = analyze(clusterOf(texts), options)
  for (const { code } of findings) covered.add(code)
  return findings.map(({ code, object, field }) => `${code} ${refName(object)} ${field}`).sort()
}

for (const [name, text, expected] of CASES)
  void t.test(`analyze: ${name}`, (t) => {
    t.same(codesOf([SHOP, text]), expected)
    t.end()
  })

void t.test('a pod that is alone in the mesh and STRICT has nobody who could call it', (t) => {
  const alone = [
    namespace('solo', 'istio.io/dataplane-mode: ambient'),
    pod('web', 'labels: { app: web }', 'solo'),
    service('web', '{ selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }').replace(
      'namespace: shop',
      'namespace: solo',
    ),
    peer('strict', '{ mtls: { mode: STRICT } }', 'solo'),
  ]
  t.same(codesOf(alone), ['AMB503 solo/web spec.selector'])
  t.same(codesOf([...alone, pod('caller', 'labels: { app: caller }', 'solo')]), [])
  t.end()
})

void t.test('callers that agents have refused are told of at the object that refuses them', (t) => {
  const refusedCallers = [
    {
      who: 'pod legacy/batch',
      target: 'pod shop/catalog at 10.244.1.2:8080',
      object: { kind: 'PeerAuthentication', namespace: 'shop', name: 'catalog' },
      calls: 3,
      last: '2026-11-28T11:00:00.000Z',
    },
  ]
  t.same(codesOf([SHOP], { ...OPTIONS, refusedCallers }), ['AMB401 shop/catalog spec.mtls.mode'])
  t.end()
})

void t.test('a kind that may not be read makes nothing wrong, and is named', (t) => {
  const { findings, notChecked } = analyze(
    clusterOf([SHOP], ['ServiceAccount', 'Namespace', 'Pod', 'EndpointSlice']),
    OPTIONS,
  )
  t.same(findings, [])
  t.match(
    notChecked.find(({ codes }) => codes.includes('AMB104')),
    { kinds: ['Namespace', 'ServiceAccount'] },
  )
  t.end()
})

void t.test('what a waypoint is for is not guessed where classes may not be read', (t) => {
  const objects = clusterOf(
    [SHOP, gateway('gate', '', programmed('True')), uses()],
    ['GatewayClass'],
  )
  t.same(analyze(objects, OPTIONS).findings, [])
  t.end()
})

void t.test('objects of which nothing is as it must be are read without harm', (t) => {
  for (const junk of [
    'null',
    '7',
    '[]',
    '"text"',
    '{ selector: 3, rules: 4, ports: {}, template: [] }',
  ])
    for (const [apiVersion, kind] of [
      ['v1', 'Pod'],
      ['v1', 'Service'],
      ['apps/v1', 'Deployment'],
      ['batch/v1', 'CronJob'],
      ['security.istio.io/v1', 'AuthorizationPolicy'],
      ['security.istio.io/v1', 'PeerAuthentication'],
      ['networking.k8s.io/v1', 'NetworkPolicy'],
      ['apiregistration.k8s.io/v1', 'APIService'],
      ['gateway.networking.k8s.io/v1', 'Gateway'],
      ['gateway.networking.k8s.io/v1', 'GatewayClass'],
      ['gateway.networking.k8s.io/v1', 'BackendTLSPolicy'],
      ['v1', 'ConfigMap'],
    ] as const) {
      const text = `{ apiVersion: ${apiVersion}, kind: ${kind}, metadata: { name: x, namespace: shop, labels: 3 }, spec: ${junk}, status: ${junk} }`
      t.doesNotThrow(() => analyze(clusterOf([SHOP, text]), OPTIONS), `${kind} ${junk}`)
    }
  t.end()
})

void t.test('every finding of the catalogue has been found', (t) => {
  t.same(
    Object.keys(CATALOGUE).filter((code) => !covered.has(code)),
    [],
  )
  t.end()
})
