/**
 * The keys of one person or program: `DIR/keys/<name>.json` with the secret seeds of one identity each, and
 * `DIR/names.json` with local names for other identities. A name is an alias on this machine and never on chain.
 *
 * Directories are 0700, files 0600; a write is atomic; editors lock the directory. A secret lives in
 * `SecretBytes`, which print and serialise as `[secret]`, so that no log line can carry them.
 */
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { DeviceId, isDigest, Milliseconds } from '../chain/brands.ts'
import {
  deviceIdOf,
  encryptionSuites,
  keyIdOf,
  type PublicKey,
  type Signer,
  type SigningSuite,
} from '../chain/keys.ts'
import { assert, MoteError } from '../chain/result.ts'
import type { TransactionSigner } from '../chain/transaction.ts'
import { privateDirectory, readFileIfThere, withDirectoryLock, writeFileAtomic } from './atomic-file.ts'
import {
  type EncryptionKeyKind,
  type EncryptionKeyPair,
  encryptionKeyOf,
  makeEncryptionKeys,
} from './encryption-keys.ts'
import { nativeSignerFromSeed } from './native-crypto.ts'
import { SecretBytes } from './secret-bytes.ts'

/** A key pair that was rotated. */
export interface FormerEncryptionKey extends EncryptionKeyPair {
  /** Nothing that was sealed to it comes after this time. */
  readonly until: Milliseconds
}

/** Everything one identity holds. `id` is the digest of the inception key, which `signing` is until it is rotated. */
export interface IdentityKeys {
  /** Local alias. */
  readonly name: string
  readonly id: DeviceId
  readonly signing: { readonly publicKey: PublicKey; readonly seed: SecretBytes }
  readonly encryption: EncryptionKeyPair
  /** Made for a rotation: it takes the place of `encryption` once the chain has it, and may be sealed to before that is known here. */
  readonly nextEncryption?: EncryptionKeyPair | undefined
  /** Keys that `encryption` has replaced and that mail may still come for, the oldest first. */
  readonly formerEncryption?: readonly FormerEncryptionKey[] | undefined
  /** Ed25519 seed of the libp2p transport, for identities that run a node. */
  readonly transport: { readonly publicKey: Uint8Array; readonly seed: SecretBytes } | undefined
}

export interface KeyChoices {
  /** Of the signing key. Default Ed25519. */
  readonly suite?: SigningSuite
  /** Default X25519. */
  readonly encryption?: EncryptionKeyKind
  /** Make a transport key too. Default false. */
  readonly transport?: boolean
  /** 32 bytes each, for keys that must be the same in every run (a devnet); random otherwise, and for RSA always. */
  readonly seedOf?: (purpose: 'signing' | 'encryption' | 'transport') => Uint8Array
}

/** New keys, on disk only once a `KeyDirectory` stores them. */
export function makeKeys(name: string, choices: KeyChoices = {}): IdentityKeys {
  checkName(name)
  const seedOf = choices.seedOf ?? (() => randomBytes(32))
  const signing = seedOf('signing')
  const publicKey = nativeSignerFromSeed(choices.suite ?? 'ed25519', signing).publicKey
  return {
    name,
    id: deviceIdOf(publicKey),
    signing: { publicKey, seed: new SecretBytes(signing) },
    encryption: makeEncryptionKeys(choices.encryption ?? 'x25519', seedOf('encryption')),
    transport: choices.transport ? transportKeys(seedOf('transport')) : undefined,
  }
}

/** The same identity with a transport key of its own; as it is if it has one. Only a record that is yet to be made can name it. */
export function withTransportKey(keys: IdentityKeys): IdentityKeys {
  return keys.transport ? keys : { ...keys, transport: transportKeys(randomBytes(32)) }
}

function transportKeys(seed: Uint8Array): NonNullable<IdentityKeys['transport']> {
  return { publicKey: nativeSignerFromSeed('ed25519', seed).publicKey.bytes, seed: new SecretBytes(seed) }
}

/** Signs with the identity's signing key. */
export function signerOf(keys: IdentityKeys): Signer {
  return nativeSignerFromSeed(keys.signing.publicKey.suite, keys.signing.seed.expose())
}

/** How a transaction names this identity and its signing key. */
export function transactionSignerOf(keys: IdentityKeys): TransactionSigner {
  return { deviceId: keys.id, keyId: keyIdOf(keys.signing.publicKey) }
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/

function checkName(name: string): void {
  if (!namePattern.test(name) || isDigest(name))
    throw new MoteError('usage', `name: expected 1 to 64 letters, digits, '.', '_' or '-', got '${name}'`)
}

interface StoredEncryption {
  readonly suite: string
  readonly secret: string
  readonly publicKey: string
}

interface KeyFile {
  readonly version: 1
  readonly name: string
  readonly id: string
  readonly signing: { readonly suite: string; readonly seed: string; readonly publicKey: string }
  readonly encryption: StoredEncryption
  readonly nextEncryption?: StoredEncryption
  readonly formerEncryption?: readonly (StoredEncryption & { readonly until: number })[]
  readonly transport?: { readonly seed: string }
}

/** The one place where secrets become text: the content of a key file. */
function toKeyFile(keys: IdentityKeys): string {
  const file: KeyFile = {
    version: 1,
    name: keys.name,
    id: keys.id,
    signing: {
      suite: keys.signing.publicKey.suite,
      seed: bytesToHex(keys.signing.seed.expose()),
      publicKey: bytesToHex(keys.signing.publicKey.bytes),
    },
    encryption: storedEncryption(keys.encryption),
    ...(keys.nextEncryption && { nextEncryption: storedEncryption(keys.nextEncryption) }),
    ...(keys.formerEncryption?.length && {
      formerEncryption: keys.formerEncryption.map(former => ({
        ...storedEncryption(former),
        until: former.until,
      })),
    }),
    ...(keys.transport && { transport: { seed: bytesToHex(keys.transport.seed.expose()) } }),
  }
  return `${JSON.stringify(file, undefined, 2)}\n`
}

function storedEncryption({ publicKey, secret }: EncryptionKeyPair): StoredEncryption {
  const { suite, bytes } = publicKey
  return { suite, secret: bytesToHex(secret.expose()), publicKey: bytesToHex(bytes) }
}

function seedFrom(text: unknown, path: string, field: string): Uint8Array {
  if (typeof text !== 'string' || !isDigest(text))
    throw new MoteError('key-invalid', `${path}: ${field}: expected 64 hexadecimal characters`)
  return hexToBytes(text)
}

function fromKeyFile(path: string, content: Uint8Array): IdentityKeys {
  let file: Partial<KeyFile>
  try {
    file = JSON.parse(Buffer.from(content).toString('utf8')) as Partial<KeyFile>
  } catch {
    // The parser's message quotes the text, which holds secrets: it is not passed on.
    throw new MoteError('key-invalid', `${path}: expected JSON`)
  }
  if (file?.version !== 1) throw new MoteError('key-invalid', `${path}: version: expected 1`)
  const suite = file.signing?.suite
  if (suite !== 'ed25519' && suite !== 'p256')
    throw new MoteError('key-invalid', `${path}: signing.suite: expected ed25519 or p256`)
  if (typeof file.id !== 'string' || !isDigest(file.id))
    throw new MoteError('key-invalid', `${path}: id: expected 64 hexadecimal characters`)
  const signingSeed = seedFrom(file.signing?.seed, path, 'signing.seed')
  const publicKey = nativeSignerFromSeed(suite, signingSeed).publicKey
  if (bytesToHex(publicKey.bytes) !== file.signing?.publicKey)
    throw new MoteError('key-invalid', `${path}: signing.publicKey: does not belong to the seed`)
  return {
    name: typeof file.name === 'string' ? file.name : basename(path, '.json'),
    id: DeviceId(file.id),
    signing: { publicKey, seed: new SecretBytes(signingSeed) },
    encryption: encryptionFrom(file.encryption, path, 'encryption'),
    ...(file.nextEncryption && {
      nextEncryption: encryptionFrom(file.nextEncryption, path, 'nextEncryption'),
    }),
    ...(file.formerEncryption && { formerEncryption: formerFrom(file.formerEncryption, path) }),
    transport: file.transport
      ? transportKeys(seedFrom(file.transport.seed, path, 'transport.seed'))
      : undefined,
  }
}

/** Of an RSA key of 3,072 bits, with room. */
const maxSecretBytes = 4096

/** Keys of before a rotation that an identity keeps at most: as many as its record has beside the current one and a signing key. */
export const maxFormerEncryptionKeys = 6

function formerFrom(stored: unknown, path: string): readonly FormerEncryptionKey[] {
  if (!Array.isArray(stored) || stored.length > maxFormerEncryptionKeys)
    throw new MoteError(
      'key-invalid',
      `${path}: formerEncryption: expected a list of ${maxFormerEncryptionKeys} at most`,
    )
  return stored.map((each: Partial<StoredEncryption & { until: unknown }>, i) => {
    const field = `formerEncryption[${i}]`
    if (!Number.isSafeInteger(each?.until))
      throw new MoteError('key-invalid', `${path}: ${field}.until: expected a time in milliseconds`)
    return { ...encryptionFrom(each, path, field), until: Milliseconds(each.until as number) }
  })
}

function encryptionFrom(
  stored: Partial<StoredEncryption> | undefined,
  path: string,
  of: string,
): EncryptionKeyPair {
  const invalid = (field: string, expected: string) =>
    new MoteError('key-invalid', `${path}: ${of}.${field}: expected ${expected}`)
  const suite = encryptionSuites.find(known => known === stored?.suite)
  if (!suite) throw invalid('suite', encryptionSuites.join(', '))
  const text = stored?.secret
  if (typeof text !== 'string' || !/^([0-9a-f]{2})+$/.test(text) || text.length > 2 * maxSecretBytes)
    throw invalid('secret', 'hexadecimal characters')
  const secret = hexToBytes(text)
  let publicKey: EncryptionKeyPair['publicKey']
  try {
    publicKey = encryptionKeyOf(suite, secret)
  } catch {
    // The message could quote the secret.
    throw invalid('secret', `the secret of a key of suite ${suite}`)
  }
  if (bytesToHex(publicKey.bytes) !== stored?.publicKey)
    throw invalid('publicKey', 'the one that belongs to the secret')
  return { publicKey, secret: new SecretBytes(secret) }
}

/** Keys from one file, as a node's configuration names it. Throws `key-not-found`, `key-invalid`. */
export async function readKeyFile(path: string): Promise<IdentityKeys> {
  const content = await readFileIfThere(path)
  if (!content) throw new MoteError('key-not-found', `${path}: no such key file`)
  return fromKeyFile(path, content)
}

/** Writes a key file of mode 0600 outside a key directory: a node's own. */
export async function writeKeyFile(path: string, keys: IdentityKeys): Promise<void> {
  await writeFileAtomic(path, toKeyFile(keys))
}

export class KeyDirectory {
  readonly directory: string
  readonly #keys: string
  readonly #names: string

  private constructor(directory: string) {
    this.directory = directory
    this.#keys = join(directory, 'keys')
    this.#names = join(directory, 'names.json')
  }

  /** Opens the directory, and makes it if it is not there. */
  static async open(directory: string): Promise<KeyDirectory> {
    await privateDirectory(directory)
    await privateDirectory(join(directory, 'keys'))
    return new KeyDirectory(directory)
  }

  /** Makes keys and stores them. Throws `already-exists` if the name is taken here. */
  async create(name: string, choices?: KeyChoices): Promise<IdentityKeys> {
    const keys = makeKeys(name, choices)
    await this.store(keys)
    return keys
  }

  /** Stores keys made elsewhere, under their name. Never replaces keys: throws `already-exists`. */
  async store(keys: IdentityKeys): Promise<void> {
    checkName(keys.name)
    await withDirectoryLock(this.directory, async () => {
      const path = this.#pathOf(keys.name)
      if (await readFileIfThere(path)) throw new MoteError('already-exists', `${path}: exists`)
      const names = await this.#readNames()
      if ((names.get(keys.name) ?? keys.id) !== keys.id)
        throw new MoteError('already-exists', `name: '${keys.name}' is another identity here`)
      await writeFileAtomic(path, toKeyFile(keys))
      await this.#writeNames(names.set(keys.name, keys.id))
    })
  }

  /** Changes the keys of an identity that is here: in a rotation. No other edit comes between; the id stays. Gives what is here now. */
  async edit(name: string, change: (keys: IdentityKeys) => IdentityKeys): Promise<IdentityKeys> {
    return withDirectoryLock(this.directory, async () => {
      const before = await this.load(name)
      const after = change(before)
      assert(after.id === before.id, 'edit: expected keys of the same identity')
      if (after !== before) await writeFileAtomic(this.#pathOf(name), toKeyFile(after))
      return after
    })
  }

  /** Erases the rotated keys of an identity that nothing comes for any more. */
  async eraseFormerKeys(name: string, now: Milliseconds): Promise<void> {
    const isOver = ({ until }: FormerEncryptionKey) => until < now
    const { formerEncryption = [] } = await this.load(name)
    if (!formerEncryption.some(isOver)) return
    await this.edit(name, keys => ({
      ...keys,
      formerEncryption: keys.formerEncryption?.filter(former => !isOver(former)),
    }))
  }

  /** The keys of a name. Throws `key-not-found`. */
  async load(name: string): Promise<IdentityKeys> {
    checkName(name)
    const content = await readFileIfThere(this.#pathOf(name))
    if (!content) throw new MoteError('key-not-found', `name: no keys of '${name}' in ${this.#keys}`)
    return fromKeyFile(this.#pathOf(name), content)
  }

  /** Remembers a name for an identity whose keys are not here. Throws `already-exists` if it means another one. */
  async alias(name: string, id: DeviceId): Promise<void> {
    checkName(name)
    await withDirectoryLock(this.directory, async () => {
      const names = await this.#readNames()
      if ((names.get(name) ?? id) !== id)
        throw new MoteError('already-exists', `name: '${name}' is another identity here`)
      await this.#writeNames(names.set(name, id))
    })
  }

  /** The id that a name or a written id means, or undefined. */
  async resolve(nameOrId: string): Promise<DeviceId | undefined> {
    const name = (await this.#readNames()).get(nameOrId)
    return name ?? (isDigest(nameOrId) ? DeviceId(nameOrId) : undefined)
  }

  /** Every name with its id, and whether its keys are here; sorted by name. */
  async names(): Promise<
    readonly { readonly name: string; readonly id: DeviceId; readonly hasKeys: boolean }[]
  > {
    const files = new Set(await readdir(this.#keys))
    return [...(await this.#readNames())]
      .map(([name, id]) => ({ name, id, hasKeys: files.has(`${name}.json`) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  #pathOf(name: string): string {
    return join(this.#keys, `${name}.json`)
  }

  async #readNames(): Promise<Map<string, DeviceId>> {
    const content = await readFileIfThere(this.#names)
    if (!content) return new Map()
    try {
      const names = JSON.parse(Buffer.from(content).toString('utf8')) as Record<string, string>
      return new Map(Object.entries(names).map(([name, id]) => [name, DeviceId(id)]))
    } catch (cause) {
      throw new MoteError('key-invalid', `${this.#names}: expected names and ids in JSON`, { cause })
    }
  }

  async #writeNames(names: ReadonlyMap<string, DeviceId>): Promise<void> {
    await writeFileAtomic(this.#names, `${JSON.stringify(Object.fromEntries(names), undefined, 2)}\n`)
  }
}
