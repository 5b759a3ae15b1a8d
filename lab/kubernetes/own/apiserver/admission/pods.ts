// SPDX-License-Identifier: Apache-2.0
// Pods: defaults, checks of what people get wrong, and which parts may change later.

import { isDeepStrictEqual } from 'node:util'
import { ok } from '../../../../../mesh/result.ts'
import {
  type FieldError,
  duplicateValue,
  forbidden,
  invalidValue,
  required,
  unsupportedValue,
} from '../../../objects/refusals.ts'
import {
  type Draft,
  at,
  ensureRecord,
  integer,
  record,
  records,
  setDefault,
  text,
} from '../../../objects/json.ts'
import { labelErrors, nameProblem } from '../names.ts'
import type { AdmissionContext, Strategy } from './strategy.ts'

const DEFAULT_GRACE_SECONDS = 30
const PROBES = ['livenessProbe', 'readinessProbe', 'startupProbe']
const PROBE_HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc']
const PROTOCOLS = ['TCP', 'UDP', 'SCTP']
const RESTART_POLICIES = ['Always', 'OnFailure', 'Never']
const MAX_PORT = 65_535

function defaultProbe(probe: Draft): void {
  setDefault(probe, 'timeoutSeconds', 1)
  setDefault(probe, 'periodSeconds', 10)
  setDefault(probe, 'successThreshold', 1)
  setDefault(probe, 'failureThreshold', 3)
  const httpGet = record(probe.httpGet)
  if (httpGet !== undefined) {
    setDefault(httpGet, 'path', '/')
    setDefault(httpGet, 'scheme', 'HTTP')
  }
}

function defaultContainer(container: Draft): void {
  setDefault(container, 'imagePullPolicy', 'IfNotPresent')
  setDefault(container, 'terminationMessagePath', '/dev/termination-log')
  setDefault(container, 'terminationMessagePolicy', 'File')
  setDefault(container, 'resources', {})
  for (const port of records(container.ports)) setDefault(port, 'protocol', 'TCP')
  for (const name of PROBES) {
    const probe = record(container[name])
    if (probe !== undefined) defaultProbe(probe)
  }
}

/** Fills the defaults of a pod spec, of a pod or of a template. */
export function defaultPodSpec(spec: Draft): void {
  setDefault(spec, 'restartPolicy', 'Always')
  setDefault(spec, 'terminationGracePeriodSeconds', DEFAULT_GRACE_SECONDS)
  setDefault(spec, 'dnsPolicy', 'ClusterFirst')
  setDefault(spec, 'schedulerName', 'default-scheduler')
  setDefault(spec, 'securityContext', {})
  for (const field of ['containers', 'initContainers'])
    for (const container of records(spec[field])) defaultContainer(container)
}

function portErrors(port: Draft, path: string): readonly FieldError[] {
  const errors: FieldError[] = []
  const number = integer(port.containerPort)
  if (number === undefined) errors.push(required(`${path}.containerPort`))
  else if (number < 1 || number > MAX_PORT)
    errors.push(
      invalidValue(`${path}.containerPort`, number, 'must be between 1 and 65535, inclusive'),
    )
  if (!PROTOCOLS.includes(String(port.protocol)))
    errors.push(unsupportedValue(`${path}.protocol`, port.protocol, PROTOCOLS))
  return errors
}

function containerErrors(containers: unknown, path: string): readonly FieldError[] {
  const seen = new Set<string>()
  return records(containers).flatMap((container, index) => {
    const here = `${path}[${index}]`
    const errors: FieldError[] = []
    const name = text(container.name)
    if (name === undefined || name === '') errors.push(required(`${here}.name`))
    else {
      const problem = nameProblem(name, 'label')
      if (problem !== undefined) errors.push(invalidValue(`${here}.name`, name, problem))
      if (seen.has(name)) errors.push(duplicateValue(`${here}.name`, name))
      seen.add(name)
    }
    if ((text(container.image) ?? '') === '') errors.push(required(`${here}.image`))
    for (const [at, port] of records(container.ports).entries())
      errors.push(...portErrors(port, `${here}.ports[${at}]`))
    for (const [at, variable] of records(container.env).entries())
      if ((text(variable.name) ?? '') === '') errors.push(required(`${here}.env[${at}].name`))
    for (const probeName of PROBES) {
      const probe = record(container[probeName])
      if (probe !== undefined && !PROBE_HANDLERS.some((handler) => probe[handler] !== undefined))
        errors.push(required(`${here}.${probeName}`, 'must specify a handler type'))
    }
    return errors
  })
}

/** Checks a pod spec at a path (`spec`, or `spec.template.spec`). */
export function podSpecErrors(spec: Draft | undefined, path: string): readonly FieldError[] {
  const errors: FieldError[] = []
  if (records(spec?.containers).length === 0) errors.push(required(`${path}.containers`))
  errors.push(...containerErrors(spec?.containers, `${path}.containers`))
  errors.push(...containerErrors(spec?.initContainers, `${path}.initContainers`))
  errors.push(...labelErrors(spec?.nodeSelector, `${path}.nodeSelector`))
  const restartPolicy = spec?.restartPolicy
  if (restartPolicy !== undefined && !RESTART_POLICIES.includes(String(restartPolicy)))
    errors.push(unsupportedValue(`${path}.restartPolicy`, restartPolicy, RESTART_POLICIES))
  const volumes = new Set(records(spec?.volumes).map((volume) => volume.name))
  for (const [index, container] of records(spec?.containers).entries())
    for (const [at, mount] of records(container.volumeMounts).entries())
      if (!volumes.has(mount.name))
        errors.push({
          field: `${path}.containers[${index}].volumeMounts[${at}].name`,
          reason: 'FieldValueInvalid',
          message: `Not found: ${JSON.stringify(mount.name)}`,
        })
  return errors
}

/** A pod spec without what may change while the pod exists. */
function immutableView(spec: unknown, isBound: boolean): Draft {
  const fields = { ...record(spec) }
  // Binding a pod to a node is a change from nothing to something, once.
  if (!isBound) delete fields.nodeName
  for (const field of ['containers', 'initContainers'])
    fields[field] = records(fields[field]).map(({ image: _image, ...rest }) => rest)
  delete fields.ephemeralContainers
  delete fields.activeDeadlineSeconds
  delete fields.tolerations
  delete fields.terminationGracePeriodSeconds
  return fields
}

function admitPod(draft: Draft, context: AdmissionContext) {
  const spec = ensureRecord(draft, 'spec')
  const metadata = ensureRecord(draft, 'metadata')
  setDefault(spec, 'serviceAccountName', text(spec.serviceAccount) ?? 'default')
  spec.serviceAccount = spec.serviceAccountName
  setDefault(spec, 'enableServiceLinks', true)
  const account = text(spec.serviceAccountName) ?? ''
  const type = context.resources.byId('pods')
  const namespace = text(metadata.namespace)
  // The default account appears by itself a moment after its namespace; others must be there first.
  if (
    type !== undefined &&
    account !== 'default' &&
    context.store.get('serviceaccounts', namespace, account) === undefined
  )
    return forbidden(
      type,
      text(metadata.name) ?? '',
      `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`,
    )
  draft.status = { phase: 'Pending', qosClass: 'BestEffort' }
  return ok(undefined)
}

export const podStrategy: Strategy = {
  setDefaults: (draft) => defaultPodSpec(ensureRecord(draft, 'spec')),
  admitCreate: admitPod,
  validate: (draft, stored) => {
    const errors = podSpecErrors(record(draft.spec), 'spec')
    const isBound = (text(at(stored, 'spec', 'nodeName')) ?? '') !== ''
    if (
      stored !== undefined &&
      !isDeepStrictEqual(immutableView(draft.spec, isBound), immutableView(stored.spec, isBound))
    )
      return [
        ...errors,
        {
          field: 'spec',
          reason: 'FieldValueForbidden',
          message:
            'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`',
        },
      ]
    return errors
  },
}
