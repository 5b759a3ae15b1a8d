// SPDX-License-Identifier: Apache-2.0
// Completion for shells, made from the commands themselves: a table of words for each command, and a few lines of shell that look
// it up. No process is started at a Tab. Pure.

import type { Command, Option } from 'commander'

/** What may follow a command's words, by those words. */
type Words = ReadonlyMap<string, readonly string[]>

/** The script for a shell. */
export function completionScript(shell: 'bash' | 'zsh', root: Command): string {
  const words = wordsOf(root)
  const cases = [...words].map(([path, next]) => `    '${path}') words='${next.join(' ')}' ;;`)
  const bash = `# Completion of ambit: source <(ambit completion bash)
_ambit() {
  local word path='' at words=''
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    case "$path $word" in
${[...words.keys()]
  .filter((path) => path !== '')
  .map((path) => `      ' ${path}' | '${path}') path='${path}' ;;`)
  .join('\n')}
    esac
  done
  case "\${COMP_WORDS[COMP_CWORD - 1]}" in
${choicesOf(root)
  .map(
    ([flag, choices]) =>
      `    ${flag}) COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;`,
  )
  .join('\n')}
    -f | --file | --kubeconfig | -w | --write) COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;
  esac
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _ambit ambit`
  // zsh reads bash's completions.
  return shell === 'bash'
    ? bash
    : `#compdef ambit\nautoload -U +X bashcompinit && bashcompinit\n${bash}`
}

function wordsOf(root: Command): Words {
  const words = new Map<string, readonly string[]>()
  const add = (command: Command, path: string): void => {
    words.set(path, [
      ...command.commands.map((each) => each.name()),
      ...command.options.flatMap(namesOf),
      '--help',
    ])
    for (const each of command.commands) add(each, `${path} ${each.name()}`.trim())
  }
  add(root, '')
  return words
}

/** Flags that take one of a few words. */
function choicesOf(root: Command): readonly (readonly [string, readonly string[]])[] {
  const found = new Map<string, readonly string[]>()
  const add = (command: Command): void => {
    for (const option of command.options)
      if (option.argChoices !== undefined)
        if ((found.get(option.long ?? '')?.length ?? 0) < option.argChoices.length)
          // The widest: a few commands know fewer formats than the others.
          found.set(option.long ?? '', option.argChoices)
    for (const each of command.commands) add(each)
  }
  add(root)
  return [...found].map(([flag, choices]) => [
    flag === '--output' ? '-o | --output' : flag,
    choices,
  ])
}

function namesOf({ long, short }: Option): readonly string[] {
  return [long, short].filter((name) => typeof name === 'string')
}
