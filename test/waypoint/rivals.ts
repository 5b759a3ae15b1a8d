// SPDX-License-Identifier: Apache-2.0
// nginx and haproxy in front of a server of Node's, as witnesses of what others make of the bytes that clients send.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { findProgram } from '../../lab/machine/find-program.ts'
import { until } from '../support/until.ts'
import { heardAs } from './node-app.ts'

export type RivalName = 'nginx' | 'haproxy'

/** How long a rival waits for the rest of what a client has begun: only broken requests wait. */
const PATIENCE = '2s'

/** Where a rival's program is; undefined: the machine has none. */
export function findRival(name: RivalName): string | undefined {
  // Debian has them where only root looks; and scripts/setup.sh has a place of its own.
  const ours = join(import.meta.dirname, '../../node_modules/.ambit-tools')
  return findProgram(name, { after: ['/usr/sbin', '/sbin', ours] })
}

/** A rival that runs. */
export interface Rival {
  /** Sends bytes over one connection of their own until the rival closes it; the whole requests that the app heard of meanwhile. */
  hear(bytes: string): Promise<readonly string[]>
}

/** Starts a rival before an app that answers everything; both end with the test. */
export async function startRival(t: Test, name: RivalName, program: string): Promise<Rival> {
  const folder = mkdtempSync(join(tmpdir(), `ambit-${name}-`))
  const [front, back] = [join(folder, 'front'), join(folder, 'back')]
  let heard: string[] = []
  const app = createServer((request, response) => {
    text(request).then(
      (body) => {
        heard.push(heardAs(request, body))
        response.end()
      },
      // Cut in the middle: no whole request.
      () => response.destroy(),
    )
  }).listen(back)
  await once(app, 'listening')
  const config = join(folder, 'config')
  writeFileSync(config, CONFIGS[name](folder, front, back))
  const args = name === 'nginx' ? ['-p', folder, '-c', config] : ['-f', config]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
  t.teardown(async () => {
    await end(child)
    app.closeAllConnections()
    app.close()
    rmSync(folder, { recursive: true })
  })
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`${name} ended: ${said}`)
    return isListening(front)
  }, `${name} to listen`)
  return {
    hear: async (bytes) => {
      heard = []
      const socket = connect(front)
      // Who refuses a request may reset what still comes of it.
      socket.on('error', () => undefined)
      socket.resume()
      socket.write(Buffer.from(bytes, 'latin1'))
      await new Promise((resolve) => socket.once('close', resolve))
      return heard
    },
  }
}

const CONFIGS: Readonly<
  Record<RivalName, (folder: string, front: string, back: string) => string>
> = {
  nginx: (folder, front, back) => `
daemon off;
master_process off;
pid ${folder}/pid;
error_log stderr crit;
events {}
http {
  access_log off;
  client_header_timeout ${PATIENCE};
  client_body_timeout ${PATIENCE};
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  lingering_close off;
  server {
    listen unix:${front};
    location / { proxy_http_version 1.1; proxy_pass http://unix:${back}:; }
  }
}
`,
  haproxy: (_, front, back) => `
defaults
  mode http
  timeout connect 10s
  timeout client ${PATIENCE}
  timeout server 10s
  timeout http-request ${PATIENCE}
  option http-server-close
frontend front
  bind unix@${front}
  default_backend back
backend back
  server app unix@${back}
`,
}

async function isListening(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
