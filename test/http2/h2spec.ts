// SPDX-License-Identifier: Apache-2.0
// Runs h2spec, a conformance suite for HTTP/2 servers, and reads its report.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { isExecutable } from '../../lab/machine/find-program.ts'

/** How long h2spec waits for what a server should do; most of its time it waits for what a server should not do. */
const PATIENCE_SECONDS = 1

export interface H2specCase {
  /** Section and title, as the report has them. */
  readonly name: string
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** What was expected and seen of one that failed. */
  readonly detail: string
}

/** Where h2spec is: AMBIT_H2SPEC, PATH, or where scripts/setup.sh builds it. */
export function findH2spec(): string | undefined {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    join(import.meta.dirname, '../../node_modules/.ambit-tools'),
  ]
  const places = [
    ...(process.env['AMBIT_H2SPEC'] === undefined ? [] : [process.env['AMBIT_H2SPEC']]),
    ...folders.map((folder) => join(folder, 'h2spec')),
  ]
  return places.find(isExecutable)
}

/** Runs all cases against a server on loopback that speaks HTTP/2 without TLS. */
export async function runH2spec(program: string, port: number): Promise<readonly H2specCase[]> {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-h2spec-'))
  const report = join(folder, 'report.xml')
  try {
    const args = ['-h', '127.0.0.1', '-p', `${port}`, '-o', `${PATIENCE_SECONDS}`, '-j', report]
    // Its exit code only says whether a case failed; a run that broke off leaves no report.
    await new Promise((resolve) => execFile(program, args, resolve))
    return casesOf(readFileSync(report, 'utf8'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const CASE =
  /<testcase package="([^"]*)" classname="([^"]*)"[^>]*>\s*(?:<(error|failure|skipped)>([^<]*)<\/\3>)?\s*<\/testcase>/g

function casesOf(report: string): readonly H2specCase[] {
  return [...report.matchAll(CASE)].map(([, section = '', title = '', failing, detail = '']) => ({
    name: unescapeXml(`${section} ${title}`),
    outcome: failing === undefined ? 'passed' : failing === 'skipped' ? 'skipped' : 'failed',
    detail: unescapeXml(detail),
  }))
}

function unescapeXml(text: string): string {
  return text
    .replaceAll('&#34;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')
}
