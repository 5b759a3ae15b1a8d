// SPDX-License-Identifier: Apache-2.0
// What the demonstration shows, check by check. A check returns what was observed, or throws CheckFailed with it;
// nothing is retried beyond the time the claim itself allows.

import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { formatHostPort } from '../../mesh/model/host-port.ts'
import { type AccessLine, accessLines } from '../machine/access-lines.ts'
import { OUTSIDE_IP4, OUTSIDE_IP6 } from '../network/addressing.ts'
import { type Check, CheckFailed, type ClientReport, type DemoLab, expect } from './check.ts'
import { policyChecks } from './policy-checks.ts'
import { waypointChecks } from './waypoint-checks.ts'
import { wireFacts } from './wire.ts'

/** Ends a wait in vain. No claim about speed: only a fault is ever that slow, also on a busy machine. What is awaited is told with its time. */
const IN_VAIN_MS = 30_000
const POLL_MS = 20

const APP_PORT = 8080
const urlOf = (ip: string): string => `http://${formatHostPort({ host: ip, port: APP_PORT })}/`

/** Builds the story; state flows from check to check in closures, in the order of the list. */
export function demoChecks(lab: DemoLab): readonly Check[] {
  const marker = (): string => `ambit-marker-${randomBytes(8).toString('hex')}`
  let pidsBefore = ''

  /** The pod's own addresses, IPv4 first. */
  const podIps = async (pod: string): Promise<readonly string[]> => {
    const [namespace, name] = pod.split('/')
    const path = 'jsonpath={.status.podIPs[*].ip}'
    const addresses = await lab.kubectl(
      'get',
      'pod',
      '-n',
      String(namespace),
      String(name),
      '-o',
      path,
    )
    return addresses.split(' ')
  }

  const podIp = async (pod: string): Promise<string> => String((await podIps(pod))[0])

  const call = async (pod: string, url: string, mark = ''): Promise<ClientReport> => {
    const stdout = await lab.exec(pod, 'node', 'lab/samples/client.ts', url, mark)
    return JSON.parse(stdout) as ClientReport
  }

  const pids = async (): Promise<string> => {
    const answers = []
    for (const pod of ['shop/frontend', 'shop/catalog-v1', 'shop/catalog-v2']) {
      const report = await call(pod, 'http://127.0.0.1:8080/')
      answers.push(`${pod}=${report.answer?.pid}`)
    }
    const restarts = await lab.kubectl(
      'get',
      'pods',
      '-n',
      'shop',
      '-o',
      'jsonpath={.items[*].status.containerStatuses[*].restartCount}',
    )
    return `${answers.join(' ')} restarts=${restarts}`
  }

  /** Waits for an access line that matches and was not there before. */
  const waitForLine = async (
    node: string,
    seen: number,
    matches: (line: AccessLine) => boolean,
  ): Promise<AccessLine> => {
    const deadline = Date.now() + IN_VAIN_MS
    for (;;) {
      const lines = accessLines(lab.agentLog(node)).slice(seen)
      const found = lines.find(matches)
      if (found !== undefined) return found
      if (Date.now() > deadline)
        throw new CheckFailed(
          `no such access line on ${node} within ${IN_VAIN_MS} ms; new lines: ${JSON.stringify(lines)}`,
        )
      await delay(POLL_MS)
    }
  }
  const isOutbound = (line: AccessLine): boolean => line.direction === 'outbound'
  const countLines = (node: string): number => accessLines(lab.agentLog(node)).length

  let labelled: ClientReport | undefined

  return [
    {
      title: 'before the label, the call crosses the fabric in plaintext',
      run: async () => {
        pidsBefore = await pids()
        const mark = marker()
        const capture = await lab.capture('fabric')
        const report = await call('shop/frontend', 'http://catalog.shop/', mark)
        const facts = await wireFacts(await capture.stop(), mark)
        expect(report.answer?.marker === mark, `the call failed: ${JSON.stringify(report)}`)
        expect(
          facts.markerSeen && facts.hboneSegments === 0,
          `marker seen: ${facts.markerSeen}, HBONE segments: ${facts.hboneSegments}`,
        )
        return `${report.answer?.pod} answered; the marker is readable in the capture (${facts.plaintextSegments} plaintext segments)`
      },
    },
    {
      title: 'the label captures the same call, and the fabric carries only TLS 1.3 to port 15008',
      run: async () => {
        // The call with the marker may go over a connection that one before it opened: handshakes are watched from the start.
        const handshakes = await lab.capture('fabric')
        const labelledAt = performance.now()
        await lab.kubectl(
          'label',
          'namespace',
          'shop',
          'istio.io/dataplane-mode=ambient',
          '--overwrite',
        )
        await lab.kubectl(
          'wait',
          'pod',
          '--all',
          '-n',
          'shop',
          `--for=jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}=enabled`,
          `--timeout=${IN_VAIN_MS / 1000}s`,
        )
        const enrolledMs = Math.round(performance.now() - labelledAt)
        // The caller's agent hears of it from the controller: no call carries a marker until one has gone by HBONE.
        let carried: AccessLine | undefined
        while (carried === undefined) {
          const before = countLines('node-a')
          await call('shop/frontend', 'http://catalog.shop/')
          const line = await waitForLine('node-a', before, isOutbound)
          if (line['dst.hbone_addr'] !== undefined) carried = line
          else if (performance.now() - labelledAt > IN_VAIN_MS)
            throw new CheckFailed(`still in plaintext after ${IN_VAIN_MS} ms`)
        }
        const seen = countLines('node-a')
        const mark = marker()
        const clean = await lab.capture('fabric')
        const report = await call('shop/frontend', 'http://catalog.shop/', mark)
        const facts = await wireFacts(await clean.stop(), mark)
        const { tlsVersions } = await wireFacts(await handshakes.stop(), mark)
        labelled = report
        expect(report.answer?.marker === mark, `the call failed: ${JSON.stringify(report)}`)
        await waitForLine(
          'node-a',
          seen,
          (line) => isOutbound(line) && line['dst.hbone_addr'] !== undefined,
        )
        expect(!facts.markerSeen, 'the plaintext marker is in the capture')
        expect(facts.plaintextSegments === 0, `plaintext between pods: ${facts.plaintextExample}`)
        expect(facts.hboneSegments > 0, 'no segment to port 15008')
        expect(
          tlsVersions.join() === 'TLS 1.3',
          `TLS versions: ${tlsVersions.join() || 'no handshake seen'}`,
        )
        return `all pods enrolled ${enrolledMs} ms after the label, as kubectl wait sees it; ${facts.hboneSegments} segments, all TLS 1.3 on port 15008; the marker is nowhere`
      },
    },
    {
      title: 'no process restarted',
      run: async () => {
        const now = await pids()
        expect(now === pidsBefore, `before ${pidsBefore}, now ${now}`)
        return `same PIDs: ${now}`
      },
    },
    {
      title:
        "the server saw the client's own pod IP; the client's getpeername shows what it dialled",
      run: async () => {
        const report = labelled
        if (report?.answer === undefined) throw new CheckFailed('the captured call did not succeed')
        const frontend = await podIps('shop/frontend')
        expect(
          frontend.includes(report.answer.client),
          `the server saw ${report.answer.client}, the pod is ${frontend.join(' or ')}`,
        )
        expect(
          report.peer === report.dialled && report.peerPort === 80,
          `dialled ${report.dialled}:80, getpeername says ${report.peer}:${report.peerPort}`,
        )
        expect(frontend.includes(String(report.local)), `getsockname says ${report.local}`)
        return `server saw ${report.answer.client}; getpeername says ${report.peer}:${report.peerPort}`
      },
    },
    {
      title: "the server's agent logged the client's SPIFFE ID, verified from its certificate",
      run: async () => {
        const expected = 'spiffe://cluster.local/ns/shop/sa/frontend'
        const line = await waitForLine(
          'node-b',
          0,
          (entry) => entry.direction === 'inbound' && entry['src.identity'] === expected,
        )
        return `src.identity=${String(line['src.identity'])} dst.workload=${String(line['dst.workload'])}`
      },
    },
    {
      title: 'a call by pod IP is carried by HBONE',
      run: async () => {
        const seen = countLines('node-a')
        const target = await podIp('shop/catalog-v1')
        const report = await call('shop/frontend', urlOf(target))
        expect(report.answer?.pod === 'catalog-v1', JSON.stringify(report))
        const line = await waitForLine(
          'node-a',
          seen,
          (entry) =>
            entry.direction === 'outbound' &&
            entry['dst.hbone_addr'] === formatHostPort({ host: target, port: APP_PORT }),
        )
        return `dst.addr=${String(line['dst.addr'])} dst.hbone_addr=${String(line['dst.hbone_addr'])}`
      },
    },
    {
      title: "a pod's calls to itself, by its own IP and by 127.0.0.1, are not captured",
      run: async () => {
        const seen = countLines('node-b')
        const own = await podIp('shop/catalog-v1')
        const byIp = await call('shop/catalog-v1', urlOf(own))
        const byLoopback = await call('shop/catalog-v1', 'http://127.0.0.1:8080/')
        expect(byIp.answer?.client === own, `by own IP: ${JSON.stringify(byIp)}`)
        expect(
          byLoopback.answer?.client === '127.0.0.1',
          `by loopback: ${JSON.stringify(byLoopback)}`,
        )
        // A captured call afterwards proves that the log has caught up.
        await call('shop/frontend', urlOf(own))
        await waitForLine(
          'node-b',
          seen,
          (entry) => entry.direction === 'inbound' && entry['src.workload'] === 'frontend',
        )
        const selfLines = accessLines('node-b')
          .slice(seen)
          .filter((entry) => entry['src.workload'] === 'catalog-v1')
        expect(selfLines.length === 0, `captured: ${JSON.stringify(selfLines)}`)
        return `answered from ${own} and 127.0.0.1; no access line`
      },
    },
    {
      title: 'a call from legacy (outside the mesh) is served in plaintext, without an identity',
      run: async () => {
        const seen = countLines('node-b')
        const sources = await podIps('legacy/batch')
        const report = await call('legacy/batch', 'http://catalog.shop/')
        const source = report.answer?.client ?? ''
        expect(sources.includes(source), JSON.stringify(report))
        const line = await waitForLine(
          'node-b',
          seen,
          (entry) =>
            entry.direction === 'inbound' &&
            String(entry['src.addr']).replace(/[[\]]/g, '').startsWith(`${source}:`),
        )
        expect(
          line['src.identity'] === undefined,
          `an identity was claimed: ${String(line['src.identity'])}`,
        )
        return `server saw ${source}; access line without src.identity`
      },
    },
    {
      title: 'a call to an address outside the mesh passes through',
      run: async () => {
        const seen = countLines('node-a')
        const own = await podIp('shop/frontend')
        const outside = { host: own.includes(':') ? OUTSIDE_IP6 : OUTSIDE_IP4, port: 80 }
        const report = await call('shop/frontend', `http://${formatHostPort(outside)}/`)
        expect(report.answer?.service === 'outside', JSON.stringify(report))
        const line = await waitForLine(
          'node-a',
          seen,
          (entry) =>
            entry.direction === 'outbound' && entry['dst.addr'] === formatHostPort(outside),
        )
        expect(
          line['dst.hbone_addr'] === undefined,
          `tunnelled to ${String(line['dst.hbone_addr'])}`,
        )
        return `dst.addr=${String(line['dst.addr'])}, no tunnel`
      },
    },
    {
      title: "probes from the node pass without SNAT, from the node's own address",
      run: async () => {
        const since = new Date().toISOString()
        // Of all its devices: with a bridge for pods it calls them from that bridge's.
        const listed = await lab.nodeExec('node-b', 'ip', '-o', 'address')
        const ofNode = [...listed.matchAll(/ inet6? ([^/ ]+)/g)].map(([, address]) => address)
        const deadline = Date.now() + IN_VAIN_MS
        for (;;) {
          const stdout = await lab.exec(
            'shop/catalog-v1',
            'curl',
            '-s',
            'http://127.0.0.1:8080/probes',
          )
          const { probes } = JSON.parse(stdout) as { probes: { address: string; at: string }[] }
          const fresh = probes.filter((probe) => probe.at > since)
          const foreign = fresh.filter((probe) => !ofNode.includes(probe.address))
          expect(
            foreign.length === 0,
            `a probe came from ${foreign[0]?.address}, the node is ${ofNode.join(', ')}`,
          )
          if (fresh.length >= 2) {
            const ready = await lab.kubectl(
              'get',
              'pods',
              '-n',
              'shop',
              '-o',
              'jsonpath={.items[*].status.containerStatuses[*].ready}',
            )
            expect(ready === 'true true true', `ready: ${ready}`)
            return `${fresh.length} probes from ${fresh[0]?.address}; all pods ready`
          }
          if (Date.now() > deadline)
            throw new CheckFailed(`only ${fresh.length} probes in ${IN_VAIN_MS} ms`)
          await delay(POLL_MS)
        }
      },
    },
    {
      title: 'a curl by another process of that node is a plaintext caller, not a probe',
      run: async () => {
        const seen = countLines('node-b')
        const target = await podIp('shop/catalog-v1')
        await lab.nodeExec('node-b', 'curl', '-sf', '-m', '5', urlOf(target))
        const line = await waitForLine(
          'node-b',
          seen,
          (entry) =>
            entry.direction === 'inbound' &&
            entry['src.identity'] === undefined &&
            entry['dst.addr'] === formatHostPort({ host: target, port: APP_PORT }),
        )
        return `captured as plaintext: src.addr=${String(line['src.addr'])}`
      },
    },
    ...policyChecks(lab, call),
    ...waypointChecks(lab),
    {
      title: 'removing the label restores plaintext, with no restart',
      run: async () => {
        await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode-')
        const unlabelledAt = performance.now()
        for (;;) {
          const annotations = await lab.kubectl(
            'get',
            'pods',
            '-n',
            'shop',
            '-o',
            'jsonpath={.items[*].metadata.annotations.ambient\\.istio\\.io/redirection}',
          )
          if (!annotations.includes('enabled')) break
          if (performance.now() - unlabelledAt > IN_VAIN_MS)
            throw new CheckFailed(`still enrolled after ${IN_VAIN_MS} ms: "${annotations}"`)
          await delay(POLL_MS)
        }
        const leftMs = Math.round(performance.now() - unlabelledAt)
        // The tunnels of before say goodbye meanwhile: their last segments may stand in the first capture.
        const quietBy = Date.now() + IN_VAIN_MS
        for (;;) {
          const mark = marker()
          const capture = await lab.capture('fabric')
          const report = await call('shop/frontend', 'http://catalog.shop/', mark)
          const facts = await wireFacts(await capture.stop(), mark)
          expect(report.answer?.marker === mark, `the call failed: ${JSON.stringify(report)}`)
          expect(facts.markerSeen, 'the marker is not readable in the capture')
          if (facts.hboneSegments === 0) break
          expect(
            Date.now() < quietBy,
            `${facts.hboneSegments} HBONE segments, ${IN_VAIN_MS} ms after the label went`,
          )
        }
        const now = await pids()
        expect(now === pidsBefore, `before ${pidsBefore}, now ${now}`)
        return `plaintext again; all pods had left ${leftMs} ms after the label went; same PIDs`
      },
    },
  ]
}
