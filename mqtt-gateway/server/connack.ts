/** How a CONNECT is refused: the return code of CONNACK that a refusal has (MQTT 3.1.1, section 3.2.2.3). */
import type { AuthenticateError } from 'aedes'
import type { ErrorCode } from '../../chain/errors.ts'
import { mayPassLater } from './broker.ts'

/** Return codes of CONNACK (MQTT 3.1.1, section 3.2.2.3). */
const connackCodes = { unavailable: 3, badCredentials: 4, notAuthorized: 5 } as const

/** As aedes takes it. */
export function authenticateError(code: ErrorCode): AuthenticateError {
  const forged = badCredentials.includes(code)
  const returnCode =
    mayPassLater(code) || code === 'internal'
      ? connackCodes.unavailable
      : forged
        ? connackCodes.badCredentials
        : connackCodes.notAuthorized
  return Object.assign(new Error(code), { returnCode })
}

const badCredentials: readonly ErrorCode[] = [
  'assertion-invalid',
  'assertion-used',
  'bad-signature',
  'credential-invalid',
]
