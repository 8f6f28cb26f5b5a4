/**
 * The devices and groups of a new devnet, made on its chain as an operator and its devices would make them: one
 * grant, a registration by each device through a coordination node, the rights of gateway and observer, and the groups of the
 * devices' owners. The groups' epoch keys are made over the gateway, when that answers (run.ts).
 *
 * Running it again changes nothing: what is there already is left as it is.
 */
import type { DeviceId } from '../chain/brands.ts'
import { groupIdOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { noRights } from '../chain/rights.ts'
import type { CapabilityProfile } from '../chain/transaction-bodies.ts'
import type { ChainClient } from '../client/chain-client.ts'
import { addMembers, createGroup } from '../client/group-actions.ts'
import { type CoordinationContact, joinPatiently } from '../client/join.ts'
import type { IdentityKeys, KeyDirectory } from '../client/key-directory.ts'
import { nativeSignerFromSeed } from '../client/native-crypto.ts'
import { grant, setRights } from '../client/operator-actions.ts'
import { sideBySide } from '../client/side-by-side.ts'
import { devnetSeed, observerName } from './generate.ts'
import type { DevnetDescription } from './layout.ts'

/** What a small sensor would say of itself. */
const profile: CapabilityProfile = {
  connectionLifetime: 'days',
  cores: 1,
  memoryMebibytes: 128,
  storageMebibytes: 512,
}

/** Members of the groups beside their owners (the run of Hsu C4). */
const membersOf: Readonly<Record<string, readonly string[]>> = {
  hsu0001: ['1112', '1113'],
  hsu0002: ['1113'],
}

/** Devices that join at the same time. */
const joinsAtOnce = 16
/** Up to so many devices are named one by one; more are counted, every so often. */
const mostNamed = 16
const progressEvery = 50

export interface Population {
  readonly client: ChainClient
  readonly description: DevnetDescription
  readonly keys: KeyDirectory
  readonly operator: IdentityKeys
  readonly contacts: readonly CoordinationContact[]
  readonly signal: AbortSignal
  readonly onProgress: (message: string) => void
}

/** Registers every device of the description and makes its groups. Throws what the chain or a coordinator refused. */
export async function populate(population: Population): Promise<void> {
  await Promise.all([registerDevices(population), giveRights(population)])
  await makeGroups(population)
}

async function registerDevices(population: Population): Promise<void> {
  const { client, description, keys, operator, contacts, signal, onProgress } = population
  await client.follower.sync()
  const missing: string[] = []
  await sideBySide(description.devices, joinsAtOnce, async ({ name, id }) => {
    if ((await client.records.device(id)).value === undefined) missing.push(name)
  })
  if (missing.length === 0) return
  // A fresh token each time: an earlier one may be spent or expired.
  const token = nativeSignerFromSeed('ed25519', devnetSeed(description.seed, `grant ${Date.now()}`, 'token'))
  await grant(client, operator, { tokenKey: token.publicKey, quota: missing.length }, { signal })
  let joined = 0
  await sideBySide(missing, joinsAtOnce, async name => {
    const device = await keys.load(name)
    const newcomer = { keys: device, label: 'lightweight', profile, token } as const
    const { height } = await joinPatiently(client, newcomer, contacts, signal)
    joined++
    if (missing.length <= mostNamed) onProgress(`device ${name} joined at height ${height}`)
    else if (joined % progressEvery === 0 || joined === missing.length)
      onProgress(`${joined} of ${missing.length} devices joined, height ${height}`)
  })
}

/** The gateway speaks as one, and the observer may see what is delivered to others. */
async function giveRights(population: Population): Promise<void> {
  const { client, description, keys, operator, signal } = population
  await client.follower.sync()
  const wanted = [
    { id: description.gateway.id, rights: { ...noRights, gateway: true } },
    { id: (await keys.load(observerName)).id, rights: { ...noRights, observe: true } },
  ]
  const missing = wanted.map(async subject => {
    const { value } = await client.records.rights(subject.id)
    if (!value) await setRights(client, operator, subject, { signal })
  })
  await Promise.all(missing)
}

async function makeGroups({ client, description, keys, signal, onProgress }: Population): Promise<void> {
  const idOf = (name: string): DeviceId | undefined =>
    description.devices.find(device => device.name === name)?.id
  const made = description.groups.map(async ({ name, id, owner: ownerName }) => {
    const owner = await keys.load(ownerName)
    if (id !== groupIdOf(owner.id, name))
      throw new MoteError('config-invalid', `group ${name}: not its owner's`)
    await client.follower.sync()
    const existing = (await client.records.group(id)).value
    if (!existing) await createGroup(client, owner, name, { signal })
    const devices = (membersOf[name] ?? []).map(idOf).filter(member => member !== undefined)
    const group = await addMembers(client, owner, { group: id, devices }, { signal })
    if (!existing) onProgress(`group ${name} with ${group.value.members.length} members`)
  })
  await Promise.all(made)
}
