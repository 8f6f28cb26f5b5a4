/**
 * Accounts at Mosquitto 2, by its dynamic-security plugin: JSON commands on `$CONTROL/dynamic-security/v1`, answers on the topic below
 * it (https://mosquitto.org/documentation/dynamic-security/). The plugin has the accounts, and roles for what rights let a device receive;
 * what every account may do stands in the acl_file (mosquitto-files.ts).
 *
 * The plugin writes its whole file for each command: 1,000 accounts take 8 s that way, and the broker serves nobody for the
 * time of a batch. So batches are short, and the first accounts are written into its file before it starts.
 */
import { randomBytes } from 'node:crypto'
import type { IPublishPacket } from 'mqtt'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { type DeviceId, isDigest } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { BrokerAccount, BrokerAccounts } from './broker-accounts.ts'
import { BrokerLink, type BrokerLinkOptions } from './broker-link.ts'

/** Where commands go, and where answers come from. */
const controlTopic = '$CONTROL/dynamic-security/v1'
/** Commands in one message, which the broker does while it serves nobody: about 0.2 s at 1,000 accounts. */
const maxCommandsPerBatch = 20
/** Accounts in one answer to a list. */
const accountsPerPage = 500
const answerTimeoutMs = 30_000

export type Command = Readonly<Record<string, unknown>> & { readonly command: string }

const answersSchema = Type.Object({
  responses: Type.Array(
    Type.Object({
      command: Type.String(),
      correlationData: Type.Optional(Type.String()),
      error: Type.Optional(Type.String()),
      data: Type.Optional(Type.Unknown()),
    }),
  ),
})
const listSchema = Type.Object({
  totalCount: Type.Integer(),
  clients: Type.Array(
    Type.Object({ username: Type.String(), textdescription: Type.Optional(Type.String()) }),
  ),
})

type Answer = { readonly command: string; readonly error?: string; readonly data?: unknown }

type Role = Readonly<Record<string, unknown>> & { readonly rolename: string }

/** The role that has what rights let a device receive; none without any. */
export function accountRoles({ device, receives }: BrokerAccount): readonly Role[] {
  const acls = receives.map(topic => ({ acltype: 'publishClientReceive', topic, allow: true }))
  return acls.length > 0 ? [{ rolename: roleNameOf(device), acls }] : []
}

/** How an account names its roles. */
export function namesOf(roles: readonly Role[]): readonly Pick<Role, 'rolename'>[] {
  return roles.map(({ rolename }) => ({ rolename }))
}

function roleNameOf(device: DeviceId): string {
  return `rights-${device}`
}

export class MosquittoAccounts implements BrokerAccounts {
  readonly #options: Omit<BrokerLinkOptions, 'onMessage' | 'onOpen'>
  readonly #turn = new OrderedQueue()
  readonly #closing = new AbortController()
  readonly #waiting = new Map<string, PromiseWithResolvers<readonly Answer[]>>()
  #link: BrokerLink | undefined

  constructor(options: Pick<BrokerLinkOptions, 'host' | 'port' | 'ca' | 'login' | 'onBroken'>) {
    const clientId = `mote-accounts-${randomBytes(8).toString('hex')}`
    const topicFilters = [`${controlTopic}/response`]
    this.#options = { ...options, clientId, sessionSeconds: 0, topicFilters }
  }

  async open(onOpen: () => void): Promise<void> {
    this.#link = await BrokerLink.open(
      { ...this.#options, onOpen, onMessage: async packet => this.#take(packet) },
      this.#closing.signal,
    )
  }

  async list(): Promise<ReadonlyMap<DeviceId, string>> {
    const accounts = new Map<DeviceId, string>()
    for (let offset = 0; ; offset += accountsPerPage) {
      const [answer] = await this.#ask([
        { command: 'listClients', verbose: true, count: accountsPerPage, offset },
      ])
      const data = answer?.data
      if (!Value.Check(listSchema, data))
        throw new MoteError('unreachable', `broker: no list of accounts: ${answer?.error ?? 'malformed'}`)
      for (const { username, textdescription = '' } of data.clients)
        if (isDigest(username)) accounts.set(username as DeviceId, textdescription)
      if (data.clients.length === 0 || offset + data.clients.length >= data.totalCount) return accounts
    }
  }

  async put(accounts: readonly BrokerAccount[]): Promise<void> {
    await this.#inBatches(accounts.map(commandsFor))
  }

  async remove(devices: readonly DeviceId[]): Promise<void> {
    await this.#inBatches(devices.map(removalOf))
  }

  async cut(device: DeviceId): Promise<void> {
    await this.#ask([
      { command: 'disableClient', username: device },
      { command: 'enableClient', username: device },
    ])
  }

  async close(): Promise<void> {
    this.#closing.abort()
    for (const { reject } of this.#waiting.values())
      reject(new MoteError('interrupted', 'broker: closed by this program'))
    await this.#link?.close()
  }

  async #inBatches(steps: readonly (readonly Command[])[]): Promise<void> {
    let batch: Command[] = []
    for (const step of steps) {
      if (batch.length + step.length > maxCommandsPerBatch) {
        await this.#ask(batch)
        batch = []
      }
      batch.push(...step)
    }
    if (batch.length > 0) await this.#ask(batch)
  }

  /** The answers, one for each command. Throws `unreachable`. A command that fails because what it changes is there, or is not, has its error in the answer. */
  #ask(commands: readonly Command[]): Promise<readonly Answer[]> {
    return this.#turn.run(async () => {
      const link = this.#link
      if (!link) throw new MoteError('unreachable', 'broker: not connected')
      const correlationData = randomBytes(8).toString('hex')
      const waiting = Promise.withResolvers<readonly Answer[]>()
      waiting.promise.catch(() => {})
      this.#waiting.set(correlationData, waiting)
      const payload = JSON.stringify({ commands: commands.map(each => ({ ...each, correlationData })) })
      try {
        await link.publish(controlTopic, Buffer.from(payload))
        const late = () => new MoteError('unreachable', `broker: no answer within ${answerTimeoutMs} ms`)
        return await new Deadline(answerTimeoutMs).within(waiting.promise, late)
      } finally {
        this.#waiting.delete(correlationData)
      }
    })
  }

  #take({ payload }: IPublishPacket): void {
    let parsed: unknown
    try {
      parsed = JSON.parse(payload.toString())
    } catch {
      return
    }
    if (!Value.Check(answersSchema, parsed)) return
    const number = parsed.responses[0]?.correlationData
    if (number !== undefined) this.#waiting.get(number)?.resolve(parsed.responses as readonly Answer[])
  }
}

function removalOf(device: DeviceId): readonly Command[] {
  return [
    { command: 'deleteClient', username: device },
    { command: 'deleteRole', rolename: roleNameOf(device) },
  ]
}

/** From nothing, whatever there was: removing what is not there changes nothing. */
function commandsFor(account: BrokerAccount): readonly Command[] {
  const { device: username, password, note: textdescription } = account
  const roles = accountRoles(account)
  return [
    ...removalOf(username),
    ...roles.map(role => ({ command: 'createRole', ...role })),
    {
      command: 'createClient',
      username,
      ...(password && { password }),
      textdescription,
      roles: namesOf(roles),
    },
  ]
}
