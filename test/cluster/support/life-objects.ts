// SPDX-License-Identifier: Apache-2.0
// What the stories of a life cycle run in a namespace of their own: a server in several pods, and a client that puts load on it.

import { SAMPLE_IMAGE } from '../../../lab/real/images.ts'

export const NAMESPACE = 'ambit-life'
const image = process.env['AMBIT_SAMPLE_IMAGE'] ?? SAMPLE_IMAGE
const PORT = 8080

/** The objects of the namespace, itself included; it is in the mesh. */
export function lifeObjects(): readonly object[] {
  const labels = { app: 'web' }
  return [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: NAMESPACE, labels: { 'istio.io/dataplane-mode': 'ambient' } },
    },
    serviceAccount('web'),
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: metadata('web'),
      spec: {
        replicas: 3,
        selector: { matchLabels: labels },
        strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: 'web',
            topologySpreadConstraints: [
              {
                maxSkew: 1,
                topologyKey: 'kubernetes.io/hostname',
                whenUnsatisfiable: 'ScheduleAnyway',
                labelSelector: { matchLabels: labels },
              },
            ],
            containers: [
              {
                name: 'app',
                image,
                command: ['node', 'lab/samples/server.ts'],
                env: [{ name: 'SERVICE', value: 'web' }],
                ports: [{ containerPort: PORT, name: 'http' }],
                readinessProbe: { httpGet: { path: '/healthz', port: PORT }, periodSeconds: 1 },
              },
            ],
          },
        },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: metadata('web'),
      spec: { selector: labels, ports: [{ name: 'http', port: 80, targetPort: PORT }] },
    },
    ...clientObjects('client'),
  ]
}

const metadata = (name: string, namespace = NAMESPACE): object => ({ name, namespace })
const serviceAccount = (name: string, namespace = NAMESPACE): object => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: metadata(name, namespace),
})

/** A pod from which programs of the sample are run, with an identity of its own. */
export function clientObjects(name: string, namespace = NAMESPACE): readonly object[] {
  return [
    serviceAccount(name, namespace),
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, labels: { app: name } },
      spec: {
        serviceAccountName: name,
        terminationGracePeriodSeconds: 1,
        containers: [{ name: 'app', image, command: ['sleep', 'infinity'] }],
      },
    },
  ]
}
