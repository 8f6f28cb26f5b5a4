/** `--label`, as several commands take it. */
import { MoteError } from '../chain/result.ts'
import type { Label } from '../chain/transaction-bodies.ts'
import type { OptionSpec } from './command.ts'

const labels: readonly string[] = ['lightweight', 'coordination', 'full'] satisfies Label[]

export const labelOption: OptionSpec = {
  flags: '--label <label>',
  description: 'lightweight, coordination or full',
  default: 'lightweight',
  read: text => {
    if (labels.includes(text)) return text
    throw new MoteError('usage', `label: expected ${labels.join(', ')}, got '${text}'`)
  },
}
