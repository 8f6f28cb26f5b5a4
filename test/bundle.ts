/** The program is bundled once, before the first test starts it: else each of the first ones would (a global set-up). */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { repositoryRoot } from './support/source-files.ts'

export default function setup(): void {
  execFileSync(process.execPath, [join(repositoryRoot, 'bin/bundle.js')], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
}
