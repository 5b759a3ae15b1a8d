// SPDX-License-Identifier: Apache-2.0
// What a page of the dashboard is, and how it gets what it shows.

/** A page that is on the screen. */
export interface Page {
  readonly title: string
  /** Asks for what it shows and draws it anew; rejects when the server cannot be asked. */
  readonly refresh: () => Promise<void>
  /** Where `/` leads. */
  readonly search?: () => HTMLElement | undefined
  /** What Escape does; true when it did something. */
  readonly escape?: () => boolean
  readonly leave?: () => void
}

export class ServerError extends Error {
  readonly status: number

  constructor(status: number, text: string) {
    super(text)
    this.status = status
  }
}

/** The JSON of the answer; throws ServerError for what is none. */
export async function load<T>(path: string): Promise<T> {
  const response = await fetch(path)
  if (!response.ok) throw new ServerError(response.status, (await response.text()).slice(0, 200))
  // Our own server's, whose types we share.
  return (await response.json()) as T
}

/** For those who do not see what has changed. */
export function announce(text: string): void {
  const region = document.querySelector('#announce')
  if (region !== null) region.textContent = text
}
