// SPDX-License-Identifier: Apache-2.0
// The text of daemonset/install.yaml: the chart with its own values, for kubectl.

import { chartFacts, renderChart } from './chart.ts'

/** Where the mesh is installed unless somebody says otherwise. */
const MESH_NAMESPACE = 'ambit-system'

/** The whole file. */
export async function installManifest(): Promise<string> {
  const { objects } = await renderChart({ createNamespace: true }, { namespace: MESH_NAMESPACE })
  return [
    `# Ambit ${chartFacts().AppVersion}, for kubectl apply -f: daemonset/chart with its own values. Rendered by`,
    '# node scripts/render-install.ts; do not edit. Kinds of policies, where the cluster lacks them: kubectl create -f daemonset/chart/crds.',
    ...objects.map(({ text }) => `---\n${text.trimEnd()}`),
    '',
  ].join('\n')
}
