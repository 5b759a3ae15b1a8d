// SPDX-License-Identifier: Apache-2.0
// kubectl's create commands send protobuf: what arrives must be what kubectl itself prints as JSON.

import { contract, missingKubectl } from './cluster.ts'

const COMMANDS: readonly (readonly [string, readonly string[]])[] = [
  ['namespaces', ['create', 'namespace', 'n']],
  ['serviceaccounts', ['create', 'serviceaccount', 'sa']],
  ['configmaps', ['create', 'configmap', 'cm', '--from-literal=a=b', '--from-literal=c=dé']],
  ['secrets', ['create', 'secret', 'generic', 's', '--from-literal=password=p']],
  [
    'deployments.apps',
    [
      'create',
      'deployment',
      'd',
      '--image=host',
      '--replicas=0',
      '--port=80',
      '--',
      'sleep',
      'inf',
    ],
  ],
  ['services', ['create', 'service', 'nodeport', 'np', '--tcp=80:8080', '--node-port=30123']],
  [
    'roles.rbac.authorization.k8s.io',
    ['create', 'role', 'r', '--verb=get,list', '--resource=pods,deployments.apps'],
  ],
  [
    'clusterrolebindings.rbac.authorization.k8s.io',
    ['create', 'clusterrolebinding', 'b', '--clusterrole=x', '--serviceaccount=default:sa'],
  ],
]

/** Drops nulls and empty objects, which Go prints for what is not set, and status, which is not the client's. */
function compact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(compact)
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value)
    .map(([key, member]) => [key, compact(member)] as const)
    .filter(
      ([key, member]) => key !== 'status' && member !== null && JSON.stringify(member) !== '{}',
    )
  return Object.fromEntries(kept)
}

contract(
  'create commands store what their client-side dry run prints',
  { skip: missingKubectl(), nodes: 0 },
  async (t, cluster) => {
    for (const [resource, args] of COMMANDS) {
      const split = args.indexOf('--') === -1 ? args.length : args.indexOf('--')
      const dryRun = [
        ...args.slice(0, split),
        '--dry-run=client',
        '-o',
        'json',
        ...args.slice(split),
      ]
      const printed = await cluster.kubectl(dryRun)
      t.equal(printed.code, 0, printed.stderr)
      const created = await cluster.kubectl(args)
      t.equal(created.code, 0, created.stderr)
      const wanted = compact(JSON.parse(printed.stdout)) as {
        readonly metadata: { readonly name: string }
      }
      const namespace =
        resource === 'namespaces' || resource.startsWith('cluster') ? undefined : 'default'
      const stored = await cluster.api.get(resource, namespace, wanted.metadata.name)
      t.match(stored.ok && stored.value, wanted, args.join(' '))
    }
  },
)
