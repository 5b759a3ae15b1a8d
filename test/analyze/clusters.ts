// SPDX-License-Identifier: Apache-2.0
// Small clusters for `ambit analyze`, written as manifests.

import {
  ALL_KINDS,
  type AnalysedKind,
  type Objects,
  objectsOf,
  type RawObject,
} from '../../cli/analyze/objects.ts'
import type { WorldOptions } from '../../cli/analyze/world.ts'
import { parseManifests } from '../../lab/machine/manifests.ts'

export const OPTIONS: WorldOptions = {
  rootNamespace: 'istio-system',
  trustDomain: 'cluster.local',
  systemNamespace: 'ambit-system',
  now: new Date('2026-11-28T12:00:00Z'),
}

/** A namespace in the mesh with a frontend that calls a catalog: nothing is wrong with it. */
export const SHOP = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }
---
apiVersion: v1
kind: Namespace
metadata: { name: legacy }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: frontend, namespace: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: catalog, namespace: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: frontend, namespace: shop, labels: { app: frontend } }
spec: { serviceAccountName: frontend, containers: [{ name: app, ports: [{ name: http, containerPort: 8080 }] }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: catalog, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  template:
    metadata: { labels: { app: catalog } }
    spec: { serviceAccountName: catalog, containers: [{ name: app, ports: [{ name: http, containerPort: 8080 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: batch, namespace: legacy, labels: { app: batch } }
spec: { containers: [{ name: app }] }
---
apiVersion: v1
kind: Service
metadata: { name: catalog, namespace: shop }
spec: { selector: { app: catalog }, ports: [{ port: 80, targetPort: http }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: frontend-only, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  rules:
    - from: [{ source: { principals: [cluster.local/ns/shop/sa/frontend] } }]
      to: [{ operation: { ports: ["8080"] } }]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: catalog, namespace: shop, creationTimestamp: "2026-11-01T00:00:00Z" }
spec:
  selector: { matchLabels: { app: catalog } }
  mtls: { mode: STRICT }
  portLevelMtls: { 8080: { mode: STRICT } }
`

/** Objects of these texts, as of a cluster that may be read whole, but for some kinds. */
export function clusterOf(
  texts: readonly string[],
  unknown: readonly AnalysedKind[] = [],
): Objects {
  const byKind = new Map<AnalysedKind, RawObject[]>()
  for (const { kind: text, object } of texts.flatMap((each) => parseManifests(each, 'test.yaml'))) {
    const kind = ALL_KINDS.find((each) => each === text)
    if (kind === undefined) throw new Error(`nothing looks at a ${text}`)
    byKind.set(kind, [...(byKind.get(kind) ?? []), object])
  }
  const read = ALL_KINDS.filter((kind) => !unknown.includes(kind))
  return objectsOf(
    new Map(read.map((kind) => [kind, byKind.get(kind) ?? []])),
    new Map(read.map((kind) => [kind, 'all'])),
  )
}
