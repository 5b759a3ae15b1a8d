// SPDX-License-Identifier: Apache-2.0
// Labels that contradict one another, or mean nothing: ambient mode and sidecar injection.

import { fieldsOf } from '../../../controller/istio-api/flaw.ts'
import { DATAPLANE_MODE_LABEL } from '../../../mesh/model/names.ts'
import { type Finding, finding, type ObjectRef } from '../finding.ts'
import { refOf, textsOf } from '../objects.ts'
import type { Check } from './check.ts'

type Labels = ReadonlyMap<string, string>

const INJECTION_LABEL = 'istio-injection'
const REVISION_LABEL = 'istio.io/rev'
const INJECT_LABEL = 'sidecar.istio.io/inject'

export const MODE_LABELS: Check = {
  codes: ['AMB603', 'AMB604'],
  needs: ['Namespace', 'Pod'],
  *run({ objects, workloads, namespaces }) {
    for (const object of objects.of('Namespace')) {
      const ref = refOf('Namespace', object)
      const labels = textsOf(fieldsOf(object.metadata)?.['labels'])
      const mode = labels.get(DATAPLANE_MODE_LABEL)
      yield* unknownMode(ref, mode, 'metadata.labels')
      if (mode !== 'ambient') continue
      const by = injectionOf(labels)
      if (by !== undefined)
        yield finding(
          'AMB603',
          ref,
          `metadata.labels[${by}]`,
          `${DATAPLANE_MODE_LABEL}=ambient stands beside ${by}=${labels.get(by) ?? ''}`,
        )
    }
    for (const workload of workloads) {
      const field = workload.kind === 'Pod' ? 'metadata' : 'spec.template.metadata'
      const own = workload.labels.get(DATAPLANE_MODE_LABEL)
      yield* unknownMode(workload, own, `${field}.labels`)
      const mode = own ?? namespaces.get(workload.namespace)?.get(DATAPLANE_MODE_LABEL)
      if (mode !== 'ambient') continue
      for (const [where, texts] of [
        ['labels', workload.labels],
        ['annotations', workload.annotations],
      ] as const)
        if (texts.get(INJECT_LABEL) === 'true')
          yield finding(
            'AMB603',
            workload,
            `${field}.${where}[${INJECT_LABEL}]`,
            'it asks for a sidecar, and is to be in the mesh by ambient mode',
          )
    }
  },
}

/** The label of a namespace that puts sidecars into its pods; `istio.io/rev` does so unless injection is disabled. */
function injectionOf(labels: Labels): string | undefined {
  if (labels.get(INJECTION_LABEL) === 'enabled') return INJECTION_LABEL
  // A revision of ambient mode is named by the same label: it says nothing for certain.
  return labels.has(REVISION_LABEL) && labels.get(INJECT_LABEL) === 'true'
    ? INJECT_LABEL
    : undefined
}

function* unknownMode(ref: ObjectRef, mode: string | undefined, field: string): Generator<Finding> {
  if (mode !== undefined && mode !== 'ambient' && mode !== 'none')
    yield finding(
      'AMB604',
      ref,
      `${field}[${DATAPLANE_MODE_LABEL}]`,
      `"${mode}" is neither ambient nor none`,
    )
}
