/**
 * `mote contract`: small programs that every full node runs in the same way on what devices report.
 */
import type { Command } from 'commander'
import { DeviceId } from '../chain/brands.ts'
import { checkContract } from '../chain/contracts/check.ts'
import { encodedContract } from '../chain/contracts/contract.ts'
import { type CaseReport, casesOfDocument, runCase } from '../chain/contracts/contract-cases.ts'
import { contractOfDocument } from '../chain/contracts/document.ts'
import { exitCodes } from '../chain/errors.ts'
import { unwrap } from '../chain/result.ts'
import { readContractFile } from '../client/contract-file.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { contractChainCommands } from './contract-chain.ts'

export function contractCommands(family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'test <file>',
    description: 'check a contract and run the cases that its file lists, without a network',
    exits: { [exitCodes.predicateFalse]: 'a case came out another way' },
    notes:
      'Names of devices stand for themselves here; `deploy` looks them up. docs/FORMATS.md, "Contracts", has the fields of a file and the language.',
    action: test,
  })
  contractChainCommands(family, add)
}

/** Where names of devices do not matter: one id for all of them. */
const standIn = (): DeviceId => DeviceId('00'.repeat(32))

async function test({ output }: Context, [file = '']: readonly string[]): Promise<number> {
  const document = await readContractFile(file)
  const contract = unwrap(contractOfDocument(document, standIn))
  const reports = unwrap(casesOfDocument(document, contract)).map(each => runCase(contract, each))
  const failed = reports.filter(({ differences }) => differences.length > 0).length
  const { steps } = unwrap(checkContract(contract))
  const { name, version } = contract
  const bytes = encodedContract(contract).bytes.length
  output.data({ name, version, steps, bytes, cases: reports, failed }, () =>
    [
      ...reports.map(caseText),
      `${name} ${version}: ${reports.length - failed} of ${reports.length} cases hold; ${bytes} bytes, at most ${steps} steps`,
    ].join('\n'),
  )
  return failed === 0 ? exitCodes.ok : exitCodes.predicateFalse
}

function caseText({ name, decision, values, differences }: CaseReport): string {
  const shown = Object.entries(values).map(([value, of]) => `${value} ${of}`)
  const [mark, details] =
    differences.length === 0 ? ['ok  ', []] : ['FAIL', differences.map(each => `      ${each}`)]
  return [`${mark}  ${name}: ${[decision, ...shown].join(', ')}`, ...details].join('\n')
}
