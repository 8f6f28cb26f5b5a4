/** What the record of a light node, verified, has against running it; and its transport key, which the record must name. */
import type { Height } from '../../chain/brands.ts'
import { equalBytes } from '../../chain/codec.ts'
import type { IdentityRecord } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { LightConfiguration } from '../effective-configuration.ts'

/** Why this record keeps its node from running; undefined if it does not. */
export function standingOf(
  { name, label }: LightConfiguration,
  keys: IdentityKeys,
  record: IdentityRecord | undefined,
  height: Height,
): MoteError | undefined {
  if (!record)
    return new MoteError(
      'unknown-subject',
      `${name}: device ${keys.id} is not on the chain; \`mote device join\` registers it`,
    )
  if (record.status === 'revoked')
    return new MoteError(
      'device-revoked',
      `${name} was revoked, known at height ${height}: no node takes its connections any more. ` +
        'A revoked identity does not come back; join under another name: `mote device join NAME --run`',
    )
  if (record.label !== label)
    return new MoteError(
      'config-invalid',
      `${name}: label: the chain says ${record.label}, the configuration ${label}`,
    )
  if (!record.transportKey || !equalBytes(record.transportKey, transportOf(keys).publicKey))
    return new MoteError(
      'config-invalid',
      `${name}: transport: the chain does not name the transport key of this key file`,
    )
  if (record.status === 'active') return undefined
  return new MoteError(
    'not-authorised',
    `${name} is ${record.status}, known at height ${height}; an operator decides`,
  )
}

/** True if no operator and no time can change it. */
export function isFinal({ code }: MoteError): boolean {
  return code === 'device-revoked' || code === 'config-invalid'
}

/** The transport key of a node's key file. Throws `config-invalid` if it has none. */
export function transportOf(keys: IdentityKeys): NonNullable<IdentityKeys['transport']> {
  if (keys.transport) return keys.transport
  throw new MoteError('config-invalid', `key: transport: a node needs a transport key, ${keys.name} has none`)
}
