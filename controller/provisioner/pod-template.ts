// SPDX-License-Identifier: Apache-2.0
// The pods of a waypoint: `ambit waypoint-proxy` without rights, with a token for the controller and nothing else of the API server. Pure.

import {
  DATAPLANE_MODE_LABEL,
  GATEWAY_CLASS_LABEL,
  GATEWAY_NAME_LABEL,
} from '../../mesh/model/names.ts'
import type { Fields } from '../istio-api/flaw.ts'
import type { WaypointOrder } from './waypoint-order.ts'

/** What the controller tells each waypoint. */
export interface ProvisionSettings {
  readonly image: string
  /** Before the arguments; empty: the image's own. */
  readonly command: readonly string[]
  /** Whom their processes run as. */
  readonly user: number
  /** Where the socket of a SPIFFE Workload API is to be; undefined where none is wanted. */
  readonly workloadApiDirectory?: string | undefined
  /** By name, for the program's flags. */
  readonly environment: Readonly<Record<string, string>>
}

const ROOT = 0
/** As the agents have them. */
const TOKEN_SECONDS = 43_200
const TOKEN_DIR = '/var/run/secrets/tokens'
const ROOTS_DIR = '/var/run/secrets/istio'
/** Where an image of ours keeps compiled code, for a container that is started again in the same pod: the root cannot be written. */
const COMPILED_DIR = '/var/cache/ambit'
/** A waypoint compiles 7 MB; a pod that had more than this would be evicted. */
const COMPILED_LIMIT = '32Mi'
/** Holds the drain of 20 s and the rest of the end. */
const GRACE_SECONDS = 30
/**
 * For as long as the control plane is away: nothing that a waypoint waits for comes sooner by a restart, and the kubelet lets minutes pass
 * between one and the next.
 */
const STARTUP_SECONDS = 86_400
/** SPIFFE's own: an inline volume, which a namespace of the restricted Pod Security Standard may have as well. */
const WORKLOAD_API_DRIVER = 'csi.spiffe.io'

/** The pod template of a waypoint's Deployment. */
export function podTemplate(order: WaypointOrder, settings: ProvisionSettings): Fields {
  const { name, className, infrastructure } = order
  return {
    metadata: {
      labels: {
        ...Object.fromEntries(infrastructure.labels),
        [GATEWAY_NAME_LABEL]: name,
        [GATEWAY_CLASS_LABEL]: className,
        // It carries traffic of the mesh, and nobody captures its own.
        [DATAPLANE_MODE_LABEL]: 'none',
        'sidecar.istio.io/inject': 'false',
      },
      annotations: Object.fromEntries(infrastructure.annotations),
    },
    spec: {
      serviceAccountName: name,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: {
        runAsNonRoot: settings.user !== ROOT,
        runAsUser: settings.user,
        runAsGroup: settings.user,
        fsGroup: settings.user,
      },
      topologySpreadConstraints: ['topology.kubernetes.io/zone', 'kubernetes.io/hostname'].map(
        (topologyKey) => ({
          topologyKey,
          maxSkew: 1,
          whenUnsatisfiable: 'ScheduleAnyway',
          labelSelector: { matchLabels: { [GATEWAY_NAME_LABEL]: name } },
        }),
      ),
      containers: [container(order, settings)],
      volumes: [
        {
          name: 'istio-token',
          projected: {
            sources: [
              {
                serviceAccountToken: {
                  audience: 'istio-ca',
                  expirationSeconds: TOKEN_SECONDS,
                  path: 'istio-token',
                },
              },
            ],
          },
        },
        { name: 'root-cert', configMap: { name: 'istio-ca-root-cert', optional: true } },
        ...(isOurImage(settings)
          ? [{ name: 'compiled', emptyDir: { sizeLimit: COMPILED_LIMIT } }]
          : []),
        ...(hasWorkloadApi(settings)
          ? [{ name: 'workload-api', csi: { driver: WORKLOAD_API_DRIVER, readOnly: true } }]
          : []),
      ],
    },
  }
}

function container(order: WaypointOrder, settings: ProvisionSettings): Fields {
  const { image, command, environment } = settings
  const readiness = { httpGet: { path: '/healthz/ready', port: 15_021 } }
  return {
    name: 'waypoint',
    image,
    ...(command.length === 0 ? {} : { command }),
    terminationMessagePolicy: 'FallbackToLogsOnError',
    args: ['waypoint-proxy', '--gateway-name', order.name, '--namespace', order.namespace],
    env: [
      ...Object.entries(environment).map(([name, value]) => ({ name, value })),
      ...(isOurImage(settings) ? [{ name: 'NODE_COMPILE_CACHE', value: COMPILED_DIR }] : []),
      ...Object.entries(OWN_FIELDS).map(([name, fieldPath]) => ({
        name,
        valueFrom: { fieldRef: { fieldPath } },
      })),
    ],
    ports: [
      { name: 'hbone', containerPort: 15_008, protocol: 'TCP' },
      { name: 'metrics', containerPort: 15_020, protocol: 'TCP' },
      { name: 'status', containerPort: 15_021, protocol: 'TCP' },
    ],
    startupProbe: { ...readiness, periodSeconds: 1, failureThreshold: STARTUP_SECONDS },
    readinessProbe: { ...readiness, periodSeconds: 5, failureThreshold: 2 },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'istio-token', mountPath: TOKEN_DIR, readOnly: true },
      { name: 'root-cert', mountPath: ROOTS_DIR, readOnly: true },
      ...(isOurImage(settings) ? [{ name: 'compiled', mountPath: COMPILED_DIR }] : []),
      ...(hasWorkloadApi(settings)
        ? [{ name: 'workload-api', mountPath: settings.workloadApiDirectory, readOnly: true }]
        : []),
    ],
  }
}

/** A command of somebody else's runs what has its own place for that, as in a lab. */
const isOurImage = ({ command }: ProvisionSettings): boolean => command.length === 0

/** As isOurImage: in a lab the socket is in the machine's own file system. */
const hasWorkloadApi = (settings: ProvisionSettings): boolean =>
  isOurImage(settings) && settings.workloadApiDirectory !== undefined

const OWN_FIELDS: Readonly<Record<string, string>> = {
  POD_NAME: 'metadata.name',
  POD_IP: 'status.podIP',
  NODE_NAME: 'spec.nodeName',
  SERVICE_ACCOUNT: 'spec.serviceAccountName',
}
