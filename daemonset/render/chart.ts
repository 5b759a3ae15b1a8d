// SPDX-License-Identifier: Apache-2.0
// Renders the Helm chart beside this folder without Helm: for daemonset/install.yaml, `ambit install` and the lab. The chart is Helm's
// own kind, and tests hold what comes out here to what Helm makes of it (test/chart).

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'
import { TemplateSet } from './evaluate.ts'
import { ChartRefusal, isRecord } from './functions.ts'
import { parseTemplates } from './parser.ts'
import { mergeValues, readValuesFile, refused, type Values } from './values.ts'

export interface ChartRelease {
  readonly namespace: string
  /** Helm's name of the installation. */
  readonly name?: string
  /** Who manages it, as the label app.kubernetes.io/managed-by says. */
  readonly service?: string
}

/** An object of the chart. */
export interface ChartObject {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  /** As the template has it, comments included. */
  readonly text: string
  readonly object: Readonly<Record<string, unknown>>
}

export interface RenderedChart {
  /** In the order to apply them; without tests. */
  readonly objects: readonly ChartObject[]
  readonly notes: string
  /** All values that were used. */
  readonly values: Values
}

const CHART = fileURLToPath(new URL('../chart/', import.meta.url))
/** What others refer to comes first. */
const ORDER = [
  'Namespace',
  'ResourceQuota',
  'ServiceAccount',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
  'Service',
  'PodDisruptionBudget',
  'Deployment',
  'DaemonSet',
]

/** Renders the chart with values over its own. Throws AMB_CHART_VALUES where the schema or a template refuses them. */
export async function renderChart(given: Values, release: ChartRelease): Promise<RenderedChart> {
  const { requireValid } = await import('./schema.ts')
  const values = mergeValues(readValuesFile(path.join(CHART, 'values.yaml')), given)
  requireValid(values)
  const { name = 'ambit', namespace, service = 'ambit' } = release
  const data = {
    Values: values,
    Chart: chartFacts(),
    Release: { Name: name, Namespace: namespace, Service: service },
  }
  const files = templateFiles()
  const templates = new TemplateSet(
    files.flatMap((file) => parseTemplates(readFileSync(path.join(CHART, file), 'utf8'), file)),
  )
  const render = (file: string): string => {
    try {
      return templates.render(file, data)
    } catch (thrown) {
      if (thrown instanceof ChartRefusal)
        throw refused(`Cannot take these values: ${thrown.message}`)
      throw thrown
    }
  }
  const objects = files
    .filter((file) => file.endsWith('.yaml') && !file.includes('/tests/'))
    .flatMap((file) => objectsOf(render(file), file))
    .toSorted((one, other) => ORDER.indexOf(one.kind) - ORDER.indexOf(other.kind))
  return { objects, notes: render('templates/NOTES.txt'), values }
}

/** The kinds that the chart brings along for clusters that lack them: Helm makes those once and never changes them. */
export function chartKinds(): readonly ChartObject[] {
  const directory = path.join(CHART, 'crds')
  return readdirSync(directory).flatMap((file) =>
    objectsOf(readFileSync(path.join(directory, file), 'utf8'), `crds/${file}`),
  )
}

/** The version of the chart, which is the product's. */
export function chartFacts(): {
  readonly Name: string
  readonly Version: string
  readonly AppVersion: string
} {
  const { name, version, appVersion } = readValuesFile(path.join(CHART, 'Chart.yaml'))
  return { Name: String(name), Version: String(version), AppVersion: String(appVersion) }
}

function templateFiles(): readonly string[] {
  return readdirSync(path.join(CHART, 'templates'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(CHART, path.join(entry.parentPath, entry.name)))
    .toSorted()
}

function objectsOf(text: string, file: string): readonly ChartObject[] {
  return text.split(/^---$/m).flatMap((part) => {
    const documents = parseYamlDocuments(part)
    if (!documents.ok)
      throw new Error(
        `${file} renders to no YAML: line ${documents.error.line}: ${documents.error.what}`,
      )
    const object = documents.value[0]?.value
    if (!isRecord(object)) return []
    const metadata = isRecord(object['metadata']) ? object['metadata'] : {}
    return {
      apiVersion: String(object['apiVersion']),
      kind: String(object['kind']),
      name: String(metadata['name']),
      text: `${part.trim()}\n`,
      object,
    }
  })
}
