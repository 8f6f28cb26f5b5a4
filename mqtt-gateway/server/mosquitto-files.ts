/**
 * What Mosquitto 2 is started with beside a gateway (docs/OPERATIONS.md, "Mosquitto"): its configuration, the access rules of all
 * accounts, and the file of its dynamic-security plugin with the accounts.
 *
 * The access rules are the broker's half of the gateway's promises: a device publishes to topics that name it, and to no others; it
 * receives its own; the gateway alone publishes what devices receive. An acl_file that has no rule for a topic leaves it to the plugin,
 * whose defaults here deny.
 */
import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { maxEnvelopeBytes } from '../protocol/envelope.ts'
import { publishingRules } from '../protocol/sharded-topics.ts'
import { ownFilters } from '../protocol/topics.ts'
import type { BrokerAccount } from './broker-accounts.ts'
import type { BrokerLogin } from './broker-link.ts'
import { accountsUsername, type GatewayLogins, gatewayUsername } from './gateway-logins.ts'
import { accountRoles, namesOf } from './mosquitto-accounts.ts'

/** Mosquitto's name for the account that it checks. */
const anyAccount = '%u'
/** How the plugin hashes passwords unless told otherwise. Each of these has 256 bits, which no number of rounds makes better. */
const passwordRounds = 101
/** Seconds between two writes of what is retained and queued: as much is lost when the broker is killed. */
const autosaveSeconds = 30
/** Messages, and bytes of them, that the broker queues for a shard while no gateway has it, or for a device that is slow. */
const maxQueuedMessages = 10_000
const maxQueuedBytes = 64 * 1024 * 1024
/** Messages that the broker sends on before the first is acknowledged. */
const maxInflightMessages = 64

/** Where distributions put the plugin. */
const pluginPlaces = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib/arm-linux-gnueabihf',
  '/usr/lib64',
  '/usr/lib',
  '/usr/local/lib',
  '/opt/homebrew/lib',
].map(place => `${place}/mosquitto_dynamic_security.so`)

/** The dynamic-security plugin on this machine; undefined if it is in none of the usual places. */
export function findPlugin(): string | undefined {
  return pluginPlaces.find(existsSync)
}

/** Files in PEM for TLS, by absolute paths. */
export interface MosquittoTls {
  readonly certificate: string
  readonly key: string
  /** Another port, for devices with a client certificate by one of these authorities: the name in it is the account, and no password is asked for. */
  readonly clients?: { readonly ca: string; readonly port: number } | undefined
}

export interface MosquittoConfiguration {
  readonly host: string
  readonly port: number
  readonly plugin: string
  /** Absolute: where the files are, and where the broker keeps what it stores. */
  readonly directory: string
  /** Without it the port takes what comes in the clear. */
  readonly tls?: MosquittoTls | undefined
  /** Who the broker runs as, if it is started by root. */
  readonly user: string
}

export const mosquittoFileNames = {
  configuration: 'mosquitto.conf',
  access: 'acl',
  accounts: 'dynamic-security.json',
} as const

/** mosquitto.conf(5). */
export function mosquittoConfiguration({
  host,
  port,
  plugin,
  directory,
  tls,
  user,
}: MosquittoConfiguration): string {
  return `${[
    '# Written by `mote gateway mosquitto`; docs/OPERATIONS.md, "Mosquitto".',
    `user ${user}`,
    `listener ${port} ${host}`,
    ...(tls ? certificateOf(tls) : []),
    ...(tls?.clients ? certificateListener(host, tls, tls.clients) : []),
    'allow_anonymous false',
    'allow_zero_length_clientid false',
    `plugin ${plugin}`,
    `plugin_opt_config_file ${directory}/${mosquittoFileNames.accounts}`,
    `acl_file ${directory}/${mosquittoFileNames.access}`,
    'persistence true',
    `persistence_location ${directory}/`,
    `autosave_interval ${autosaveSeconds}`,
    'persistent_client_expiration 8d',
    `max_packet_size ${maxEnvelopeBytes + 2048}`,
    `max_inflight_messages ${maxInflightMessages}`,
    `max_queued_messages ${maxQueuedMessages}`,
    `max_queued_bytes ${maxQueuedBytes}`,
    'max_keepalive 600',
    'log_dest stderr',
    'log_type error',
    'log_type warning',
    'log_type notice',
  ].join('\n')}\n`
}

function certificateOf({ certificate, key }: MosquittoTls): readonly string[] {
  return [`certfile ${certificate}`, `keyfile ${key}`]
}

/** The access rules are those of all listeners. The plugin is asked for no password here, so an account that it has not may connect. */
function certificateListener(
  host: string,
  tls: MosquittoTls,
  { ca, port }: NonNullable<MosquittoTls['clients']>,
): readonly string[] {
  return [
    `listener ${port} ${host}`,
    ...certificateOf(tls),
    `cafile ${ca}`,
    'require_certificate true',
    'use_identity_as_username true',
  ]
}

/** The acl_file. */
export function accessRules(): string {
  const rules = [
    `user ${accountsUsername}`,
    'topic readwrite $CONTROL/dynamic-security/#',
    '',
    `user ${gatewayUsername}`,
    // The wildcard does not match topics that begin with `$` [MQTT-4.7.2-1].
    'topic readwrite #',
    '',
    ...publishingRules(anyAccount).map(filter => `pattern write ${filter}`),
    ...ownFilters(anyAccount as never).map(filter => `pattern read ${filter}`),
  ]
  return `${rules.join('\n')}\n`
}

/** The plugin's file, as the plugin itself writes it. */
export function accountsFile(logins: GatewayLogins, devices: readonly BrokerAccount[]): string {
  const administrator = 'administrator'
  const control = '$CONTROL/dynamic-security/#'
  const mayControl = ['publishClientSend', 'publishClientReceive', 'subscribePattern'].map(acltype => ({
    acltype,
    topic: control,
    allow: true,
  }))
  const content = {
    clients: [
      { ...clientOf(logins.accounts), roles: [{ rolename: administrator }] },
      clientOf(logins.gateway),
      ...devices.map(account => ({
        ...clientOf({ username: account.device, password: account.password }),
        textdescription: account.note,
        roles: namesOf(accountRoles(account)),
      })),
    ],
    groups: [],
    roles: [{ rolename: administrator, acls: mayControl }, ...devices.flatMap(accountRoles)],
    defaultACLAccess: {
      publishClientSend: false,
      publishClientReceive: false,
      subscribe: false,
      unsubscribe: true,
    },
  }
  return `${JSON.stringify(content, undefined, 1)}\n`
}

function clientOf({ username, password }: Pick<BrokerLogin, 'username'> & Pick<BrokerAccount, 'password'>) {
  if (password === undefined) return { username }
  const salt = randomBytes(12)
  const hash = pbkdf2Sync(password, salt, passwordRounds, 64, 'sha512')
  return {
    username,
    password: hash.toString('base64'),
    salt: salt.toString('base64'),
    iterations: passwordRounds,
  }
}
