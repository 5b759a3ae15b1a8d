// SPDX-License-Identifier: Apache-2.0
// The page that Prometheus scrapes. It may be tens of megabytes long and compresses to a hundredth, so it is kept compressed only, for
// a moment: a crowd of callers costs no more than one, and a caller that reads slowly holds nothing of its own.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { buffer } from 'node:stream/consumers'
import { constants, createGunzip, createGzip, type Gunzip } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import {
  acceptedFormat,
  CONTENT_TYPES,
  exposition,
  type TextFormat,
} from '../telemetry/metrics/exposition.ts'
import type { MetricsSource } from '../telemetry/metrics/family.ts'

/** Writing 20,000 series takes the main thread tens of milliseconds; whoever asks in a loop gets the same page again. */
const REUSE_MS = 500

interface Page {
  readonly gzip: Promise<Buffer>
  readonly atMs: number
}

/** Serves metrics at these paths: OpenMetrics or Prometheus's format, compressed for who takes it so. */
export function serveMetrics(
  app: FastifyInstance,
  source: MetricsSource,
  paths: readonly string[],
): void {
  const pages = new Map<TextFormat, Page>()
  const pageOf = (format: TextFormat): Promise<Buffer> => {
    const now = performance.now()
    const before = pages.get(format)
    if (before !== undefined && now - before.atMs <= REUSE_MS) return before.gzip
    const gzip = compressed(source, format)
    pages.set(format, { gzip, atMs: now })
    // A page that failed is no page: the next caller has it written anew, this one is told.
    gzip.catch(() => pages.delete(format))
    return gzip
  }
  for (const path of paths)
    app.get(path, async (request, reply) => {
      const format = acceptedFormat(request.headers.accept)
      const gzip = await pageOf(format)
      void reply.type(CONTENT_TYPES[format]).header('vary', 'accept, accept-encoding')
      if (!acceptsGzip(request.headers['accept-encoding'])) return plain(gzip)
      void reply.header('content-encoding', 'gzip')
      return gzip
    })
}

async function compressed(source: MetricsSource, format: TextFormat): Promise<Buffer> {
  // In zlib's threads; the fastest level, since label sets repeat so much that the others gain little.
  const gzip = createGzip({ level: constants.Z_BEST_SPEED })
  const pieces = exposition(await source.families(), format)
  const [page] = await Promise.all([buffer(gzip), pipeline(Readable.from(pieces), gzip)])
  return page
}

function plain(gzip: Buffer): Gunzip {
  const text = createGunzip()
  text.end(gzip)
  return text
}

function acceptsGzip(header: string | string[] | undefined): boolean {
  return /(?:^|,)\s*gzip\s*(?:,|$|;(?!\s*q=0(?:\.0*)?\s*(?:,|$)))/i.test(String(header ?? ''))
}
