/**
 * Where a devnet keeps what, and the file that describes it (`DIR/devnet.json`, mode 0600, format version 1).
 *
 * ```
 * DIR/devnet.json            this description: names, ids, ports, process id of the supervisor
 * DIR/genesis.json           the genesis that every node and client starts from
 * DIR/keys/<name>.json       keys of the devices; DIR/names.json: names of every identity
 * DIR/operator/keys/…        keys of the operator, apart from those of the devices
 * DIR/tls/                   with `--tls`: the authority of the gateway's certificate, ca.crt and ca.key
 * DIR/nodes/<name>/          config.json, key.json, data/, log; without key.json for what joined: its keys are in DIR/keys
 * DIR/control.sock           the supervisor listens here; where that path is too long, in a new private directory
 * ```
 */
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { DeviceId, type GroupId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import type { Label } from '../chain/transaction-bodies.ts'
import { readFileIfThere, writeFileAtomic } from '../client/atomic-file.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

export interface DevnetNode {
  readonly name: string
  readonly id: DeviceId
  readonly label: Label
  readonly api: Address
  readonly p2p: Address
  /** It joined the running network and was given to the supervisor then; its keys are in DIR/keys. */
  readonly joined?: true
}

export interface DevnetDescription {
  readonly version: 1
  readonly chainId: string
  /** Every key of this network follows from it. */
  readonly seed: string
  /** Made by `up` without a name: `down` removes it. */
  readonly temporary: boolean
  readonly supervisorPid: number
  readonly controlSocket: string
  readonly nodes: readonly DevnetNode[]
  readonly gateway: {
    readonly name: string
    readonly id: DeviceId
    /** Where devices come to. With `brokerOf`, the gateway's id, it is a broker that others wrote. */
    readonly mqtt: Address & { readonly brokerOf?: DeviceId }
    /** For TLS, with a certificate by the devnet's own authority. */
    readonly mqtts?: Address
    /** Topics that it maps for plain clients. */
    readonly plain?: { readonly in: readonly string[]; readonly out: readonly string[] }
  }
  readonly devices: readonly { readonly name: string; readonly id: DeviceId }[]
  readonly groups: readonly { readonly name: string; readonly id: GroupId; readonly owner: string }[]
  readonly trustTtlMs: number
  /** One process holds the devices' agents, all connected. */
  readonly agents?: boolean
  /** The supervisor listens on `port` and passes on what `from` sends there to `to`, faults included. */
  readonly links: readonly { readonly from: string; readonly to: string; readonly port: number }[]
}

/** Longest path that a Unix socket may have on every system (sun_path is 104 bytes on macOS). */
const maxSocketPathBytes = 100
const controlPrefix = 'mote-control-'

export const layout = {
  description: (directory: string) => join(directory, 'devnet.json'),
  genesis: (directory: string) => join(directory, 'genesis.json'),
  operator: (directory: string) => join(directory, 'operator'),
  node: (directory: string, name: string) => join(directory, 'nodes', name),
  nodeConfig: (directory: string, name: string) => join(directory, 'nodes', name, 'config.json'),
  nodeKey: (directory: string, name: string) => join(directory, 'nodes', name, 'key.json'),
  /** The authority that signed the gateway's certificate: `ca.crt`, `ca.key`. */
  authority: (directory: string) => join(directory, 'tls'),
  nodeData: (directory: string, name: string) => join(directory, 'nodes', name, 'data'),
  nodeLog: (directory: string, name: string) => join(directory, 'nodes', name, 'log'),
  supervisorLog: (directory: string) => join(directory, 'supervisor.log'),
  controlSocket: (directory: string) => join(directory, 'control.sock'),
} as const

/**
 * Where the supervisor is to listen: in the devnet's directory, or, where that path would be too long for a socket, in a new
 * one of mode 0700 in the system's temporary directory. Nobody else can have prepared a path that nobody can tell.
 */
export async function chooseControlSocket(directory: string): Promise<string> {
  const path = layout.controlSocket(directory)
  if (Buffer.byteLength(path) <= maxSocketPathBytes) return path
  return layout.controlSocket(await mkdtemp(join(tmpdir(), controlPrefix)))
}

/** Removes the socket, and the directory that was made for it. */
export function removeControlSocket(directory: string, path: string): void {
  rmSync(path, { force: true })
  const parent = dirname(path)
  if (parent !== directory && basename(parent).startsWith(controlPrefix))
    rmSync(parent, { recursive: true, force: true })
}

/** `http://host:port` of an API. */
export function apiUrl({ host, port }: Address): string {
  return `http://${host}:${port}`
}

/** The description of a devnet that is or was in this directory; undefined if there is none. */
export async function readDescription(directory: string): Promise<DevnetDescription | undefined> {
  const path = layout.description(directory)
  const content = await readFileIfThere(path)
  if (!content) return undefined
  let description: DevnetDescription
  try {
    description = JSON.parse(Buffer.from(content).toString('utf8')) as DevnetDescription
    if (description.version !== 1) throw new Error(`version: expected 1, got ${description.version}`)
    for (const { from, to, port } of description.links)
      if (!Number.isInteger(port)) throw new Error(`links: expected a port from ${from} to ${to}`)
    for (const { id } of [...description.nodes, ...description.devices, description.gateway]) DeviceId(id)
  } catch (cause) {
    throw new MoteError('config-invalid', `${path}: expected the description of a devnet`, { cause })
  }
  return description
}

export async function writeDescription(directory: string, description: DevnetDescription): Promise<void> {
  await writeFileAtomic(layout.description(directory), `${JSON.stringify(description, undefined, 2)}\n`)
}
