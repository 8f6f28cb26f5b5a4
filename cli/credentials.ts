/**
 * `mote device credentials`: how any MQTT client connects as a device: once, by an assertion; or again and again, by a password
 * whose hash is on the chain; or by a certificate (certificates.ts).
 */
import type { Command } from 'commander'
import type { DeviceId, Milliseconds } from '../chain/brands.ts'
import type { CredentialScope } from '../chain/credentials.ts'
import { credentialHash } from '../chain/credentials.ts'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { addCredential, revokeCredentials } from '../client/credential-actions.ts'
import { type IdentityKeys, signerOf } from '../client/key-directory.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { writeDeviceCertificate } from './certificates.ts'
import { openChain, openChainUnsynced, syncWithin } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseDuration } from './context.ts'
import { authorityOf } from './gateway-option.ts'
import { provenance } from './output.ts'

interface CredentialOptions {
  readonly for?: number
  readonly scope: CredentialScope
  readonly list?: boolean
  readonly revoke?: string
  readonly operator?: boolean
  readonly certificate?: boolean
  readonly out?: string
  readonly ca?: string
}

function parseScope(text: string): CredentialScope {
  if (text === 'send' || text === 'receive') return text
  throw new MoteError('usage', `scope: expected send or receive, got '${text}'`)
}

function parseHash(text: string): string {
  if (/^[0-9a-f]{8,64}$/.test(text)) return text
  throw new MoteError('usage', `revoke: expected 8 to 64 hexadecimal characters of a hash, got '${text}'`)
}

export function credentialsCommand(family: Command, add: AddCommand): void {
  add<CredentialOptions>({
    parent: family,
    usage: 'credentials <name>',
    description:
      'how any MQTT client connects: by a password for one connection, 60 s; with --for for as many as it likes; or by a client certificate',
    options: [
      {
        flags: '--for <time>',
        description: 'a password that lasts so long: 90m, 12h, 30d; its hash goes on the chain',
        read: parseDuration('for', { min: '1m', max: '400d' }),
      },
      {
        flags: '--scope <scope>',
        description: 'what it lets do: send (and receive), or receive',
        default: 'send',
        read: parseScope,
      },
      { flags: '--list', description: 'the hashes of the passwords that the chain has' },
      { flags: '--revoke <hash>', description: 'take those away whose hash begins so', read: parseHash },
      {
        flags: '--certificate',
        description:
          "a client certificate in place of a password, of the device's signing key; 365d unless --for says",
      },
      { flags: '--out <dir>', description: 'where --certificate writes NAME.crt and NAME.key' },
      {
        flags: '--ca <dir>',
        description:
          'an authority that signs it, for brokers that want one: ca.crt and ca.key, made if they are not there; the gateway needs none',
      },
      { flags: '--operator', description: "sign with the operator's key and not with the device's" },
    ],
    notes:
      'The gateway takes such a password over loopback or TLS only, and cuts its connections when it is revoked or expires. It is shown once. A certificate is for its TLS port: it holds as long as its key does on the chain.',
    action: credentials,
  })
}

function credentials(
  context: Context,
  [name = '']: readonly string[],
  options: CredentialOptions,
): Promise<number> {
  if (options.certificate) {
    if (options.out === undefined) throw new MoteError('usage', 'certificate: expected --out DIR beside it')
    const { out, ca, for: lifetimeMs } = options
    return writeDeviceCertificate(context, name, { out, ca, lifetimeMs })
  }
  if (options.out !== undefined || options.ca !== undefined)
    throw new MoteError('usage', 'out, ca: expected --certificate beside them')
  const wishes = [options.for !== undefined, options.list === true, options.revoke !== undefined]
  if (wishes.filter(Boolean).length > 1)
    throw new MoteError('usage', '--for, --list and --revoke: expected one of them')
  if (options.for !== undefined) return lasting(context, name, options, options.for)
  return wishes.some(Boolean) ? listed(context, name, options) : once(context, name)
}

/** How long the chain is waited for: the keys alone make an assertion. */
const syncPatienceMs = 3_000

async function once(context: Context, name: string): Promise<number> {
  const { makeCredentials } = await import('../mqtt-gateway/device/mqtt-connection.ts')
  const access = await openChainUnsynced(context)
  await syncWithin(access, syncPatienceMs).catch(error => {
    context.output.note(
      `the chain is out of reach (${error instanceof Error ? error.message : String(error)})`,
    )
  })
  const keys = await access.keys.load(name)
  const { host, port, brokerOf } = access.description.gateway.mqtt
  if (brokerOf) return account(context, access, keys, brokerOf)
  const { clientId, username, password, expiresAt } = makeCredentials({
    chainId: access.client.chainId,
    device: keys.id,
    signer: signerOf(keys),
    // By the chain's time, as the gateway judges it: this machine's clock may be wrong.
    now: () => access.client.records.time(),
  })
  const answer = {
    host,
    port,
    clientId,
    username,
    password,
    expiresAt: new Date(expiresAt).toISOString(),
    ...secureWay(access),
  }
  context.output.data(answer, () => context.output.fields(answer))
  return exitCodes.ok
}

/** At a broker that others wrote: the password that the device and the gateway have in common. */
async function account(
  context: Context,
  access: ChainAccess,
  keys: IdentityKeys,
  gateway: DeviceId,
): Promise<number> {
  const [{ accountLogin }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/device/account-login.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  const { host, port } = access.description.gateway.mqtt
  const password = await accountLogin({ chain: agentChain(access.client, keys), keys, gateway })
  const answer = { host, port, clientId: `${keys.id}.plain`, username: keys.id, password }
  context.output.data(answer, () =>
    context.output.fields({ ...answer, until: 'a key of the device or the gateway changes' }),
  )
  return exitCodes.ok
}

async function lasting(
  context: Context,
  name: string,
  { scope, operator }: CredentialOptions,
  lifetimeMs: number,
): Promise<number> {
  const { makePassword } = await import('../mqtt-gateway/protocol/credential-password.ts')
  const access = await openChain(context)
  const { client, description } = access
  if (description.gateway.mqtt.brokerOf)
    throw new MoteError(
      'usage',
      '--for: the broker of this network knows one password of a device, which `mote device credentials` prints without --for',
    )
  const keys = await access.keys.load(name)
  const { bytes, text: password } = makePassword()
  const hash = credentialHash(client.chainId, keys.id, bytes)
  const expiresAt = (client.records.time() + lifetimeMs) as Milliseconds
  const change = { device: keys.id, credential: { hash, expiresAt, scope } }
  const { timeoutMs } = context
  const { height, term, ageMs } = await addCredential(client, await signer(access, keys, operator), change, {
    timeoutMs,
  })
  const { host, port } = description.gateway.mqtt
  const clientId = `${keys.id}.c${hash.slice(0, 8)}`
  const login = { host, port, clientId, username: keys.id, password, ...secureWay(access) }
  const answer = { ...login, scope, expiresAt: new Date(expiresAt).toISOString(), hash, height, term, ageMs }
  context.output.data(answer, () =>
    [
      context.output.fields({ ...login, scope, expires: answer.expiresAt, hash }),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

async function listed(
  context: Context,
  name: string,
  { revoke, operator }: CredentialOptions,
): Promise<number> {
  const access = await openChain(context)
  const { client } = access
  const keys = await access.keys.load(name)
  const { timeoutMs } = context
  const record =
    revoke === undefined
      ? await client.records.credentials(keys.id)
      : await revokeCredentials(
          client,
          await signer(access, keys, operator),
          { device: keys.id, hash: revoke },
          { timeoutMs },
        )
  const { value, height, term, ageMs } = record
  const now = client.records.time()
  const held = (value?.credentials ?? []).map(({ hash, scope, expiresAt }) => ({
    hash,
    scope,
    expiresAt: new Date(expiresAt).toISOString(),
    expired: expiresAt <= now,
  }))
  const answer = { id: keys.id, name, credentials: held, version: value?.version ?? 0, height, term, ageMs }
  context.output.data(answer, () =>
    [
      context.output.table(held, {
        hash: row => row.hash,
        scope: row => row.scope,
        expires: row => `${row.expiresAt}${row.expired ? ' (over)' : ''}`,
      }),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

/** How the same is reached by TLS, if it is. */
function secureWay({ description, directory }: ChainAccess): {
  readonly mqtts?: string
  readonly gatewayCa?: string
} {
  const { mqtts } = description.gateway
  return mqtts ? { mqtts: `mqtts://${mqtts.host}:${mqtts.port}`, gatewayCa: authorityOf(directory) } : {}
}

function signer(
  access: ChainAccess,
  keys: IdentityKeys,
  operator: boolean | undefined,
): Promise<IdentityKeys> {
  return operator ? operatorKeys(access) : Promise.resolve(keys)
}
