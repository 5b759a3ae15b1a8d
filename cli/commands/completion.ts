// SPDX-License-Identifier: Apache-2.0
// `ambit completion bash|zsh`

import { Argument, Command } from 'commander'
import { completionScript } from '../completion-script.ts'
import { print } from '../output.ts'

/** Completes what `root` has when it is asked. */
export function completionCommand(root: Command): Command {
  return new Command('completion')
    .description(
      'print a script that completes commands and flags: source <(ambit completion bash)',
    )
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh']))
    .action((shell: 'bash' | 'zsh') => print(completionScript(shell, root)))
}
