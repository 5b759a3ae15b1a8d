// SPDX-License-Identifier: Apache-2.0
// A node for the tests of enrolment: an API server, a capture that records, files that stand for namespaces.

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { pino } from 'pino'
import type { CniPod } from '../../agent/cni/index.ts'
import {
  startEnrolment,
  type EnrolmentOptions,
  type NodeEnrolment,
} from '../../agent/enrolment/index.ts'
import { EPOCH_FILE } from '../../agent/enrolment/ownership.ts'
import type { ProveNetns } from '../../agent/enrolment/prove-netns.ts'
import { createKubeApi, NAMESPACES, PODS, type Pod } from '../../mesh/kube/index.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { err, ok } from '../../mesh/result.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'
import { RecordingCapture } from './recording-capture.ts'
import { recordingServer } from './recording-server.ts'

export const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' }
export const NONE = { 'istio.io/dataplane-mode': 'none' }

/** Longer than any test. */
const PEERS_FORGET_MS = 3_600_000

export interface NodeSetting {
  readonly stub: FaultyApi
  readonly capture: RecordingCapture
  /** What the data plane was told: `enrolled web`, `draining web`, `served web again`, `withdrawn web`. */
  readonly told: string[]
  /** By pod name: as if the worker that serves the pod had died. */
  readonly listenersLost: ReadonlyMap<string, () => void>
  readonly logged: string[]
  readonly stateDirectory: string
  /** Starts an agent's enrolment; with another capture for another life. */
  start(options?: Partial<EnrolmentOptions>): Promise<NodeEnrolment>
  label(namespace: string, labels?: Record<string, string>): void
  /** Creates or changes a pod. */
  pod(name: string, change?: PodChange): Pod
  /** What CNI says of a pod, with a namespace file of its own. */
  sandbox(pod: Pod, containerId?: string): Promise<CniPod>
  until(condition: () => boolean, what: string): Promise<void>
  annotation(name: string): string | undefined
}

export interface PodChange {
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  readonly ip?: string
  readonly phase?: string
  readonly deletionTimestamp?: string
  readonly namespace?: string
  readonly spec?: Partial<Pod['spec']>
}

export async function setUpNode(test: Test): Promise<NodeSetting> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-enrolment-'))
  const stub = new FaultyApi()
  await stub.start()
  const capture = new RecordingCapture()
  const told: string[] = []
  const logged: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logged.push(line) })
  const server = recordingServer(told)
  const running: NodeEnrolment[] = []
  const stateDirectory = path.join(directory, 'state')
  test.teardown(async () => {
    await Promise.all(running.map((enrolment) => enrolment.close({ withdraw: false })))
    await capture.close()
    await stub.stop()
    await rm(directory, { recursive: true, force: true })
  })
  const setting: NodeSetting = {
    stub,
    capture,
    told,
    listenersLost: server.listenersLost,
    logged,
    stateDirectory,
    async start(options = {}) {
      const enrolment = await startEnrolment({
        api: createKubeApi(stub.access()),
        nodeName: 'node-a',
        capture,
        server,
        stateDirectory,
        logger,
        peersForgetMs: PEERS_FORGET_MS,
        nodeCgroup: '/',
        prove: believeTheOldest,
        ...options,
      })
      running.push(enrolment)
      return enrolment
    },
    label: (namespace, labels = {}) =>
      void stub.put(NAMESPACES, { metadata: { name: namespace, labels } }),
    pod(name, change = {}) {
      const namespace = change.namespace ?? 'shop'
      const before = stub.get(PODS, `${namespace}/${name}`)
      return stub.put(PODS, {
        metadata: {
          ...before?.metadata,
          namespace,
          name,
          uid: before?.metadata?.uid ?? randomUUID(),
          labels: change.labels ?? before?.metadata?.labels ?? {},
          annotations: change.annotations ?? before?.metadata?.annotations ?? {},
          ...(change.deletionTimestamp === undefined
            ? {}
            : {
                deletionTimestamp: change.deletionTimestamp,
                // Without it the API server takes the next write, the agent's annotation, for the end of the pod.
                deletionGracePeriodSeconds: 30,
              }),
        },
        spec: {
          containers: [{ name: 'app', image: 'app' }],
          nodeName: 'node-a',
          serviceAccountName: 'web',
          ...change.spec,
        },
        status: {
          ...before?.status,
          ...(change.phase === undefined ? {} : { phase: change.phase }),
          ...(change.ip === undefined ? {} : { podIP: change.ip, podIPs: [{ ip: change.ip }] }),
        },
      })
    },
    async sandbox(pod, containerId = randomUUID()) {
      const netnsPath = path.join(directory, `netns-${containerId}`)
      await writeFile(netnsPath, '')
      return {
        containerId,
        netnsPath,
        ifname: 'eth0',
        namespace: pod.metadata?.namespace ?? '',
        name: pod.metadata?.name ?? '',
        uid: pod.metadata?.uid,
        addresses: ['10.244.1.7' as IpAddress],
      }
    },
    until: (condition, what) =>
      until(
        condition,
        () => `${what}; told: ${told.join(', ')}; calls: ${capture.calls.join(' ')}`,
      ),
    annotation: (name) =>
      stub.get(PODS, `shop/${name}`)?.metadata?.annotations?.['ambient.istio.io/redirection'],
  }
  return setting
}

/** A signal for CNI calls that are meant to be answered. */
export const inTime = (): AbortSignal => AbortSignal.timeout(5000)

/** For namespaces that are files: there is nothing that a kernel could prove. */
export const believeTheOldest: ProveNetns = (_, [oldest]) =>
  Promise.resolve(
    oldest === undefined ? err({ kind: 'ended' }) : ok({ ...oldest, netnsCookie: 1000n }),
  )

/** The state files in the directory. */
export async function stateFiles(directory: string): Promise<readonly string[]> {
  return (await readdir(directory)).filter((name) => name !== EPOCH_FILE)
}
