/**
 * All hostile peers at once, in a process of their own that `mote chaos run siege` starts: what they
 * do must not slow down those who measure. It goes on until it is stopped, and then leaves what it did in a file.
 */
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { encode } from '../../../chain/codec.ts'
import { stateAnswerCodec } from '../../../chain/light-client.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { MoteError } from '../../../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from '../../../client/atomic-file.ts'
import type { ChainSource } from '../../../client/chain-source.ts'
import { Deadline } from '../../../client/deadline.ts'
import { readGenesisFile } from '../../../client/genesis-file.ts'
import { httpSource } from '../../../client/http-source.ts'
import { type IdentityKeys, KeyDirectory, readKeyFile } from '../../../client/key-directory.ts'
import type { HelloProof } from '../../../node/network/hello.ts'
import type { PeerAddress } from '../../../node/ports.ts'
import { apiUrl, type DevnetDescription, type DevnetNode, layout, readDescription } from '../../layout.ts'
import { loopback } from '../../ports.ts'
import { playConsenter } from './consenter.ts'
import { multiaddrOf, playCoordination } from './coordination.ts'
import { Counts } from './counts.ts'
import { rotateKeys, sendWithoutEnd, stallReading, submitWithoutEnd } from './device.ts'
import { LyingFullNode } from './full-node.ts'
import type { HostilePeerOptions } from './hostile-peer.ts'
import { floodRequests, sendRaftFrames } from './light-node.ts'
import { takeConsentersAway } from './operator.ts'
import type { DeceivedNode } from './raft-lies.ts'
import { crowdGateway, holdSilentSockets } from './strangers.ts'

/** Identities that exist for the siege alone; their keys are files in its directory. */
export const besiegers = ['light', 'speaker', 'full', 'device'] as const
export type BesiegerName = (typeof besiegers)[number]

/** What is to be played, by name of the devnet. Their processes do not run. */
export interface SiegePlan {
  readonly consenter: string
  readonly coordination: string
}

/** What every hostile peer did. */
export type SiegeDeeds = Readonly<Record<string, Readonly<Record<string, number>>>>

export const siegeFiles = {
  plan: (directory: string) => join(directory, 'plan.json'),
  keys: (directory: string, name: BesiegerName) => join(directory, `${name}.json`),
  deeds: (directory: string) => join(directory, 'deeds.json'),
}

/** Longer than a busy machine takes; who starts this waits as long. */
const beginsWithinMs = 40_000
const stopsWithinMs = 3_000
const consenterTurn = { thereMs: 10_000, awayMs: 5_000 } as const

export class Besieger {
  /** Rejects when one of the peers fails by itself. */
  readonly ended: Promise<void>
  readonly #directory: string
  readonly #over = new AbortController()
  readonly #counts = new Map<string, Counts>()
  readonly #thirdParty: Server

  private constructor(directory: string, attack: (besieger: Besieger) => Promise<unknown>, server: Server) {
    this.#directory = directory
    this.#thirdParty = server
    this.ended = attack(this).then(() => {})
    this.ended.catch(() => {})
  }

  /**
   * Begins the siege of the devnet in `devnetDirectory` by the plan in `directory`; resolves when every peer is at work. Throws
   * `not-found` without a plan or a devnet, `timeout` for peers that do not come to anything.
   */
  static async start(devnetDirectory: string, directory: string): Promise<Besieger> {
    const plan = await readFileIfThere(siegeFiles.plan(directory))
    const description = await readDescription(devnetDirectory)
    if (!plan || !description) throw new MoteError('not-found', `${directory}: expected the plan of a siege`)
    const server = createServer(socket => socket.on('error', () => {}).destroy())
    await new Promise<void>(resolve => server.listen(0, loopback, resolve))
    const scene = await sceneOf(
      devnetDirectory,
      directory,
      description,
      JSON.parse(String(Buffer.from(plan))),
    )
    const besieger = new Besieger(directory, each => each.#attack(scene), server)
    const begun = new Deadline(beginsWithinMs).until(() => besieger.#isUnderWay, 20)
    if (!(await Promise.race([begun, besieger.ended])))
      throw new MoteError('timeout', `siege: idle after ${beginsWithinMs} ms: ${besieger.#idle.join(', ')}`)
    return besieger
  }

  /** Everybody has done something. */
  get #isUnderWay(): boolean {
    return this.#counts.size > 0 && this.#idle.length === 0
  }

  get #idle(): readonly string[] {
    return [...this.#counts].filter(([, { isEmpty }]) => isEmpty).map(([name]) => name)
  }

  /** Ends every attack and writes down what they did. */
  async stop(): Promise<void> {
    this.#over.abort()
    // A request under way may have seconds left, and who stops this has not.
    await new Deadline(stopsWithinMs).race(this.ended.catch(() => {}))
    this.#thirdParty.close()
    const deeds: SiegeDeeds = Object.fromEntries([...this.#counts].map(([name, { all }]) => [name, all]))
    await writeFileAtomic(siegeFiles.deeds(this.#directory), JSON.stringify(deeds))
  }

  #countsOf(name: string): Counts {
    const counts = this.#counts.get(name) ?? new Counts()
    this.#counts.set(name, counts)
    return counts
  }

  async #attack(scene: Scene): Promise<void> {
    const { genesis, fullNodes, others, description, sources, keys, proofOf, chainId } = scene
    const over = this.#over.signal
    const gateway = description.gateway.mqtt
    const peerOf = (name: BesiegerName): HostilePeerOptions => ({
      genesis,
      keys: keys[name],
      proof: proofOf[name],
    })
    const device = { keys: keys.device, chainId }
    const deviceCounts = this.#countsOf('a device')
    const { port } = this.#thirdParty.address() as { port: number }
    this.#thirdParty.on('connection', () => this.#countsOf('a coordination node').add('third party dialled'))
    const lying = await LyingFullNode.start(
      peerOf('full'),
      others.map(addressOf),
      this.#countsOf('a full node that is no consenter'),
      over,
    )
    const { consenter, coordination } = scene
    const honest = description.nodes.filter(
      ({ id }) => id !== consenter.node.id && id !== coordination.node.id,
    )
    await Promise.all([
      holdSilentSockets(
        honest.map(({ p2p }) => p2p),
        this.#countsOf('a stranger with sockets'),
        over,
      ),
      crowdGateway({ gateway, chainId }, this.#countsOf('strangers at the gateway'), over),
      stallReading(device, gateway, deviceCounts, over),
      ...scene.recipients.map(recipient => sendWithoutEnd(device, gateway, recipient, deviceCounts, over)),
      ...sources.slice(0, 1).map(source => rotateKeys(device, source, deviceCounts, over)),
      submitWithoutEnd(device, sources, deviceCounts, over),
      floodRequests(peerOf('light'), others.map(addressOf), this.#countsOf('a lightweight node'), over),
      sendRaftFrames(
        peerOf('speaker'),
        others.map(addressOf),
        this.#countsOf('a lightweight node that sends Raft frames'),
        over,
      ),
      playCoordination(
        {
          peer: { genesis, keys: coordination.keys, port: coordination.node.p2p.port },
          api: coordination.node.api,
          fullNodes: others.map(addressOf),
          thirdParty: { host: loopback, port },
          accomplices: () => [lying.address],
        },
        this.#countsOf('a coordination node'),
        over,
      ),
      lying.run(others.map(deceived)),
      takeConsentersAway(
        { keys: scene.operator, chainId },
        { sources, consenters: fullNodes.map(({ id }) => id) },
        this.#countsOf('an operator'),
        over,
      ),
      playConsenter(
        {
          peer: { genesis, keys: consenter.keys, port: consenter.node.p2p.port },
          nodes: others.map(node => ({ ...addressOf(node), ...deceived(node) })),
          ...consenterTurn,
        },
        this.#countsOf('a consenter'),
        over,
      ),
    ])
  }
}

/** Everything that the peers need to know. */
type Scene = Awaited<ReturnType<typeof sceneOf>>

async function sceneOf(
  devnetDirectory: string,
  directory: string,
  description: DevnetDescription,
  plan: SiegePlan,
) {
  const played = async (name: string) => {
    const node = description.nodes.find(each => each.name === name)
    if (!node) throw new MoteError('not-found', `plan: there is no ${name}`)
    return { node, keys: await readKeyFile(layout.nodeKey(devnetDirectory, name)) }
  }
  const genesis = await readGenesisFile(layout.genesis(devnetDirectory))
  const fullNodes = description.nodes.filter(({ label, joined }) => label === 'full' && !joined)
  const others = fullNodes.filter(({ name }) => name !== plan.consenter)
  const sources = others.map(({ api }) => httpSource(apiUrl(api)))
  const [source] = sources as [ChainSource]
  const keys = await byName(name => readKeyFile(siegeFiles.keys(directory, name)))
  const [recipient] = description.devices
  const known = recipient && (await (await KeyDirectory.open(devnetDirectory)).load(recipient.name))
  const { chainId } = (await source.certifiedHeader('latest')).header
  return {
    genesis,
    description,
    chainId,
    fullNodes,
    others,
    sources,
    keys,
    proofOf: await byName(name => proofOf(source, keys[name])),
    consenter: await played(plan.consenter),
    coordination: await played(plan.coordination),
    operator: await (await KeyDirectory.open(layout.operator(devnetDirectory))).load('operator'),
    // An honest device, and itself, which does not read.
    recipients: [...(known ? [known] : []), keys.device].map(({ id, encryption }) => ({
      id,
      key: encryption.publicKey,
    })),
  }
}

async function byName<T>(make: (name: BesiegerName) => Promise<T>): Promise<Record<BesiegerName, T>> {
  const entries = await Promise.all(besiegers.map(async name => [name, await make(name)] as const))
  return Object.fromEntries(entries) as Record<BesiegerName, T>
}

/** What shows who this is: the genesis does not name it. */
async function proofOf(source: ChainSource, { id }: IdentityKeys): Promise<HelloProof> {
  const answer = encode(stateAnswerCodec, await source.state(stateKeyOf.identity(id)))
  return { type: 'certified', answer, handovers: [] }
}

function addressOf({ id, p2p }: DevnetNode): PeerAddress {
  return { id, address: multiaddrOf(p2p) }
}

function deceived({ id, api }: DevnetNode): DeceivedNode {
  return { id, status: () => httpSource(apiUrl(api)).status() }
}
