// SPDX-License-Identifier: Apache-2.0
// Child processes that the tests ask to do something, each in its own namespace and cgroup, over Node's IPC channel.

import { type ChildProcess, spawn } from 'node:child_process'
import { deadline } from '../../helpers.ts'

/** The first answer comes after the process's start: seconds of work, of which a loaded machine gives it a tenth. */
const ANSWER_DEADLINE_MS = deadline(120_000)

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

/** Where a process lives. */
export interface Place {
  /** A path that opens its network namespace. */
  readonly netns: string
  /** The cgroup directory it joins before it starts. */
  readonly cgroup: string
  /** Put before the program, e.g. `unshare --net`. */
  readonly wrapper?: readonly string[]
}

/** The parent's side: one question at a time or several, each with a deadline. */
export class RemoteProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >()
  readonly exited: Promise<void>
  #nextId = 0

  constructor(script: URL, place: Place) {
    const command = [...(place.wrapper ?? []), process.execPath, script.pathname]
    this.#child = spawn(
      'nsenter',
      [
        `--net=${place.netns}`,
        'sh',
        '-c',
        'echo $$ > "$0/cgroup.procs" && exec "$@"',
        place.cgroup,
        ...command,
      ],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    )
    this.exited = new Promise((resolve) => {
      this.#child.once('exit', () => {
        for (const { reject } of this.#waiting.values()) reject(new Error('the process has ended'))
        this.#waiting.clear()
        resolve()
      })
    })
    this.#child.on('message', (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id)
      this.#waiting.delete(answer.id)
      if (answer.error === undefined) waiting?.resolve(answer.value)
      else waiting?.reject(new Error(answer.error))
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  ask<T>(op: string, argument?: unknown): Promise<T> {
    const id = this.#nextId
    this.#nextId += 1
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`${op} was not answered in time`))
      }, ANSWER_DEADLINE_MS)
      const done =
        <V>(settle: (value: V) => void) =>
        (value: V): void => {
          clearTimeout(timer)
          settle(value)
        }
      this.#waiting.set(id, {
        resolve: done((value: unknown) => resolve(value as T)),
        reject: done(reject),
      })
      this.#child.send({ id, op, argument })
    })
  }

  /** Ends the process and waits until it is gone. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal)
    await this.exited
  }
}

/** The child's side: answers questions by these functions until the parent goes. */
export function serveRpc(operations: Readonly<Record<string, (argument: never) => unknown>>): void {
  process.on('message', (question: { id: number; op: string; argument: never }) => {
    const answer = async (): Promise<Answer> => {
      try {
        const value = await operations[question.op]?.(question.argument)
        return { id: question.id, value }
      } catch (thrown) {
        return { id: question.id, error: thrown instanceof Error ? thrown.message : String(thrown) }
      }
    }
    void answer().then((message) => process.send?.(message))
  })
  process.on('disconnect', () => process.exit(0))
}
