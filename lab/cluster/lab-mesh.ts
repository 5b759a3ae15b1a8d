// SPDX-License-Identifier: Apache-2.0
// What the chart makes for a cluster, as a lab runs it: the same objects, whose containers are this machine's and whose host paths are
// the lab's. Pure.

import { record, records } from '../kubernetes/objects/json.ts'

type Fields = Readonly<Record<string, unknown>>

export interface LabPaths {
  readonly lab: string
  /** Where this installation of Ambit is. */
  readonly repository: string
  readonly cgroup: string
  readonly run: string
}

/** The lab's nodes are told by this label. */
const NODE_LABEL = 'lab.ambit.dev/name'
/** Nobody waits longer for a laboratory. It has to hold DRAIN_SECONDS and the rest of the end. */
const GRACE_SECONDS = 5
export const DRAIN_SECONDS = 3
/** Mounts of the chart that the lab has, too: all that come from the API. */
const KEPT_VOLUMES: ReadonlySet<unknown> = new Set(['istio-token', 'root-cert'])

/** An object of the chart for the lab. */
export function labObject(object: Fields, paths: LabPaths): Fields {
  const spec = record(object['spec']) ?? {}
  if (object['kind'] === 'Deployment')
    return { ...object, spec: { ...spec, template: controllerPods(spec['template'], paths) } }
  if (object['kind'] === 'DaemonSet')
    return { ...object, spec: { ...spec, template: agentPods(spec['template'], paths) } }
  return object
}

function controllerPods(template: unknown, { lab, repository }: LabPaths): Fields {
  return pods(template, (pod, container) => ({
    pod: {
      ...pod,
      // In a cluster with other nodes, too, it runs on the lab's: its image is the lab's machine.
      nodeSelector: { [NODE_LABEL]: lab },
      tolerations: [{ key: NODE_LABEL, operator: 'Exists' }],
      volumes: [],
    },
    container: {
      ...container,
      command: [`${repository}/cli/bin/ambit`],
      volumeMounts: [],
    },
  }))
}

function agentPods(template: unknown, paths: LabPaths): Fields {
  return pods(template, (pod, container) => ({
    pod: {
      ...pod,
      nodeSelector: { [NODE_LABEL]: paths.lab },
      volumes: [
        { name: 'lab', hostPath: { path: paths.run, type: 'Directory' } },
        { name: 'netns', hostPath: { path: '/run/netns', type: 'Directory' } },
        ...records(pod['volumes']).filter(({ name }) => KEPT_VOLUMES.has(name)),
      ],
    },
    container: {
      ...container,
      command: ['sh', '-c', agentScript(container, paths), 'ambit-agent'],
      volumeMounts: [
        { name: 'lab', mountPath: paths.run, mountPropagation: 'HostToContainer' },
        { name: 'netns', mountPath: '/run/netns', mountPropagation: 'HostToContainer' },
        ...records(container['volumeMounts']).filter(({ name }) => KEPT_VOLUMES.has(name)),
      ],
    },
  }))
}

/**
 * One DaemonSet serves all nodes: each pod picks its node's directories by name. It runs with the capabilities that the chart gives it and no
 * others, so that every test of the mesh shows that they are enough.
 */
function agentScript(container: Fields, { repository, cgroup, run }: LabPaths): string {
  const capabilities = record(record(container['securityContext'])?.['capabilities'])
  const added = Array.isArray(capabilities?.['add']) ? capabilities['add'] : []
  const bounding = ['-all', ...added.map((name) => `+${String(name).toLowerCase()}`)].join(',')
  return [
    `exec setpriv --bounding-set=${bounding} --`,
    `'${repository}/cli/bin/ambit' "$@"`,
    `--cgroup "${cgroup}/$NODE_NAME"`,
    `--kubelet-cgroup "${cgroup}/$NODE_NAME/kubelet"`,
    `--bpffs "${run}/bpf/$NODE_NAME"`,
    `--cni-bin-dir "${run}/nodes/$NODE_NAME/cni/bin"`,
    `--cni-conf-dir "${run}/nodes/$NODE_NAME/cni/net.d"`,
    `--cni-socket "${run}/nodes/$NODE_NAME/agent/cni.sock"`,
    `--state-dir "${run}/nodes/$NODE_NAME/agent/state"`,
    `--pod-logs "${run}/nodes/$NODE_NAME/pod-logs"`,
    '--proc-root /proc',
  ].join(' ')
}

/** A template whose pod and only container are changed, without what a lab has no use for: limits, users, spreading, compiled code. */
function pods(
  template: unknown,
  change: (pod: Fields, container: Fields) => { readonly pod: Fields; readonly container: Fields },
): Fields {
  const {
    securityContext: _podContext,
    priorityClassName: _priority,
    topologySpreadConstraints: _spread,
    ...spec
  } = record(record(template)?.['spec']) ?? {}
  const [first = {}] = records(spec['containers'])
  const changed = change({ ...spec, terminationGracePeriodSeconds: GRACE_SECONDS }, first)
  const { securityContext: _context, resources: _resources, ...container } = changed.container
  const env = records(container['env']).filter(({ name }) => name !== 'NODE_COMPILE_CACHE')
  return {
    ...record(template),
    spec: { ...changed.pod, containers: [{ ...container, image: 'host', env }] },
  }
}
