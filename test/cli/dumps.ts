// SPDX-License-Identifier: Apache-2.0
// Config dumps for the tests of what commands show.

import type { ConfigDump } from '../../cli/dump/config-dump.ts'

/** A dump of a node with two pods of a shop, as an agent gives it. */
export function shopDump(overrides: Partial<ConfigDump> = {}): ConfigDump {
  const workload = (name: string, ip: string, more: object = {}) => ({
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    workloadIps: [ip],
    node: 'node-a',
    protocol: 'HBONE',
    status: 'Healthy',
    ...more,
  })
  return {
    workloads: [
      workload('frontend', '10.244.0.3'),
      workload('catalog', '10.244.0.4', {
        waypoint: { destination: 'shop/gate.shop.svc.cluster.local' },
      }),
      workload('catalog-ill', '10.244.0.5', { status: 'Unhealthy', node: 'node-b' }),
      {
        ...workload('db', '', { protocol: 'TCP' }),
        namespace: 'legacy',
        workloadIps: [],
        hostname: 'db.example',
      },
    ],
    services: [
      {
        name: 'catalog',
        namespace: 'shop',
        hostname: 'catalog.shop.svc.cluster.local',
        vips: ['/10.96.0.1', '/fd00::1'],
        waypoint: { destination: '/10.96.0.2' },
        endpoints: {
          a: { workloadUid: 'Kubernetes//Pod/shop/catalog' },
          b: { workloadUid: 'Kubernetes//Pod/shop/catalog-ill' },
          c: { workloadUid: 'Kubernetes//Pod/shop/gone' },
        },
      },
      {
        name: 'gate',
        namespace: 'shop',
        hostname: 'gate.shop.svc.cluster.local',
        vips: ['/10.96.0.2'],
        endpoints: {},
      },
      {
        name: 'db',
        namespace: 'legacy',
        hostname: 'db.legacy.svc.cluster.local',
        vips: [],
        waypoint: { destination: 'legacy/unknown' },
        endpoints: {},
      },
    ],
    policies: [
      { name: 'b', namespace: 'shop', action: 'Allow', scope: 'WorkloadSelector' },
      { name: 'a', namespace: 'shop', action: 'Deny', scope: 'Namespace', dryRun: true },
      {
        name: 'watch',
        namespace: 'istio-system',
        action: 'Deny',
        scope: 'Global',
        audit: true,
        dryRun: false,
      },
    ],
    unreadablePolicies: [{ key: 'shop/odd', reason: 'rules: is too deep' }],
    certificates: [
      {
        identity: 'spiffe://cluster.local/ns/shop/sa/catalog',
        state: 'Available',
        certChain: [
          {
            serialNumber: '255',
            validFrom: '2026-01-01T00:00:00Z',
            expirationTime: '2026-01-02T00:00:00Z',
          },
          {
            serialNumber: '16',
            validFrom: '2025-01-01T00:00:00Z',
            expirationTime: '2027-01-01T00:00:00Z',
          },
        ],
        rootCerts: [
          {
            serialNumber: '1',
            validFrom: '2020-01-01T00:00:00Z',
            expirationTime: '2030-01-01T00:00:00Z',
          },
        ],
      },
      {
        identity: 'spiffe://cluster.local/ns/shop/sa/absent',
        state: 'Unavailable: no pod of it',
        certChain: [],
      },
    ],
    workloadState: {
      'uid-2': {
        state: 'Up',
        connections: {
          inbound: [
            {
              src: '10.244.0.3:40000',
              actualDst: '10.244.0.4:15008',
              originalDst: '10.244.0.4:8080',
              protocol: 'HBONE',
            },
          ],
          outbound: [],
        },
        info: { name: 'catalog', namespace: 'shop', serviceAccount: 'catalog' },
      },
      'uid-1': {
        connections: {
          inbound: [],
          outbound: [
            {
              src: '10.244.0.3:40000',
              actualDst: '10.244.0.4:15008',
              originalDst: '10.96.0.1:80',
              protocol: 'HBONE',
            },
            {
              src: '[fd00::3]:1',
              actualDst: '[fd00::1]:80',
              originalDst: '[fd00::1]:80',
              protocol: 'TCP',
            },
          ],
        },
        info: { name: 'app', namespace: 'shop', serviceAccount: 'app' },
      },
    },
    capture: [
      { uid: 'uid-1', namespace: 'shop', name: 'app', state: 'captured' },
      { uid: 'uid-2', namespace: 'shop', name: 'catalog', state: 'captured' },
      { uid: 'uid-3', namespace: 'legacy', name: 'db', state: 'outside', reason: 'notLabelled' },
    ],
    discovery: {
      address: 'ambit-controller:15012',
      state: 'connected',
      since: '2026-01-01T00:00:00Z',
      isSynced: true,
      resources: { 'type.googleapis.com/istio.workload.Address': { count: 7, digest: 'aa' } },
    },
    pending: [],
    version: { version: '0.1.0' },
    config: { nodeName: 'node-a' },
    ...overrides,
  }
}
