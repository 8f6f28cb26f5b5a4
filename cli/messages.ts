/**
 * `mote device send|listen|contact`: the agent of a device, from the command line.
 */
import { join } from 'node:path'
import type { Command } from 'commander'
import type { DeviceId, GroupId } from '../chain/brands.ts'
import { type ErrorCode, errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { agentCommand, logDecision } from './agent.ts'
import {
  absentGroup,
  currentKeys,
  deviceNameOf,
  groupNameOf,
  openChain,
  openChainUnsynced,
  requireDevice,
  requireGroup,
  syncWithin,
} from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount, parseDuration } from './context.ts'
import { credentialsCommand } from './credentials.ts'
import { type GatewayChoice, gatewayOf, gatewayOptions } from './gateway-option.ts'
import { chunkProgress, readContent, writeContent } from './message-content.ts'
import { durationText, printable } from './output.ts'
import { listenRaw } from './raw-messages.ts'
import { type VoteAnswer, voteAnswer, voteTable } from './vote.ts'

// The agent brings an MQTT client along, which the other commands start faster without.
type Agent = import('../mqtt-gateway/device/agent.ts').DeviceAgent
type Verdict = import('../mqtt-gateway/device/verdict-inbox.ts').GatewayVerdict
type Delivered = import('../mqtt-gateway/device/listener.ts').DeliveredMessage
type VoteOutcome = import('../mqtt-gateway/device/vote.ts').VoteOutcome

interface SendOptions extends GatewayChoice {
  readonly from: string
  readonly group?: string
  readonly topic?: string
  readonly channel?: string
  readonly light?: boolean
  readonly file?: string
  readonly vote?: boolean
  readonly keep?: number
}
interface ListenOptions extends GatewayChoice {
  readonly out?: string
  readonly raw?: boolean
  readonly count?: number
  readonly clock?: boolean
}

export function messageCommands(family: Command, add: AddCommand): void {
  agentCommand(family, add)
  credentialsCommand(family, add)
  add<ListenOptions>({
    parent: family,
    usage: 'listen <name>',
    description: 'print the messages that a device can read, one per line',
    options: [
      { flags: '--count <n>', description: 'end after so many', read: parseCount('count', 1, 1_000_000) },
      {
        flags: '--out <dir>',
        description:
          'write each message to a file in this directory, named by its id, instead of printing its text',
      },
      {
        flags: '--raw',
        description:
          'what is delivered to anybody, sealed as it is: from, target, suite, size, first 32 bytes',
      },
      ...gatewayOptions,
      {
        flags: '--no-clock',
        description:
          "this machine's wall clock is wrong or missing: tell how old news are by steady time alone",
      },
    ],
    exits: {
      1: 'failed; in-use: eight processes listen for this device',
      4: 'not authorised; --raw without the right',
    },
    notes:
      'Several processes may listen for a device: each prints every message once. --raw takes the right to observe (mote device rights); a devnet has a device with it, observer.',
    lifetime: 'listens',
    action: listen,
  })
  add<SendOptions>({
    parent: family,
    usage: 'send [to] [text]',
    description: 'send a sealed message to a device, with --group to a group, with --topic to an open topic',
    exits: {
      0: 'checked and relayed, or with --keep kept',
      5: 'refused: the answer has verdict, code and reason; with --vote also one Error or one silence',
    },
    notes:
      'With --vote every connected device, the gateway and the sender compare the copy of the key with their own, at most once a second; an MQTT client that is not ours does not answer, and nothing is sent. It is for comparison and audit: the gateway checks each message against the chain in any case.',
    options: [
      { flags: '--from <name>', description: 'the sending device', required: true },
      { flags: '--group <group>', description: 'send to a group: then the only argument is the text' },
      { flags: '--topic <topic>', description: 'publish to an open topic, which takes no membership' },
      {
        flags: '--file <file>',
        description: "send a file's content, or with - standard input, up to 16 MiB; then there is no text",
      },
      { flags: '--channel <name>', description: "the sender's name for the stream" },
      {
        flags: '--light',
        description: 'keyed by a secret that is agreed on once for many messages: less work for weak devices',
      },
      {
        flags: '--keep <time>',
        description: 'keep it so long for who is away: 90m, 12h, 2d; 7d at most',
        read: parseDuration('keep', { min: '1m', max: '7d' }),
      },
      {
        flags: '--vote',
        description:
          "only if everybody has the sender's copy of the recipient's key; prints who answered what",
      },
      ...gatewayOptions,
    ],
    action: send,
  })
}

/** What connecting an agent takes of a context. */
export interface AgentContext extends Pick<Context, 'timeoutMs'> {
  readonly output: Pick<Context['output'], 'note'>
}

/** The agent of a device, connected to the gateway of this devnet. */
export async function connectAgent(
  context: AgentContext,
  access: ChainAccess,
  keys: IdentityKeys,
  options: GatewayChoice & { readonly light?: boolean; readonly prefetches?: boolean } = {},
): Promise<Agent> {
  const [{ DeviceAgent }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/device/agent.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  const { client, description, directory } = access
  return DeviceAgent.connect({
    keys,
    chain: agentChain(client, keys),
    gateway: await gatewayOf(access, options),
    stateDirectory: stateDirectoryOf(directory, keys),
    timeoutMs: context.timeoutMs,
    trustTtlMs: description.trustTtlMs,
    reloadKeys: () => currentKeys(access, keys.name),
    light: options.light ?? false,
    prefetches: options.prefetches ?? false,
    onBoxRefused: ({ code, detail }) => context.output.note(`box refused: ${code}: ${detail}`),
    onLeftOut: (group, { member, reason }) =>
      context.output.note(`group ${group}: no key of the new epoch for ${member}: ${reason}`),
    onRekeyFailed: (group, { code, detail }) =>
      context.output.note(`group ${group}: no new epoch: ${code}: ${detail}`),
    onDecision: line => logDecision(stateDirectoryOf(directory, keys), line),
  })
}

export function stateDirectoryOf(directory: string, { name }: IdentityKeys): string {
  return join(directory, 'devices', name)
}

async function send(context: Context, args: readonly string[], options: SendOptions): Promise<number> {
  const shared = options.group ?? options.topic
  if (options.group !== undefined && options.topic !== undefined)
    throw new MoteError('usage', 'group, topic: expected one of them')
  for (const way of ['light', 'vote'] as const)
    if (options[way] && shared !== undefined)
      throw new MoteError('usage', `${way}: expected one device, got a group or a topic`)
  const words = [...(shared === undefined ? ['<to>'] : []), ...(options.file === undefined ? ['<text>'] : [])]
  if (args.length !== words.length)
    throw new MoteError('usage', `send: expected ${words.join(' ') || 'no argument'} with these options`)
  const to = shared === undefined ? args[0] : undefined
  const content =
    options.file === undefined ? new TextEncoder().encode(args.at(-1)) : await readContent(options.file)
  const access = await openChainIfReachable(context)
  const keys = await access.keys.load(options.from)
  const answer = await sendOrRefusal(context, access, { keys, to, content, options })
  if (answer.code === 'recipient-key-mismatch') {
    const whose = to ?? `--topic ${options.topic}`
    context.output.note(`\`mote device contact refresh ${whose} --from ${keys.name}\` takes the chain's key`)
  }
  context.output.data(answer, () => {
    const { verdict, delivery, code, reason, messageId, height, ageMs, vote } = answer
    const table = vote ? `${voteTable(context, vote)}\n` : ''
    const asOf = `at height ${height}, trust data ${durationText(ageMs)} old`
    const id = messageId === null ? '' : `\nmessage ${messageId}`
    return verdict === 'Check'
      ? `${table}${context.output.paint('green', 'Check')}  ${delivery ?? 'relayed'}, ${asOf}${id}`
      : `${table}${context.output.paint('red', 'Error')}  not relayed: ${code}: ${reason}\n${asOf}${id}`
  })
  return answer.verdict === 'Check' ? exitCodes.ok : exitCodes.predicateFalse
}

/** How long a sender waits for the chain before it sends by what it knows: the gateway judges in any case. */
const syncPatienceMs = 3_000

async function openChainIfReachable(context: Context): Promise<ChainAccess> {
  const access = await openChainUnsynced(context)
  await syncWithin(access, syncPatienceMs).catch(error => {
    context.output.note(
      `the chain is out of reach (${error instanceof Error ? error.message : String(error)})`,
    )
  })
  return access
}

interface SendAnswer {
  readonly verdict: 'Check' | 'Error'
  readonly delivery?: 'relayed' | 'kept'
  readonly reason: string | null
  readonly code: ErrorCode | null
  readonly messageId: string | null
  readonly height: number
  readonly ageMs: number
  /** With --vote, if it came to one. */
  readonly vote?: VoteAnswer
}

interface Sent {
  readonly verdict: Verdict
  readonly vote?: VoteOutcome
}

interface Outgoing {
  readonly keys: IdentityKeys
  readonly to: string | undefined
  readonly content: Uint8Array
  readonly options: SendOptions
}

/** The gateway's verdict, or a refusal that came before there was a message to judge. */
async function sendOrRefusal(context: Context, access: ChainAccess, outgoing: Outgoing): Promise<SendAnswer> {
  const { client } = access
  try {
    const sent = await sendContent(context, access, outgoing)
    const { verdict, delivery, reason, code, messageId, height, ageMs } = sent.verdict
    const vote = sent.vote && (await voteAnswer(access, sent.vote))
    const judged = { verdict, reason: reason ?? null, code: code ?? null, messageId, height, ageMs }
    return { ...judged, ...(delivery && { delivery }), ...(vote && { vote }) }
  } catch (error) {
    if (!(error instanceof MoteError)) throw error
    if (error.code === 'not-ready') return closedGateway(access, error)
    const { exit } = errorTable[error.code]
    if (exit !== exitCodes.predicateFalse && exit !== exitCodes.notAuthorised) throw error
    const sender = await client.records.device(outgoing.keys.id).catch(() => undefined)
    if (!sender) throw error
    const { value, height, ageMs } = sender
    const inactive = value?.status !== 'active'
    return {
      verdict: 'Error',
      code: inactive ? 'signer-not-active' : error.code,
      reason: inactive ? `sender ${outgoing.keys.id} is ${value?.status ?? 'unknown'}` : error.detail,
      messageId: null,
      height,
      ageMs,
    }
  }
}

/** A gateway that takes nobody now refuses the message too: it fails closed. 3.1.1 has no room for the reason. */
function closedGateway({ client, description }: ChainAccess, { code, detail }: MoteError): SendAnswer {
  const { height } = client.follower.head.header
  const ageMs = client.records.ageMs()
  const stale = ageMs > description.trustTtlMs
  return { verdict: 'Error', code: stale ? 'stale' : code, reason: detail, messageId: null, height, ageMs }
}

async function sendContent(context: Context, access: ChainAccess, outgoing: Outgoing): Promise<Sent> {
  const { keys, to = '', content, options } = outgoing
  const onProgress = chunkProgress(context.output, content)
  const message = {
    content,
    ...(onProgress && { onProgress }),
    ...(options.channel === undefined ? {} : { channel: options.channel }),
    ...(options.keep !== undefined && { keepMs: options.keep }),
  }
  const shared = options.group ?? options.topic
  const target =
    shared === undefined
      ? ({ type: 'device', id: await requireDevice(access, to) } as const)
      : ({ type: 'shared', id: await provenGroup(access, shared, keys.id) } as const)
  const agent = await connectAgent(context, access, keys, options)
  try {
    if (target.type === 'shared') {
      const way = options.topic === undefined ? 'sendToGroup' : 'publish'
      return { verdict: await agent[way](target.id, message) }
    }
    return options.vote
      ? await agent.sendByVote(target.id, message)
      : { verdict: await agent.send(target.id, message) }
  } finally {
    await agent.close()
  }
}

/** The group of this name, which is on the chain as far as the chain can be asked. Throws `not-found`, `unknown-subject`. */
async function provenGroup(access: ChainAccess, name: string, from: DeviceId): Promise<GroupId> {
  const id = await requireGroup(access, name, from)
  const group = await access.client.records.group(id).catch(() => undefined)
  if (group && !group.value) throw absentGroup(name, id, group.height)
  return id
}

async function listen(
  context: Context,
  [name = '']: readonly string[],
  options: ListenOptions,
): Promise<number> {
  const { count, out, raw = false, clock = true } = options
  const access = await openChain(context, { clock })
  const keys = await currentKeys(access, name)
  const agent = await connectAgent(context, access, keys, { ...options, prefetches: true })
  const following = new AbortController()
  const run = access.client.follower.run(following.signal)
  const done = Promise.withResolvers<number>()
  let left = count ?? Number.POSITIVE_INFINITY
  try {
    if (raw) return await listenRaw(context, access, { name, agent, count: left })
    await agent.listen({
      message: async message => {
        if (left === 0) return
        left -= 1
        await printMessage(context, access, message, out)
        if (left === 0) done.resolve(exitCodes.ok)
      },
      refused: ({ code, detail }) => context.output.note(`refused: ${code}: ${detail}`),
    })
    context.output.note('listening')
    void agent.ended.then(reason => done.reject(reason))
    return await done.promise
  } finally {
    following.abort()
    await Promise.all([agent.close(), run])
  }
}

async function printMessage(
  context: Context,
  access: ChainAccess,
  message: Delivered,
  out: string | undefined,
): Promise<void> {
  const { from, to, channel, content, messageId, at } = message
  const body =
    out === undefined
      ? { text: new TextDecoder().decode(content) }
      : { file: await writeContent(out, messageId, content), bytes: content.length }
  const sender = (await deviceNameOf(access, from)) ?? from
  const place = to.type === 'device' ? '' : await groupNameOf(access, to.id)
  const target =
    to.type === 'device'
      ? { to: await deviceName(access, to.id), toId: to.id }
      : { [to.type]: place, [`${to.type}Id`]: to.id }
  const answer = {
    from: sender,
    fromId: from,
    ...target,
    ...(channel === '' ? {} : { channel }),
    ...body,
    messageId,
    at: new Date(at).toISOString(),
  }
  const where = place === '' ? '' : `${place}: `
  context.output.data(
    answer,
    () => `${sender} → ${where}${'text' in body ? printable(body.text) : body.file}`,
  )
}

async function deviceName(access: ChainAccess, id: DeviceId): Promise<string> {
  return (await deviceNameOf(access, id)) ?? id
}
