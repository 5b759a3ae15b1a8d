// SPDX-License-Identifier: Apache-2.0
// `ambit features`

import { Command, Option } from 'commander'
import { SUPPORTED_FEATURES } from '../../controller/gateway-api/supported-features.ts'
import type { OutputFormat } from '../flags.ts'
import { show } from '../show.ts'

export function featuresCommand(): Command {
  return new Command('features')
    .description("what of the Gateway API this version does, in the API's own names")
    .addOption(
      new Option('-o, --output <format>', 'how to print it')
        .choices(['table', 'json', 'yaml'])
        .default('table'),
    )
    .action((flags: { readonly output: OutputFormat }) =>
      show(flags, () =>
        Promise.resolve({ data: SUPPORTED_FEATURES, text: () => SUPPORTED_FEATURES }),
      ),
    )
}
