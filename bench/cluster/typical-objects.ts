// SPDX-License-Identifier: Apache-2.0
// The objects of a cluster as typical Deployments make them: a pod has 4.6 KB of JSON, managedFields among it. They are made when they
// are asked for, so that a hundred thousand of them need no memory.

import type { EndpointSlice, Pod, PolicyResource, Service } from '../../mesh/kube/index.ts'

/** How many of each kind; pods go round services, services round namespaces, pods round nodes. */
export interface ClusterSize {
  readonly pods: number
  readonly services: number
  readonly namespaces: number
  readonly nodes: number
  readonly policies: number
}

const ago = '2026-03-01T08:30:00Z'
const hash = (index: number): string => (0x6b7f9c4d58 + index).toString(16).slice(0, 10)
const uid = (index: number): string => {
  const hex = index.toString(16).padStart(12, '0')
  return `3f2504e0-4f89-41d3-9a0c-${hex}`
}

/** A cluster's objects by number, from 0. Pods may come and move. */
export class TypicalObjects {
  readonly size: ClusterSize
  #pods: number
  readonly #moved = new Map<number, string>()

  constructor(size: ClusterSize) {
    this.size = size
    this.#pods = size.pods
  }

  /** How many pods there are now. */
  get pods(): number {
    return this.#pods
  }

  /** One pod more; gives its number. */
  addPod(): number {
    this.#pods += 1
    return this.#pods - 1
  }

  /** The pod of this number has another address from now on. */
  movePod(index: number, ip: string): void {
    this.#moved.set(index, ip)
  }

  /** The pod of this number, as it stands now. */
  pod(index: number): Pod {
    const service = index % this.size.services
    const ip = this.#address(index)
    const condition = (type: string) => ({ type, status: 'True', lastTransitionTime: ago })
    return {
      metadata: this.#metadata(index),
      spec: {
        nodeName: `node-${index % this.size.nodes}`,
        serviceAccountName: `service-${service}`,
        serviceAccount: `service-${service}`,
        restartPolicy: 'Always',
        dnsPolicy: 'ClusterFirst',
        schedulerName: 'default-scheduler',
        terminationGracePeriodSeconds: 30,
        volumes: [
          {
            name: 'kube-api-access-x7k2p',
            projected: {
              defaultMode: 420,
              sources: [
                { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
                {
                  configMap: {
                    name: 'kube-root-ca.crt',
                    items: [{ key: 'ca.crt', path: 'ca.crt' }],
                  },
                },
              ],
            },
          },
        ],
        containers: [
          {
            name: 'main',
            image: `registry.example.com/shop/service-${service}:1.14.2`,
            imagePullPolicy: 'IfNotPresent',
            ports: [
              { name: 'http', containerPort: 8080, protocol: 'TCP' },
              { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
            ],
            env: [
              { name: 'LOG_LEVEL', value: 'info' },
              {
                name: 'DATABASE_URL',
                value: `postgres://db.namespace-${service % this.size.namespaces}/shop`,
              },
              {
                name: 'POD_IP',
                valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.podIP' } },
              },
            ],
            resources: {
              requests: { cpu: '100m', memory: '128Mi' },
              limits: { cpu: '1', memory: '256Mi' },
            },
            readinessProbe: {
              httpGet: { path: '/healthz', port: 'http', scheme: 'HTTP' },
              periodSeconds: 10,
              timeoutSeconds: 1,
              successThreshold: 1,
              failureThreshold: 3,
            },
            volumeMounts: [
              {
                name: 'kube-api-access-x7k2p',
                readOnly: true,
                mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
              },
            ],
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
          },
        ],
        tolerations: [
          {
            key: 'node.kubernetes.io/not-ready',
            operator: 'Exists',
            effect: 'NoExecute',
            tolerationSeconds: 300,
          },
          {
            key: 'node.kubernetes.io/unreachable',
            operator: 'Exists',
            effect: 'NoExecute',
            tolerationSeconds: 300,
          },
        ],
      },
      status: {
        phase: 'Running',
        hostIP: `172.18.0.${index % this.size.nodes}`,
        podIP: ip,
        podIPs: [{ ip }],
        startTime: ago,
        qosClass: 'Burstable',
        conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map(condition),
        containerStatuses: [
          {
            name: 'main',
            ready: true,
            started: true,
            restartCount: 0,
            image: `registry.example.com/shop/service-${service}:1.14.2`,
            imageID: `registry.example.com/shop/service-${service}@sha256:${'0a'.repeat(32)}`,
            containerID: `containerd://${index.toString(16).padStart(64, '0')}`,
            state: { running: { startedAt: ago } },
            lastState: {},
          },
        ],
      },
    }
  }

  /** The Service of this number. */
  service(index: number): Service {
    const clusterIP = `10.96.${index >> 8}.${index & 255}`
    return {
      metadata: {
        name: `service-${index}`,
        namespace: `namespace-${index % this.size.namespaces}`,
        uid: uid(2e6 + index),
      },
      spec: {
        clusterIP,
        clusterIPs: [clusterIP],
        selector: { app: `service-${index}` },
        ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
      },
    }
  }

  /** The EndpointSlice of the Service of this number, with all its pods as they stand now. */
  slice(index: number): EndpointSlice {
    const endpoints: EndpointSlice['endpoints'] = []
    for (let pod = index; pod < this.#pods; pod += this.size.services) {
      const { name = '', namespace = '' } = this.#metadata(pod)
      endpoints.push({
        addresses: [this.#address(pod)],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: `node-${pod % this.size.nodes}`,
        targetRef: { kind: 'Pod', namespace, name, uid: uid(pod) },
        zone: 'zone-a',
      })
    }
    return {
      metadata: {
        name: `service-${index}-abcde`,
        namespace: `namespace-${index % this.size.namespaces}`,
        uid: uid(3e6 + index),
        labels: { 'kubernetes.io/service-name': `service-${index}` },
      },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints,
    }
  }

  /** Ten rules, each of a caller and a port, for the pods of one Service; other ports with each generation. */
  policy(index: number, generation = 1): PolicyResource {
    const service = index % this.size.services
    return {
      metadata: {
        name: `policy-${index}`,
        namespace: `namespace-${service % this.size.namespaces}`,
        uid: uid(4e6 + index),
        resourceVersion: String(900_000 + index),
        creationTimestamp: ago,
        generation,
      },
      spec: {
        selector: { matchLabels: { app: `service-${service}` } },
        action: 'ALLOW',
        rules: Array.from({ length: 10 }, (_, rule) => ({
          from: [{ source: { principals: [`cluster.local/ns/n-${index}/sa/caller-${rule}`] } }],
          to: [{ operation: { ports: [String(8079 + generation + rule)] } }],
        })),
      },
    }
  }

  #address(index: number): string {
    return (
      this.#moved.get(index) ?? `10.${244 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`
    )
  }

  #metadata(index: number): NonNullable<Pod['metadata']> {
    const service = index % this.size.services
    const app = `service-${service}`
    const replicaSet = `${app}-${hash(service)}`
    return {
      name: `${replicaSet}-${(index + 60_466_176).toString(36).slice(-5)}`,
      generateName: `${replicaSet}-`,
      namespace: `namespace-${service % this.size.namespaces}`,
      uid: uid(index),
      resourceVersion: String(500_000 + index),
      creationTimestamp: ago,
      labels: {
        app,
        'app.kubernetes.io/name': app,
        'app.kubernetes.io/instance': `${app}-production`,
        'app.kubernetes.io/version': '1.14.2',
        'pod-template-hash': hash(service),
      },
      annotations: {
        'ambient.istio.io/redirection': 'enabled',
        'prometheus.io/scrape': 'true',
        'checksum/config': '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
      },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: replicaSet,
          uid: uid(1_000_000 + service),
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
      managedFields: managedFields(uid(1_000_000 + service)),
    }
  }
}

function managedFields(owner: string): NonNullable<NonNullable<Pod['metadata']>['managedFields']> {
  const f = (...names: readonly string[]): Record<string, object> =>
    Object.fromEntries(names.map((name) => [`f:${name}`, {}]))
  const condition = (type: string) => ({
    [`k:{"type":"${type}"}`]: { '.': {}, ...f('lastProbeTime', 'lastTransitionTime', 'status') },
  })
  return [
    {
      manager: 'kube-controller-manager',
      operation: 'Update',
      apiVersion: 'v1',
      time: ago,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:metadata': {
          ...f('generateName'),
          'f:labels': { '.': {}, ...f('app', 'app.kubernetes.io/name', 'pod-template-hash') },
          'f:ownerReferences': { '.': {}, [`k:{"uid":"${owner}"}`]: {} },
        },
        'f:spec': {
          'f:containers': {
            'k:{"name":"main"}': {
              '.': {},
              ...f('image', 'imagePullPolicy', 'name', 'ports', 'resources', 'env'),
              ...f('terminationMessagePath', 'terminationMessagePolicy'),
            },
          },
          ...f('dnsPolicy', 'enableServiceLinks', 'restartPolicy', 'schedulerName'),
          ...f('securityContext', 'serviceAccountName', 'terminationGracePeriodSeconds'),
        },
      },
    },
    {
      manager: 'kubelet',
      operation: 'Update',
      apiVersion: 'v1',
      time: ago,
      fieldsType: 'FieldsV1',
      subresource: 'status',
      fieldsV1: {
        'f:status': {
          'f:conditions': {
            ...condition('Initialized'),
            ...condition('ContainersReady'),
            ...condition('Ready'),
          },
          ...f('containerStatuses', 'hostIP', 'hostIPs', 'phase', 'podIP', 'podIPs', 'startTime'),
        },
      },
    },
  ]
}
