// SPDX-License-Identifier: Apache-2.0
// Namespaces, nodes, secrets and endpoint slices: the little that these need.

import { ok } from '../../../../../mesh/result.ts'
import { type FieldError, invalidValue, unsupportedValue } from '../../../objects/refusals.ts'
import { at, ensureRecord, record, setDefault, stringMap, text } from '../../../objects/json.ts'
import type { Strategy } from './strategy.ts'

/** As in every cluster: they cannot be deleted. */
export const PERMANENT_NAMESPACES = new Set(['default', 'kube-system', 'kube-public'])
const NAMESPACE_FINALIZER = 'kubernetes'
const NAME_LABEL = 'kubernetes.io/metadata.name'
const ADDRESS_TYPES = ['IPv4', 'IPv6', 'FQDN']

export const namespaceStrategy: Strategy = {
  setDefaults: (draft) => {
    const metadata = ensureRecord(draft, 'metadata')
    ensureRecord(metadata, 'labels')[NAME_LABEL] = metadata.name
  },
  admitCreate: (draft) => {
    setDefault(ensureRecord(draft, 'spec'), 'finalizers', [NAMESPACE_FINALIZER])
    draft.status = { phase: 'Active' }
    return ok(undefined)
  },
  prepareUpdate: (draft, stored) => {
    draft.spec = stored.spec
  },
}

export const nodeStrategy: Strategy = {
  setDefaults: (draft) => {
    ensureRecord(draft, 'spec')
    ensureRecord(draft, 'status')
  },
}

export const secretStrategy: Strategy = {
  setDefaults: (draft) => {
    setDefault(draft, 'type', 'Opaque')
    const plain = record(draft.stringData)
    if (plain === undefined) return
    const data = ensureRecord(draft, 'data')
    for (const [key, value] of Object.entries(stringMap(plain)))
      data[key] = Buffer.from(value).toString('base64')
    delete draft.stringData
  },
  validate: (draft, stored) => {
    const errors: FieldError[] = []
    for (const [key, value] of Object.entries(record(draft.data) ?? {}))
      if (text(value) === undefined || !/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(String(value)))
        errors.push(invalidValue(`data[${key}]`, '<redacted>', 'must be base64'))
    if (stored !== undefined && stored.type !== draft.type)
      errors.push(invalidValue('type', draft.type, 'field is immutable'))
    return errors
  },
}

export const configMapStrategy: Strategy = {
  validate: (draft) =>
    Object.entries(record(draft.data) ?? {})
      .filter(([, value]) => typeof value !== 'string')
      .map(([key, value]) => invalidValue(`data[${key}]`, value, 'must be a string')),
}

export const endpointSliceStrategy: Strategy = {
  validate: (draft) =>
    ADDRESS_TYPES.includes(String(draft.addressType))
      ? []
      : [unsupportedValue('addressType', draft.addressType, ADDRESS_TYPES)],
}

export const leaseStrategy: Strategy = {
  validate: (draft) => {
    const transitions = at(draft, 'spec', 'leaseDurationSeconds')
    return typeof transitions === 'number' && transitions <= 0
      ? [invalidValue('spec.leaseDurationSeconds', transitions, 'must be greater than 0')]
      : []
  },
}
