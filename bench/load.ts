// SPDX-License-Identifier: Apache-2.0
// The load generators and how their output is read. All are compiled programs, so that the client is not the bottleneck.

/** Requests per second by wrk (HTTP/1.1 keep-alive, one thread). */
export function wrkCommand(url: string, connections: number, seconds: number): readonly string[] {
  return ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, url]
}

/** New connections per second: wrk with every request on a connection of its own. */
export function wrkConnectCommand(
  url: string,
  connections: number,
  seconds: number,
): readonly string[] {
  return ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '-H', 'Connection: close', url]
}

/** Reads requests per second; throws when wrk saw socket errors, since such a number says nothing. */
export function parseWrk(output: string): number {
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]
  if (rate === undefined)
    throw new Error(`Cannot read wrk's output: no Requests/sec in ${JSON.stringify(output)}`)
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(output)
  if (errors !== null && errors.slice(1).some((count) => Number(count) > 0))
    throw new Error(`Cannot use wrk's result: ${errors[0]}`)
  if (/Non-2xx/.test(output))
    throw new Error(`Cannot use wrk's result: ${/Non-2xx.*/.exec(output)?.[0]}`)
  return Number(rate)
}

/** So many TCP streams at once by iperf3. */
export function iperfCommand(
  host: string,
  port: number,
  seconds: number,
  streams = 1,
): readonly string[] {
  const numbers = ['-p', String(port), '-t', String(seconds), '-P', String(streams)]
  return ['iperf3', '-c', host, ...numbers, '-J']
}

/** Reads received bits per second. */
export function parseIperf(output: string): number {
  const report = JSON.parse(output) as {
    readonly error?: string
    readonly end?: { readonly sum_received?: { readonly bits_per_second?: number } }
  }
  const rate = report.end?.sum_received?.bits_per_second
  if (rate === undefined)
    throw new Error(`Cannot read iperf3's output: ${report.error ?? 'no end.sum_received'}`)
  return rate
}

/** What latency-client.ts prints. Microseconds. */
export interface LatencyReport {
  readonly p50: number
  readonly p99: number
  readonly sent: number
}
