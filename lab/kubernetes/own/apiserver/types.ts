// SPDX-License-Identifier: Apache-2.0
// The border of the lab's API server: what its callers (lab lifecycle, kubelet, controllers, tests) see.
// Everything here is data and interfaces; the parts that implement it live beside this file.

import type { Readable, Writable } from 'node:stream'
import type { Result } from '../../../../mesh/result.ts'

export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export type JsonObject = { readonly [field: string]: Json | undefined }

export type OwnerReference = {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean | undefined
  readonly blockOwnerDeletion?: boolean | undefined
}

export type ObjectMeta = {
  readonly name: string
  readonly namespace?: string | undefined
  readonly generateName?: string | undefined
  readonly uid: string
  readonly resourceVersion: string
  readonly generation?: number | undefined
  readonly creationTimestamp: string
  readonly deletionTimestamp?: string | undefined
  readonly deletionGracePeriodSeconds?: number | undefined
  readonly labels?: { readonly [key: string]: string } | undefined
  readonly annotations?: { readonly [key: string]: string } | undefined
  readonly finalizers?: readonly string[] | undefined
  readonly ownerReferences?: readonly OwnerReference[] | undefined
  readonly managedFields?: readonly JsonObject[] | undefined
}

/** A stored object. Never mutated: a write replaces it, so references may be kept and compared. */
export type KubeObject = {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
  readonly spec?: JsonObject | undefined
  readonly status?: JsonObject | undefined
  readonly [field: string]: unknown
}

/** What a writer hands in: the server fills uid, resourceVersion, timestamps and defaults. */
export type KubeInput = {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata?: { readonly [field: string]: unknown }
  readonly [field: string]: unknown
}

/** A resource by plural name and group: `pods`, `services`, `deployments.apps`, `leases.coordination.k8s.io`. */
export type ResourceId = string

/** A refused request: HTTP code plus the reason word of a Kubernetes Status. */
export type ApiFailure = {
  readonly code: number
  /** NotFound, AlreadyExists, Conflict, Invalid, BadRequest, Expired, Forbidden, Unauthorized, ... */
  readonly reason: string
  readonly message: string
  readonly details?: JsonObject | undefined
}

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED'
export type WatchEvent = { readonly type: WatchEventType; readonly object: KubeObject }

export type ListOptions = {
  readonly namespace?: string | undefined
  /** As in kubectl -l: `app=web,tier in (a,b),!legacy`. */
  readonly labelSelector?: string | undefined
  /** As in kubectl --field-selector: `spec.nodeName=node-a,status.phase!=Failed`. */
  readonly fieldSelector?: string | undefined
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply'
/** finalize is of namespaces only: it replaces spec.finalizers. */
export type Subresource = 'status' | 'scale' | 'finalize'

export type DeleteOptions = {
  readonly gracePeriodSeconds?: number | undefined
  readonly propagationPolicy?: 'Foreground' | 'Background' | 'Orphan' | undefined
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined
}

/** The answer to a write: at once from a store in this process, later from a server. */
export type Written = Result<KubeObject, ApiFailure> | Promise<Result<KubeObject, ApiFailure>>

/**
 * A cluster as the lab's controllers, DNS and service rules see it: reads and events from memory, writes that may
 * take a moment and are visible to reads once they have succeeded.
 */
export interface ClusterApi {
  get(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
  ): Result<KubeObject, ApiFailure>
  list(resource: ResourceId, options?: ListOptions): Result<readonly KubeObject[], ApiFailure>
  create(resource: ResourceId, namespace: string | undefined, object: KubeInput): Written
  /** Replaces; metadata.resourceVersion, when given, must be the stored one (409 Conflict otherwise). */
  update(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
    subresource?: Subresource,
  ): Written
  patch(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown; readonly fieldManager?: string },
    subresource?: Subresource,
  ): Written
  delete(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Written
  /** Gives a pod its node and says so in its conditions. */
  bindPod(namespace: string | undefined, pod: string, node: string): Written
  /** Reports what exists as ADDED (before it returns), then every change; the returned function stops it. */
  watch(
    resource: ResourceId,
    options: ListOptions,
    onEvent: (event: WatchEvent) => void,
  ): () => void
}

/**
 * The API server's verbs without HTTP: the same defaulting, validation and admission as over the wire,
 * synchronously and without authentication. For code of the lab that runs in the same process.
 */
export interface LocalApi extends ClusterApi {
  create(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
  ): Result<KubeObject, ApiFailure>
  /** Replaces; metadata.resourceVersion, when given, must be the stored one (409 Conflict otherwise). */
  update(
    resource: ResourceId,
    namespace: string | undefined,
    object: KubeInput,
    subresource?: Subresource,
  ): Result<KubeObject, ApiFailure>
  patch(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown; readonly fieldManager?: string },
    subresource?: Subresource,
  ): Result<KubeObject, ApiFailure>
  delete(
    resource: ResourceId,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Result<KubeObject, ApiFailure>
  bindPod(namespace: string | undefined, pod: string, node: string): Result<KubeObject, ApiFailure>
  /** A token as `kubectl create token` would give: bound to the pod when one is named. */
  createToken(request: TokenRequest): Result<IssuedToken, ApiFailure>
}

export type TokenRequest = {
  readonly namespace: string
  readonly serviceAccount: string
  /** Default: the API server's own audience, https://kubernetes.default.svc.cluster.local. */
  readonly audiences?: readonly string[] | undefined
  readonly expirationSeconds?: number | undefined
  readonly pod?: { readonly name: string; readonly uid: string } | undefined
}

export type IssuedToken = { readonly token: string; readonly expirationTimestamp: string }

export type ExecRequest = {
  readonly podUid: string
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly command: readonly string[]
  readonly stdin: boolean
  readonly tty: boolean
}

export type ExecExit =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signalled'; readonly signal: string }
  | { readonly kind: 'failed'; readonly message: string }

/** A running process in a container. With a terminal, stderr is undefined (it comes on stdout). */
export interface ExecSession {
  readonly stdin: Writable | undefined
  readonly stdout: Readable
  readonly stderr: Readable | undefined
  resize(columns: number, rows: number): void
  /** Called when the client went away; must end the process. Safe after its end. */
  kill(): void
  /** Resolves, never rejects, when the process has ended. */
  readonly exit: Promise<ExecExit>
}

export type LogRequest = {
  readonly podUid: string
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly follow: boolean
  readonly previous: boolean
  readonly timestamps: boolean
  readonly tailLines?: number | undefined
  readonly sinceSeconds?: number | undefined
  readonly limitBytes?: number | undefined
}

/** What runs containers; the lab's kubelet implements it. Failures are sentences for the user. */
export interface PodRuntime {
  exec(request: ExecRequest): Promise<Result<ExecSession, string>>
  /** The stream ends by itself without `follow`; it is destroyed when the client goes away. */
  logs(request: LogRequest): Promise<Result<Readable, string>>
}

export type ApiServerOptions = {
  /** DNS names and IP addresses for the server certificate; localhost, 127.0.0.1, ::1 and kubernetes.default.svc names are always in. */
  readonly subjectAltNames?: readonly string[] | undefined
  /** Cluster IP range, IPv4. Default 10.96.0.0/16. */
  readonly serviceCidr4?: string | undefined
  /** Cluster IP range, IPv6. Default fd98:96::/112. */
  readonly serviceCidr6?: string | undefined
  /** What serves exec and logs; may also be set later. */
  readonly podRuntime?: PodRuntime | undefined
  /** Cluster domain, for audiences and names. Default cluster.local. */
  readonly clusterDomain?: string | undefined
  /** Watch events kept for resuming watches; older resourceVersions answer 410. Default 20,000. */
  readonly historyLimit?: number | undefined
  /** Interval of bookmarks on watches that allow them, in ms. Default 30,000. */
  readonly bookmarkIntervalMs?: number | undefined
}

export type KubeconfigOptions = {
  /** https://HOST:PORT as the client reaches it. */
  readonly server: string
  /** Cluster, user and context name. Default ambit-lab. */
  readonly name?: string | undefined
  /** Another bearer token than the administrator's. */
  readonly token?: string | undefined
  readonly namespace?: string | undefined
}

export interface ApiServer {
  readonly api: LocalApi
  /** PEM of the CA that signed the server certificate. */
  readonly caPem: string
  /** Bearer token of the cluster administrator: secret. */
  readonly adminToken: string
  /** Issuer claim of service account tokens, and their default audience. */
  readonly issuer: string
  /** Serves on host:port (0 picks one) of the current network namespace; resolves once it listens. */
  listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>
  /** Serves on a listening TCP socket, made in whatever network namespace; takes the fd over and closes it. */
  attachListenFd(fd: number): Promise<void>
  kubeconfig(options: KubeconfigOptions): string
  /** Sets what serves exec and logs; the last one set wins. Without one they answer 503. */
  setPodRuntime(runtime: PodRuntime): void
  /** Test hook: forgets the event history, so that a watch from any older resourceVersion gets 410. */
  compact(): void
  /** Test hook: ends every open HTTP watch abruptly (of one resource, if named); returns how many. */
  breakWatches(resource?: ResourceId): number
  /** Stops serving and ends open connections. */
  close(): Promise<void>
}

/** Implemented by lab/kubernetes/own/apiserver/index.ts as startApiServer. */
export type StartApiServer = (options?: ApiServerOptions) => Promise<ApiServer>

/** Whether the owner that an object of this namespace refers to does not exist any more. */
export type ConfirmGone = (owner: OwnerReference, namespace: string | undefined) => Promise<boolean>

/** What stands for kube-controller-manager, and what for kube-scheduler: a cluster may bring either itself. */
export type ControllerParts = { readonly manager: boolean; readonly scheduler: boolean }

/** Implemented by lab/kubernetes/own/controllers/index.ts as startControllers; the returned handle stops them. */
export type StartControllers = (options: {
  readonly api: ClusterApi
  /** Which to run; all of them when left out. */
  readonly parts?: ControllerParts | undefined
  /** Nodes that pods may be given to, and that may be changed; all of them when left out. */
  readonly isOurNode?: ((node: KubeObject) => boolean) | undefined
  /** Where cluster clients reach the API server: endpoints of default/kubernetes. */
  readonly apiServerEndpoints?:
    | readonly { readonly ip: string; readonly port: number }[]
    | undefined
  /** Published in every namespace as ConfigMap kube-root-ca.crt, key ca.crt. */
  readonly rootCaPem?: string | undefined
  /** Set on what the controllers make of their own accord: default service accounts and root certificates. */
  readonly labels?: { readonly [key: string]: string } | undefined
  /** Asks whether an owner is really gone before what it owned is deleted; without it, not knowing it is enough. */
  readonly confirmGone?: ConfirmGone | undefined
  /** Deletes what is in a namespace and gives how much there still was; without it, what the reads show. */
  readonly emptyNamespace?: ((name: string) => Promise<number>) | undefined
  /** Called when a control loop met something unexpected; the loop goes on. */
  readonly onError?: ((error: Error) => void) | undefined
}) => Controllers

export interface Controllers {
  /** Resolves when every queued change has been worked off: for tests. */
  idle(): Promise<void>
  stop(): void
}
