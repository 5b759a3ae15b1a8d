// SPDX-License-Identifier: Apache-2.0
// Deployments, ReplicaSets and DaemonSets: defaults and checks of their pod template.

import { isDeepStrictEqual } from 'node:util'
import { type FieldError, invalidValue, required } from '../../../objects/refusals.ts'
import {
  type Draft,
  at,
  ensureRecord,
  integer,
  record,
  setDefault,
  stringMap,
} from '../../../objects/json.ts'
import { labelErrors } from '../names.ts'
import { labelSelectorObject } from '../../../objects/selectors.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'
import { defaultPodSpec, podSpecErrors } from './pods.ts'
import type { Strategy } from './strategy.ts'

const REVISION_HISTORY = 10
const PROGRESS_DEADLINE_SECONDS = 600
const QUARTER = '25%'

function defaultTemplate(spec: Draft): void {
  const template = ensureRecord(spec, 'template')
  ensureRecord(template, 'metadata')
  defaultPodSpec(ensureRecord(template, 'spec'))
}

function templateErrors(spec: Draft | undefined): readonly FieldError[] {
  return [
    ...labelErrors(at(spec, 'template', 'metadata', 'labels'), 'spec.template.metadata.labels'),
    ...podSpecErrors(record(at(spec, 'template', 'spec')), 'spec.template.spec'),
  ]
}

function validate(draft: Draft, stored: StoredObject | undefined): readonly FieldError[] {
  const spec = record(draft.spec)
  const errors: FieldError[] = []
  const selector = record(spec?.selector)
  const templateLabels = stringMap(at(spec, 'template', 'metadata', 'labels'))
  if (selector === undefined || Object.keys(selector).length === 0)
    errors.push(required('spec.selector'))
  else if (!labelSelectorObject(selector)(templateLabels))
    errors.push(
      invalidValue(
        'spec.template.metadata.labels',
        templateLabels,
        '`selector` does not match template `labels`',
      ),
    )
  if (stored !== undefined && !isDeepStrictEqual(stored.spec?.selector, spec?.selector))
    errors.push(invalidValue('spec.selector', spec?.selector, 'field is immutable'))
  const replicas = spec?.replicas
  if (replicas !== undefined && (integer(replicas) ?? -1) < 0)
    errors.push(invalidValue('spec.replicas', replicas, 'must be greater than or equal to 0'))
  return [...errors, ...templateErrors(spec)]
}

export const deploymentStrategy: Strategy = {
  setDefaults: (draft) => {
    const spec = ensureRecord(draft, 'spec')
    setDefault(spec, 'replicas', 1)
    setDefault(spec, 'revisionHistoryLimit', REVISION_HISTORY)
    setDefault(spec, 'progressDeadlineSeconds', PROGRESS_DEADLINE_SECONDS)
    const strategy = ensureRecord(spec, 'strategy')
    setDefault(strategy, 'type', 'RollingUpdate')
    if (strategy.type === 'RollingUpdate') {
      const rollingUpdate = ensureRecord(strategy, 'rollingUpdate')
      setDefault(rollingUpdate, 'maxSurge', QUARTER)
      setDefault(rollingUpdate, 'maxUnavailable', QUARTER)
    }
    defaultTemplate(spec)
  },
  validate,
}

export const replicaSetStrategy: Strategy = {
  setDefaults: (draft) => {
    const spec = ensureRecord(draft, 'spec')
    setDefault(spec, 'replicas', 1)
    defaultTemplate(spec)
  },
  validate,
}

export const daemonSetStrategy: Strategy = {
  setDefaults: (draft) => {
    const spec = ensureRecord(draft, 'spec')
    setDefault(spec, 'revisionHistoryLimit', REVISION_HISTORY)
    setDefault(ensureRecord(spec, 'updateStrategy'), 'type', 'RollingUpdate')
    defaultTemplate(spec)
  },
  validate,
}
