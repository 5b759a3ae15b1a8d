// SPDX-License-Identifier: Apache-2.0
// Which nodes a pod may go to, as pure data: nodeSelector, required node affinity, and taints. Resources, spreading
// and everything that is only preferred are not considered: lab nodes are all alike.

import { type Draft, at, record, records, stringMap, text, texts } from '../../objects/json.ts'
import type { StoredObject } from '../../objects/stored-object.ts'

const HOSTNAME_LABEL = 'kubernetes.io/hostname'
/** Kubernetes keeps pods off nodes in these states by taints that pods of DaemonSets tolerate. */
const CONDITION_TAINT = /^node\.kubernetes\.io\//

/** Whether the pod's own words (selector and required affinity) allow the node. */
export function isSelected(podSpec: unknown, node: StoredObject): boolean {
  const labelOf = (key: string): string | undefined =>
    // Every kubelet sets this label; a node registered without it is found by its name.
    node.metadata.labels?.[key] ?? (key === HOSTNAME_LABEL ? node.metadata.name : undefined)
  const terms = records(
    at(
      podSpec,
      'affinity',
      'nodeAffinity',
      'requiredDuringSchedulingIgnoredDuringExecution',
      'nodeSelectorTerms',
    ),
  )
  return (
    Object.entries(stringMap(at(podSpec, 'nodeSelector'))).every(
      ([key, value]) => labelOf(key) === value,
    ) &&
    (terms.length === 0 ||
      terms.some(
        (term) =>
          records(term.matchExpressions).every((rule) =>
            holds(rule, labelOf(text(rule.key) ?? '')),
          ) &&
          // metadata.name is the only field there is.
          records(term.matchFields).every((rule) => holds(rule, node.metadata.name)),
      ))
  )
}

function holds(rule: Draft, value: string | undefined): boolean {
  const values = texts(rule.values)
  switch (rule.operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
    case 'Gt':
      return Number(value) > Number(values[0])
    case 'Lt':
      return Number(value) < Number(values[0])
    default:
      return false
  }
}

/** Whether the pod tolerates every taint of the node that would keep it off. */
export function isTolerated(podSpec: unknown, node: StoredObject, ofDaemonSet = false): boolean {
  const tolerations = records(at(podSpec, 'tolerations'))
  return records(node.spec?.taints)
    .filter((taint) => taint.effect === 'NoSchedule' || taint.effect === 'NoExecute')
    .filter((taint) => !(ofDaemonSet && CONDITION_TAINT.test(text(taint.key) ?? '')))
    .every((taint) => tolerations.some((toleration) => tolerates(toleration, taint)))
}

function tolerates(toleration: Draft, taint: Draft): boolean {
  const { key, effect, operator = 'Equal', value = '' } = toleration
  const hasKey = key === undefined || key === '' ? operator === 'Exists' : key === taint.key
  const hasEffect = effect === undefined || effect === '' || effect === taint.effect
  return hasKey && hasEffect && (operator === 'Exists' || value === (taint.value ?? ''))
}

/** The template of a workload's pods. */
export const podSpecOf = (workload: StoredObject): unknown =>
  record(at(workload.spec, 'template', 'spec'))
