/** A new devnet's files: the genesis says what the options said. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readGenesisFile } from '../../../client/genesis-file.ts'
import { generateDevnet } from '../../../devnet/generate.ts'
import { layout } from '../../../devnet/layout.ts'

test('devnet: --suites is what its chain allows', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mote-generate-'))
  try {
    const size = { full: 1, coordination: 0, lightweight: 0, devices: 0 }
    const suites = ['hpke-p256-aes128gcm'] as const
    await generateDevnet({ directory, size, seed: 'suites', ports: 'auto', temporary: true, suites })
    const { parameters } = await readGenesisFile(layout.genesis(directory))
    expect(parameters.envelopeSuites).toEqual(suites)
  } finally {
    await rm(directory, { recursive: true })
  }
})
