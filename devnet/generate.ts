/**
 * Everything a new devnet needs on disk: keys, genesis, a configuration for each program, and the description.
 *
 * All keys follow from the seed, so a devnet can be made again exactly; whoever knows the seed holds every key,
 * the operator's included. That is why `up` warns, and why nothing here is fit for anything but a test.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { DeviceId, Milliseconds } from '../chain/brands.ts'
import { builtSuites, type EnvelopeSuite } from '../chain/envelope-suites.ts'
import {
  chainIdOf,
  defaultGenesisParameters,
  type GenesisDocument,
  genesisDocument,
} from '../chain/genesis.ts'
import { groupIdOf } from '../chain/records.ts'
import type { Label } from '../chain/transaction-bodies.ts'
import { privateDirectory } from '../client/atomic-file.ts'
import { writeGenesisFile } from '../client/genesis-file.ts'
import { type IdentityKeys, KeyDirectory, makeKeys, writeKeyFile } from '../client/key-directory.ts'
import { serverFiles, writeGatewayConfiguration, writeNodeConfiguration } from './configuration.ts'
import {
  chooseControlSocket,
  type DevnetDescription,
  type DevnetNode,
  layout,
  writeDescription,
} from './layout.ts'
import type { Link } from './link-faults.ts'
import { choosePorts, loopback } from './ports.ts'

export interface DevnetSize {
  readonly full: number
  readonly coordination: number
  readonly lightweight: number
  readonly devices: number
}

/** Devices that a devnet can be given. */
export const maxDevices = 1_000

export const defaultSize: DevnetSize = { full: 3, coordination: 1, lightweight: 2, devices: 4 }

export interface GenerateOptions {
  readonly directory: string
  readonly size: DevnetSize
  readonly seed: string
  readonly ports: number | 'auto'
  readonly temporary: boolean
  /** A broker that others wrote stands before the gateway. */
  readonly attached?: boolean
  /** How messages may be sealed; every way that is built unless given. */
  readonly suites?: readonly EnvelopeSuite[] | undefined
  /** The gateway has a port for TLS, with a certificate by an authority of the devnet's own. */
  readonly tls?: boolean
  /** Topics that the gateway maps for plain clients. */
  readonly plain?: DevnetDescription['gateway']['plain'] | undefined
}

/** Short, so that what happens can be watched: a block at least this often, trust data no older than that. */
const devnetHeartbeatMs = 5_000
export const devnetTrustTtlMs = 15_000
/** The first device's name; the others count up (the source papers' run has 1111 to 1114). */
const firstDevice = 1111

/** A device of the genesis that gets the right to observe. */
export const observerName = 'observer'

/** 32 bytes that follow from the seed, for one purpose of one identity. */
export function devnetSeed(seed: string, name: string, purpose: string): Uint8Array {
  return sha256(utf8ToBytes(`mote devnet\0${seed}\0${name}\0${purpose}`))
}

function keysOf(seed: string, name: string, transport: boolean): IdentityKeys {
  return makeKeys(name, { transport, seedOf: purpose => devnetSeed(seed, name, purpose) })
}

interface Member {
  readonly keys: IdentityKeys
  readonly label: Label
}

function nodeMembers(seed: string, size: DevnetSize): Member[] {
  const labels = ['full', 'coordination', 'lightweight'] as const
  return labels.flatMap(label =>
    Array.from({ length: size[label] }, (_, i) => ({ keys: keysOf(seed, `${label}-${i + 1}`, true), label })),
  )
}

function genesisOf(
  members: readonly Member[],
  operator: IdentityKeys,
  suites: readonly EnvelopeSuite[] = builtSuites,
): GenesisDocument {
  const full = members.filter(member => member.label === 'full')
  return genesisDocument({
    name: 'devnet',
    createdAt: Date.now() as Milliseconds,
    consenters: full.map(({ keys }) => ({ id: keys.id, key: keys.signing.publicKey })),
    quorumPolicy: 'majority',
    authorities: [{ id: operator.id, key: operator.signing.publicKey }],
    threshold: 1,
    parameters: { ...defaultGenesisParameters, heartbeatMs: devnetHeartbeatMs, envelopeSuites: suites },
    identities: members.map(({ keys, label }) => ({
      inceptionKey: keys.signing.publicKey,
      label,
      encryptionKey: keys.encryption.publicKey,
      transportKey: keys.transport?.publicKey,
      metadataHash: undefined,
    })),
  })
}

/** Makes the directory of a new devnet. Throws `in-use` if a port is taken. */
export async function generateDevnet(options: GenerateOptions): Promise<DevnetDescription> {
  const { directory, size, seed } = options
  const nodes = nodeMembers(seed, size)
  const gateway = keysOf(seed, 'gateway', false)
  const operator = keysOf(seed, 'operator', false)
  const observer = keysOf(seed, observerName, false)
  const devices = Array.from({ length: size.devices }, (_, i) => keysOf(seed, `${firstDevice + i}`, false))
  const genesis = genesisOf(
    [...nodes, ...[gateway, operator, observer].map(keys => ({ keys, label: 'lightweight' }) as const)],
    operator,
    options.suites,
  )
  const links = linksOf(nodes, gateway.name)
  const tlsPorts = options.tls ? 1 : 0
  const ports = await choosePorts(2 * nodes.length + 1 + links.length + tlsPorts, options.ports)
  const firstLinkPort = 2 * nodes.length + 1
  const address = (index: number) => ({ host: loopback, port: ports[index] ?? 0 })
  const description: DevnetDescription = {
    version: 1,
    chainId: chainIdOf(genesis),
    seed,
    temporary: options.temporary,
    supervisorPid: process.pid,
    controlSocket: await chooseControlSocket(directory),
    nodes: nodes.map(({ keys, label }, i) => ({
      name: keys.name,
      id: keys.id,
      label,
      api: address(1 + 2 * i),
      p2p: address(2 + 2 * i),
    })),
    gateway: {
      name: gateway.name,
      id: gateway.id,
      mqtt: { ...address(0), ...(options.attached && { brokerOf: gateway.id }) },
      ...(options.tls && { mqtts: address(ports.length - 1) }),
      ...(options.plain && { plain: options.plain }),
    },
    devices: devices.map(({ name, id }) => ({ name, id })),
    groups: groupsOf(devices),
    trustTtlMs: devnetTrustTtlMs,
    links: links.map((link, i) => ({ ...link, port: ports[firstLinkPort + i] ?? 0 })),
  }
  await writeDirectory(directory, {
    description,
    genesis,
    nodes,
    gateway,
    operator,
    devices: [...devices, observer],
  })
  return description
}

/** Who reaches whom through the supervisor: full and coordination nodes each other, the gateway the full nodes. */
function linksOf(nodes: readonly Member[], gateway: string): readonly Link[] {
  const named = (labels: readonly Label[]): readonly string[] =>
    nodes.filter(({ label }) => labels.includes(label)).map(({ keys }) => keys.name)
  const peers = named(['full', 'coordination'])
  return [
    ...peers.flatMap(from => peers.filter(to => to !== from).map(to => ({ from, to }))),
    ...named(['full']).map(to => ({ from: gateway, to })),
  ]
}

function groupsOf(devices: readonly IdentityKeys[]): DevnetDescription['groups'] {
  const owners: readonly (readonly [string, string])[] = [
    ['hsu0001', '1111'],
    ['hsu0002', '1114'],
  ]
  return owners.flatMap(([name, ownerName]) => {
    const owner = devices.find(device => device.name === ownerName)
    return owner ? [{ name, id: groupIdOf(owner.id, name), owner: ownerName }] : []
  })
}

interface Contents {
  readonly description: DevnetDescription
  readonly genesis: GenesisDocument
  readonly nodes: readonly Member[]
  readonly gateway: IdentityKeys
  readonly operator: IdentityKeys
  readonly devices: readonly IdentityKeys[]
}

async function writeDirectory(directory: string, contents: Contents): Promise<void> {
  const { description, genesis, nodes, gateway, operator, devices } = contents
  await privateDirectory(directory)
  await writeGenesisFile(layout.genesis(directory), genesis)
  await (await KeyDirectory.open(layout.operator(directory))).store(operator)
  const keys = await KeyDirectory.open(directory)
  for (const device of devices) await keys.store(device)
  const names: readonly (readonly [string, DeviceId])[] = [
    ...nodes.map(member => [member.keys.name, member.keys.id] as const),
    [gateway.name, gateway.id],
    [operator.name, operator.id],
  ]
  for (const [name, id] of names) await keys.alias(name, id)
  for (const node of nodes) {
    const described = description.nodes.find(candidate => candidate.id === node.keys.id) as DevnetNode
    await privateDirectory(layout.node(directory, node.keys.name))
    await writeKeyFile(layout.nodeKey(directory, node.keys.name), node.keys)
    await writeNodeConfiguration(directory, description, described)
  }
  await privateDirectory(layout.node(directory, gateway.name))
  await writeKeyFile(layout.nodeKey(directory, gateway.name), gateway)
  if (description.gateway.mqtts) await writeCertificate(directory, gateway.name)
  await writeGatewayConfiguration(directory, description)
  // Last: a directory with a description is a whole one.
  await writeDescription(directory, description)
}

/** Names under which programs of this machine reach the gateway. */
const gatewayNames = ['localhost', loopback]
const certificateLifetimeMs = 365 * 24 * 60 * 60 * 1000

/** An authority, and the certificate that it gives to the gateway. Their keys are random: they are nobody's identity. */
async function writeCertificate(directory: string, gateway: string): Promise<void> {
  const { openAuthority, writeServerCertificate } = await import('../client/certificate-authority.ts')
  const now = Date.now()
  const at = layout.node(directory, gateway)
  await writeServerCertificate({
    authority: await openAuthority(layout.authority(directory), now),
    names: gatewayNames,
    files: { certificate: join(at, serverFiles.certificate), key: join(at, serverFiles.key) },
    notAfter: new Date(now + certificateLifetimeMs),
    now,
  })
}

/** Removes what `generate` made, whole or in part. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
}
