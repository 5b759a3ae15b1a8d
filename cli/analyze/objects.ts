// SPDX-License-Identifier: Apache-2.0
// The Kubernetes objects that are analysed, as they stand in the cluster or in files: nothing of them is sure but their kind. And what is
// known at all: a kind that may not be read is not one of which there is nothing.

import {
  AUTHORIZATION_POLICIES,
  BACKEND_TLS_POLICIES,
  CONFIG_MAPS,
  DAEMON_SETS,
  defineResource,
  ENDPOINT_SLICES,
  GRPC_ROUTES,
  HTTP_ROUTES,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  NETWORK_POLICIES,
  PEER_AUTHENTICATIONS,
  PODS,
  SERVICE_ACCOUNTS,
  SERVICES,
  TCP_ROUTES,
  TLS_ROUTES,
} from '../../mesh/kube/index.ts'
import { fieldsOf } from '../../controller/istio-api/flaw.ts'
import type { ObjectRef } from './finding.ts'

export interface RawObject {
  readonly metadata?: object | null | undefined
  readonly spec?: unknown
  readonly [field: string]: unknown
}

const REGISTRATION = 'admissionregistration.k8s.io'
const GATEWAY_GROUP = 'gateway.networking.k8s.io'
const cluster = 'cluster'

/** All kinds that anything here looks at. */
export const KINDS = {
  Namespace: NAMESPACES,
  Pod: PODS,
  Deployment: defineResource('apps', 'v1', 'deployments', 'Deployment'),
  StatefulSet: defineResource('apps', 'v1', 'statefulsets', 'StatefulSet'),
  DaemonSet: DAEMON_SETS,
  Job: defineResource('batch', 'v1', 'jobs', 'Job'),
  CronJob: defineResource('batch', 'v1', 'cronjobs', 'CronJob'),
  Service: SERVICES,
  ServiceAccount: SERVICE_ACCOUNTS,
  EndpointSlice: ENDPOINT_SLICES,
  AuthorizationPolicy: AUTHORIZATION_POLICIES,
  PeerAuthentication: PEER_AUTHENTICATIONS,
  NetworkPolicy: NETWORK_POLICIES,
  Gateway: defineResource(GATEWAY_GROUP, 'v1', 'gateways', 'Gateway'),
  GatewayClass: defineResource(GATEWAY_GROUP, 'v1', 'gatewayclasses', 'GatewayClass', cluster),
  HTTPRoute: HTTP_ROUTES,
  GRPCRoute: GRPC_ROUTES,
  TLSRoute: TLS_ROUTES,
  TCPRoute: TCP_ROUTES,
  BackendTLSPolicy: BACKEND_TLS_POLICIES,
  ConfigMap: CONFIG_MAPS,
  ServiceEntry: defineResource('networking.istio.io', 'v1', 'serviceentries', 'ServiceEntry'),
  MutatingWebhookConfiguration: defineResource(
    REGISTRATION,
    'v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    cluster,
  ),
  ValidatingWebhookConfiguration: defineResource(
    REGISTRATION,
    'v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    cluster,
  ),
  APIService: defineResource('apiregistration.k8s.io', 'v1', 'apiservices', 'APIService', cluster),
} as const satisfies Readonly<Record<string, KubeResource<KubeObject>>>

export type AnalysedKind = keyof typeof KINDS

export const ALL_KINDS = Object.keys(KINDS) as readonly AnalysedKind[]

/** Kinds of which pods are made; what they will be counts, too. */
export const TEMPLATE_KINDS = ['Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob'] as const
export const WORKLOAD_KINDS: readonly AnalysedKind[] = ['Pod', ...TEMPLATE_KINDS]

/** `all`, or what is in those namespaces; a Namespace counts as being in itself. */
export type Known = 'all' | ReadonlySet<string>

export interface Objects {
  readonly of: (kind: AnalysedKind) => readonly RawObject[]
  /** Whether all there is of a kind has been read, in that namespace; without one, everywhere. */
  readonly knows: (kind: AnalysedKind, namespace?: string) => boolean
}

/** Objects by kind, with what of each kind is known; what is not named is not known. */
export function objectsOf(
  byKind: ReadonlyMap<AnalysedKind, readonly RawObject[]>,
  known: ReadonlyMap<AnalysedKind, Known>,
): Objects {
  return {
    of: (kind) => byKind.get(kind) ?? [],
    knows: (kind, namespace) => {
      const what = known.get(kind)
      if (what === undefined || what === 'all') return what === 'all'
      return namespace !== undefined && what.has(namespace)
    },
  }
}

/** What an object is called; texts that are none are empty. */
export function refOf(kind: string, { metadata }: RawObject): ObjectRef {
  const { name, namespace } = fieldsOf(metadata) ?? {}
  return { kind, namespace: textOf(namespace), name: textOf(name) }
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Labels or annotations; what is no text is left out. */
export function textsOf(value: unknown): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(fieldsOf(value) ?? {}).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  )
}

/** The maps of a list. */
export function mapsOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value)
    ? (value as readonly unknown[]).map((each) => fieldsOf(each) ?? {})
    : []
}
