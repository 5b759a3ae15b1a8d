// SPDX-License-Identifier: Apache-2.0
// What a Gateway says of the waypoint that was made of it. Whatever stands in its status was written by somebody's controller: nothing of
// it is taken for granted. Pure.

import type { PolicyResource } from '../../mesh/kube/index.ts'

interface ConditionReport {
  readonly type: string
  readonly status: string
  readonly reason: string
  readonly message: string
}

export interface WaypointReport {
  readonly namespace: string
  readonly name: string
  readonly class: string
  readonly addresses: readonly string[]
  /** Of the Gateway as it is now: what was said of an earlier one is left out. */
  readonly conditions: readonly ConditionReport[]
}

type Fields = Readonly<Record<string, unknown>>

/** Reads it. */
export function waypointReport({ metadata, spec, status }: PolicyResource): WaypointReport {
  const said = fieldsOf(status)
  return {
    namespace: metadata?.namespace ?? '',
    name: metadata?.name ?? '',
    class: textOf(fieldsOf(spec)['gatewayClassName']),
    addresses: listOf(said['addresses']).map(({ value }) => textOf(value)),
    conditions: listOf(said['conditions'])
      .filter(({ observedGeneration }) => {
        const { generation } = metadata ?? {}
        // Who does not say of which generation he speaks is believed to mean this one.
        return observedGeneration === undefined || observedGeneration === generation
      })
      .map(({ type, status: is, reason, message }) => ({
        type: textOf(type),
        status: textOf(is),
        reason: textOf(reason),
        message: textOf(message),
      })),
  }
}

/** The condition of this type. */
export function conditionOf(
  { conditions }: WaypointReport,
  type: string,
): ConditionReport | undefined {
  return conditions.find((condition) => condition.type === type)
}

/** Whether traffic can go through it. */
export function isProgrammed(report: WaypointReport): boolean {
  return conditionOf(report, 'Programmed')?.status === 'True'
}

/** Why it is not programmed, in a sentence. */
export function whyNotProgrammed(report: WaypointReport): string {
  const bad =
    [conditionOf(report, 'Accepted'), conditionOf(report, 'Programmed')].find(
      (condition) => condition !== undefined && condition.status !== 'True',
    ) ?? undefined
  if (bad === undefined) return 'the controller has said nothing of it yet'
  return `${bad.type} is ${bad.status}, ${bad.reason}: ${bad.message.replace(/\.$/, '')}`
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {}
}

function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : []
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
