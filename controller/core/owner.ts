// SPDX-License-Identifier: Apache-2.0
// What a pod belongs to, as people name it: the Deployment, not the ReplicaSet; the CronJob, not the Job of the hour.

import type { WorkloadType } from '../../mesh/model/types.ts'

/** A CronJob's Jobs bear the minute of their schedule since the epoch, in the past as a timestamp. */
const CRON_SUFFIX = /^(.+)-\d{8,10}$/

export interface Owner {
  readonly workloadType: WorkloadType
  readonly workloadName: string
}

/** Finds the workload of a pod from its controlling owner reference, if it has one. */
export function ownerOf(
  podName: string,
  controller: { readonly kind: string; readonly name: string } | undefined,
  podTemplateHash: string,
): Owner {
  if (controller === undefined || controller.name === '')
    return { workloadType: 'pod', workloadName: podName }
  const { kind, name } = controller
  switch (kind) {
    case 'ReplicaSet': {
      const suffix = `-${podTemplateHash}`
      const isOfDeployment = podTemplateHash !== '' && name.endsWith(suffix)
      if (isOfDeployment)
        return { workloadType: 'deployment', workloadName: name.slice(0, -suffix.length) }
      return { workloadType: 'pod', workloadName: name }
    }
    case 'Deployment':
      return { workloadType: 'deployment', workloadName: name }
    case 'Job': {
      const cronJob = CRON_SUFFIX.exec(name)?.[1]
      if (cronJob !== undefined) return { workloadType: 'cronjob', workloadName: cronJob }
      return { workloadType: 'job', workloadName: name }
    }
    case 'CronJob':
      return { workloadType: 'cronjob', workloadName: name }
    default:
      // StatefulSets, DaemonSets and operators' kinds have no type of their own on the wire.
      return { workloadType: 'pod', workloadName: name }
  }
}
