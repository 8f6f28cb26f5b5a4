/**
 * The genesis document as a JSON file for people and tools. The chain id is the hash of the document's canonical
 * bytes (chain/genesis.ts), not of this text: spacing and order of fields do not matter, values do.
 *
 * Bytes are hexadecimal; keys are `{ "suite", "bytes" }`; what is absent is left out. A field that is not in the document
 * is refused: it was meant to say something, and the chain id would not show that it is missing.
 */
import { readFile } from 'node:fs/promises'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { type ChainId, DeviceId, Hash, isDigest, Milliseconds } from '../chain/brands.ts'
import { decode, encode } from '../chain/codec.ts'
import { builtSuites } from '../chain/envelope-suites.ts'
import { chainIdOf, checkGenesis, type GenesisDocument, genesisCodec } from '../chain/genesis.ts'
import { type EncryptionKey, encryptionSuites, type PublicKey } from '../chain/keys.ts'
import { MoteError } from '../chain/result.ts'
import { writeFileAtomic } from './atomic-file.ts'

/** The document in a file. Throws `config-invalid` with the field that is wrong. */
export async function readGenesisFile(file: string): Promise<GenesisDocument> {
  let content: string
  try {
    content = await readFile(file, 'utf8')
  } catch (cause) {
    throw new MoteError('config-invalid', `${file}: cannot be read`, { cause })
  }
  return parseGenesis(content, file)
}

/** The same, of the chain that a configuration names. Throws `config-invalid`, `wrong-chain`. */
export async function readGenesisOf(config: {
  readonly genesis: string
  readonly chainId: ChainId
}): Promise<GenesisDocument> {
  const genesis = await readGenesisFile(config.genesis)
  const chainId = chainIdOf(genesis)
  if (chainId === config.chainId) return genesis
  throw new MoteError('wrong-chain', `genesis: expected chain ${config.chainId}, got ${chainId}`)
}

export async function writeGenesisFile(file: string, document: GenesisDocument): Promise<void> {
  await writeFileAtomic(file, formatGenesis(document))
}

/** The JSON text of a document. `chainId` is for people; a reader computes it. */
export function formatGenesis(document: GenesisDocument): string {
  const json = { chainId: chainIdOf(document), ...document }
  return `${JSON.stringify(json, (_, value) => (value instanceof Uint8Array ? bytesToHex(value) : value), 2)}\n`
}

/** The document in `content`, which was read from `file`. Throws `config-invalid`. */
export function parseGenesis(content: string, file: string): GenesisDocument {
  let json: unknown
  try {
    json = JSON.parse(content)
  } catch (cause) {
    throw new MoteError('config-invalid', `${file}: expected JSON`, { cause })
  }
  const { document, chainId } = readDocument(json, file)
  const decoded = decodeAgain(document, file)
  if (chainId !== undefined && chainId !== chainIdOf(decoded))
    throw new MoteError(
      'config-invalid',
      `${file}: chainId: expected ${chainIdOf(decoded)} for this document, got ${chainId}`,
    )
  return decoded
}

/** Through the canonical bytes and back: whatever the chain would refuse is refused here. */
function decodeAgain(document: GenesisDocument, file: string): GenesisDocument {
  let bytes: Uint8Array
  try {
    bytes = encode(genesisCodec, document)
  } catch (cause) {
    throw new MoteError('config-invalid', `${file}: ${(cause as Error).message}`, { cause })
  }
  const decoded = decode(genesisCodec, bytes)
  if (!decoded.ok) throw new MoteError('config-invalid', `${file}: ${decoded.error.detail}`)
  const checked = checkGenesis(decoded.value)
  if (!checked.ok) throw new MoteError('config-invalid', `${file}: ${checked.error.detail}`)
  return decoded.value
}

function readDocument(
  json: unknown,
  file: string,
): { document: GenesisDocument; chainId: string | undefined } {
  const root = new JsonField(json, '', file)
  const parameters = root.field('parameters')
  const document: GenesisDocument = {
    version: root.field('version').version(),
    name: root.field('name').text(),
    createdAt: Milliseconds(root.field('createdAt').natural()),
    consenters: root.field('consenters').list(member),
    quorumPolicy: root.field('quorumPolicy').oneOf(['majority', 'two-thirds']),
    authorities: root.field('authorities').list(member),
    threshold: root.field('threshold').natural(),
    parameters: {
      limits: {
        blockTransactions: parameters.field('limits').field('blockTransactions').natural(),
        blockBytes: parameters.field('limits').field('blockBytes').natural(),
        blockChanges: parameters.field('limits').field('blockChanges').natural(),
        unexpiredTransactions: parameters.field('limits').field('unexpiredTransactions').natural(),
        groupMembers: parameters.field('limits').field('groupMembers').natural(),
        groupsPerIdentity: parameters.field('limits').field('groupsPerIdentity').natural(),
        grantQuota: parameters.field('limits').field('grantQuota').natural(),
      },
      heartbeatMs: parameters.field('heartbeatMs').natural(),
      epochGraceMs: parameters.field('epochGraceMs').natural(),
      challengeAgeMs: parameters.field('challengeAgeMs').natural(),
      envelopeSuites: parameters.field('envelopeSuites').list(field => field.oneOf(builtSuites)),
      executionVersion: parameters.field('executionVersion').natural(),
    },
    identities: root.field('identities').list(identity),
  }
  const chainId = root.field('chainId').optional(field => field.digest())
  root.mustBeRead()
  return { document, chainId }
}

function member(json: JsonField): { id: DeviceId; key: PublicKey } {
  return { id: DeviceId(json.field('id').digest()), key: publicKey(json.field('key')) }
}

function identity(json: JsonField): GenesisDocument['identities'][number] {
  return {
    inceptionKey: publicKey(json.field('inceptionKey')),
    label: json.field('label').oneOf(['full', 'coordination', 'lightweight']),
    encryptionKey: json.field('encryptionKey').optional(encryptionKey),
    transportKey: json.field('transportKey').optional(field => field.bytes()),
    metadataHash: json.field('metadataHash').optional(field => Hash(field.digest())),
  }
}

function publicKey(json: JsonField): PublicKey {
  return { suite: json.field('suite').oneOf(['ed25519', 'p256']), bytes: json.field('bytes').bytes() }
}

function encryptionKey(json: JsonField): EncryptionKey {
  return {
    suite: json.field('suite').oneOf(encryptionSuites),
    bytes: json.field('bytes').bytes(),
  }
}

/** A value in the file and where it stands; each reader throws `config-invalid` with that place. */
class JsonField {
  readonly #value: unknown
  readonly #path: string
  readonly #file: string
  /** What was read of it, by name or index. */
  readonly #read = new Map<string, JsonField>()

  constructor(value: unknown, path: string, file: string) {
    this.#value = value
    this.#path = path
    this.#file = file
  }

  field(name: string): JsonField {
    if (typeof this.#value !== 'object' || this.#value === null || Array.isArray(this.#value))
      this.#fail('an object')
    return this.#inner(name, this.#pathOf(name))
  }

  #pathOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`
  }

  #inner(name: string, path: string): JsonField {
    const known = this.#read.get(name)
    if (known) return known
    const inner = new JsonField((this.#value as Record<string, unknown>)[name], path, this.#file)
    this.#read.set(name, inner)
    return inner
  }

  /** Throws for the first field in it that nobody has read. */
  mustBeRead(): void {
    if (typeof this.#value !== 'object' || this.#value === null) return
    for (const name of Object.keys(this.#value)) {
      const inner = this.#read.get(name)
      if (!inner)
        throw new MoteError('config-invalid', `${this.#file}: ${this.#pathOf(name)}: expected no such field`)
      inner.mustBeRead()
    }
  }

  optional<T>(read: (field: JsonField) => T): T | undefined {
    return this.#value === undefined ? undefined : read(this)
  }

  list<T>(read: (field: JsonField) => T): readonly T[] {
    if (!Array.isArray(this.#value)) this.#fail('a list')
    return this.#value.map((_, i) => read(this.#inner(String(i), `${this.#path}[${i}]`)))
  }

  text(): string {
    return typeof this.#value === 'string' ? this.#value : this.#fail('text')
  }

  natural(): number {
    const value = this.#value
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#fail('a natural number')
  }

  version(): 1 {
    return this.#value === 1 ? 1 : this.#fail('1')
  }

  oneOf<T extends string>(names: readonly T[]): T {
    return names.find(name => name === this.#value) ?? this.#fail(`one of ${names.join(', ')}`)
  }

  digest(): string {
    const text = this.text()
    return isDigest(text) ? text : this.#fail('64 lowercase hexadecimal characters')
  }

  bytes(): Uint8Array {
    const text = this.text()
    return /^([0-9a-f]{2})+$/.test(text) ? hexToBytes(text) : this.#fail('lowercase hexadecimal characters')
  }

  #fail(expected: string): never {
    const got = this.#value === undefined ? 'nothing' : JSON.stringify(this.#value)?.slice(0, 80)
    throw new MoteError(
      'config-invalid',
      `${this.#file}: ${this.#path || 'document'}: expected ${expected}, got ${got}`,
    )
  }
}
