// SPDX-License-Identifier: Apache-2.0
// The NetworkPolicies of a workload in words: each rule of each direction, as one line.

import { count, type Fields, fields, list, text } from './reading.ts'

/** One line a rule; a direction without rules says that it is closed, one that the policy is not about says nothing. */
export function networkRules(ingress: unknown, egress: unknown): readonly string[] {
  return [...directionRules('in', ingress), ...directionRules('out', egress)]
}

function directionRules(way: 'in' | 'out', direction: unknown): readonly string[] {
  if (direction === undefined) return []
  const rules = list(fields(direction)['rules']).map(fields)
  if (rules.length === 0) return [`${way}: nothing`]
  return rules.map((rule, at) => {
    const place = count(rule['place']) ?? at
    return `${way}, rules[${place}]: ${peersOf(way, rule)}, ${portsOf(rule)}`
  })
}

function peersOf(way: 'in' | 'out', rule: Fields): string {
  const word = way === 'in' ? 'from' : 'to'
  if (rule['isAnyPeer'] === true) return `${word} anywhere`
  return `${word} ${list(rule['peers']).map(fields).map(peerText).join(' | ') || 'nobody'}`
}

function peerText(peer: Fields): string {
  switch (peer['kind']) {
    case 'everyPod':
      return 'every pod'
    case 'namespace':
      return `pods of ${text(peer['namespace'])}`
    case 'group':
      return `pods of ${text(peer['group'])}`
    case 'range': {
      const except = list(peer['except']).map(rangeText)
      return rangeText(peer['range']) + (except.length === 0 ? '' : ` except ${except.join(', ')}`)
    }
    default:
      return 'somebody that cannot be read'
  }
}

function rangeText(value: unknown): string {
  const { address, length } = fields(value)
  return `${text(address)}/${count(length) ?? '?'}`
}

function portsOf(rule: Fields): string {
  if (rule['isAnyPort'] === true) return 'every port'
  return `port ${list(rule['ports']).map(fields).map(portText).join(' | ') || 'none'}`
}

function portText({ kind, first, last, name }: Fields): string {
  if (kind === 'name') return text(name)
  return first === last
    ? String(count(first) ?? '?')
    : `${count(first) ?? '?'}-${count(last) ?? '?'}`
}
