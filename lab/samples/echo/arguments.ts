// SPDX-License-Identifier: Apache-2.0
// What the workload of the conformance suite is told: flags as the programs take that it stands for.

/** The flags of a command line and what is no flag: `--name=value`, `--name value` and `-H value`, as often as they come. */
export interface Arguments {
  readonly flags: ReadonlyMap<string, readonly string[]>
  readonly rest: readonly string[]
}

/** Reads a command line. A flag without a value is an error: there is none that needs none. */
export function readArguments(words: readonly string[]): Arguments {
  const flags = new Map<string, string[]>()
  const rest: string[] = []
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? ''
    if (!word.startsWith('-')) {
      rest.push(word)
      continue
    }
    const [name = '', ...values] = word.replace(/^--?/, '').split('=')
    const value = values.length > 0 ? values.join('=') : words[(at += 1)]
    if (value === undefined) throw new Error(`${word} needs a value`)
    flags.set(name, [...(flags.get(name) ?? []), value])
  }
  return { flags, rest }
}
