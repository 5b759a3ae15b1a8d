// SPDX-License-Identifier: Apache-2.0
// Flags of the export of telemetry, the same for every program. The environment variables are ours and not those of OpenTelemetry's SDKs,
// which know settings that we do not.

import { InvalidArgumentError } from 'commander'
import type { OtlpConfig } from '../telemetry/otlp/target.ts'
import { type FlagTable, optionalText, parsed } from './flags.ts'

/** What OpenTelemetry's SDKs have. */
const DEFAULT_INTERVAL_SECONDS = 60
const LONGEST_INTERVAL_SECONDS = 86_400

export const OTLP_FLAGS: FlagTable<OtlpConfig> = {
  otlpEndpoint: parsed<URL | undefined>(
    '--otlp-endpoint <url>',
    'OpenTelemetry collector that gets metrics and access lines by OTLP/HTTP, e.g. http://collector:4318; none if left out',
    parseEndpoint,
    { env: 'AMBIT_OTLP_ENDPOINT', fallback: undefined },
  ),
  otlpHeadersFile: optionalText(
    '--otlp-headers-file <file>',
    'headers for the collector, such as a token: lines of "name: value"; read anew for each request',
    { env: 'AMBIT_OTLP_HEADERS_FILE' },
  ),
  otlpCaFile: optionalText(
    '--otlp-ca-file <file>',
    "roots of the collector's certificate, PEM; those of the system if left out",
    { env: 'AMBIT_OTLP_CA_FILE' },
  ),
  otlpIntervalMs: parsed(
    '--otlp-interval <seconds>',
    'how often metrics are exported',
    parseInterval,
    {
      env: 'AMBIT_OTLP_INTERVAL',
      fallback: DEFAULT_INTERVAL_SECONDS * 1_000,
      shown: String(DEFAULT_INTERVAL_SECONDS),
    },
  ),
}

function parseEndpoint(text: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new InvalidArgumentError(
      'It must be an http:// or https:// URL, e.g. http://collector:4318.',
    )
  // Those would be in the list of processes, in logs and in configuration dumps.
  if (url.username !== '' || url.password !== '')
    throw new InvalidArgumentError('User and password belong into --otlp-headers-file.')
  if (url.search !== '' || url.hash !== '')
    throw new InvalidArgumentError('It must end with its path: /v1/metrics and /v1/logs are added.')
  return url
}

function parseInterval(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !(seconds >= 1 && seconds <= LONGEST_INTERVAL_SECONDS))
    throw new InvalidArgumentError(
      `It must be a number of seconds from 1 to ${LONGEST_INTERVAL_SECONDS}.`,
    )
  return seconds * 1_000
}
