/**
 * Who is who in a siege: the nodes of the devnet that the hostile peers play, whose processes do not run meanwhile, and
 * identities that join for the siege and are revoked after it.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { MoteError } from '../../chain/result.ts'
import type { CapabilityProfile, Label } from '../../chain/transaction-bodies.ts'
import { writeFileAtomic } from '../../client/atomic-file.ts'
import { httpContact, joinPatiently } from '../../client/join.ts'
import { type IdentityKeys, makeKeys, writeKeyFile } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { grant, revoke } from '../../client/operator-actions.ts'
import { type ChainAccess, operatorKeys } from '../access.ts'
import { apiUrl, type DevnetDescription, type DevnetNode } from '../layout.ts'
import { type BesiegerName, besiegers, type SiegePlan, siegeFiles } from './hostile/besieger.ts'

const profile: CapabilityProfile = {
  connectionLifetime: 'days',
  cores: 1,
  memoryMebibytes: 128,
  storageMebibytes: 512,
}
const labelOf: Readonly<Record<BesiegerName, Label>> = {
  light: 'lightweight',
  speaker: 'lightweight',
  full: 'full',
  device: 'lightweight',
}

export interface SiegeCast {
  /** Private; removed with `leave`. */
  readonly directory: string
  readonly consenter: DevnetNode
  readonly coordination: DevnetNode
  readonly joined: readonly IdentityKeys[]
}

/** The last consenter and the last coordination node. Throws `usage` for a devnet without one. */
function playedOf({ nodes }: DevnetDescription): Pick<SiegeCast, 'consenter' | 'coordination'> {
  const consenter = nodes.findLast(({ label, joined }) => label === 'full' && !joined)
  const coordination = nodes.findLast(({ label, joined }) => label === 'coordination' && !joined)
  if (consenter && coordination) return { consenter, coordination }
  throw new MoteError('usage', 'siege: expected a devnet with full nodes and a coordination node')
}

/** Lets the besiegers join, and writes down what the hostile process needs. */
export async function castSiege(access: ChainAccess, signal: AbortSignal): Promise<SiegeCast> {
  const { client, description } = access
  const { consenter, coordination } = playedOf(description)
  const directory = await mkdtemp(joinPath(tmpdir(), 'mote-siege-'))
  const token = nativeSignerFromSeed('ed25519', randomBytes(32))
  const terms = { tokenKey: token.publicKey, quota: besiegers.length, highestLabel: 'full' } as const
  await grant(client, await operatorKeys(access), terms, { signal })
  const contacts = [httpContact(apiUrl(coordination.api))]
  const joined: IdentityKeys[] = []
  for (const name of besiegers) {
    const keys = makeKeys(`siege-${name}`, { transport: true })
    await joinPatiently(client, { keys, label: labelOf[name], profile, token }, contacts, signal)
    await writeKeyFile(siegeFiles.keys(directory, name), keys)
    joined.push(keys)
  }
  const plan: SiegePlan = { consenter: consenter.name, coordination: coordination.name }
  await writeFileAtomic(siegeFiles.plan(directory), JSON.stringify(plan))
  return { directory, consenter, coordination, joined }
}

/** Revokes who joined, and removes the directory. */
export async function dismiss(access: ChainAccess, { directory, joined }: SiegeCast): Promise<void> {
  const operator = await operatorKeys(access)
  for (const { id } of joined) await revoke(access.client, operator, { id, reason: 'the siege is over' })
  await rm(directory, { recursive: true, force: true })
}
