/** Refusals about the passwords of plain MQTT clients: on the chain, and at the gateway. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const chainTest = 'test/unit/chain/credentials.test.ts'
const gatewayTest = 'test/e2e/gateway-credentials.test.ts'
const execution = 'chain/execute-credentials.ts'
const sessions = 'mqtt-gateway/server/sessions.ts'
const check = 'mqtt-gateway/server/credential-check.ts'

export const credentials: readonly RefusalCheck[] = [
  ...takenOut(execution, chainTest, {
    'credentials: of an unknown identity': 'if (!record)',
    'credentials: of a revoked identity': "if (record.status === 'revoked')",
    'credentials: that were read before somebody changed them': 'if (current !== expectedVersion)',
    'credentials: beyond the last version': 'if (current >= maxEditedVersion)',
    'credentials: that have expired': 'if (expiresAt <= time)',
    'credentials: that would last too long': 'if (expiresAt - time > maxCredentialLifetimeMs)',
  }),
  {
    refusal: 'credentials: by another device',
    file: 'chain/permissions.ts',
    find: 'permit(namesItself(body, signer) || isAuthority(view.parameters(), signer.id))',
    replace: 'permit(true)',
    test: chainTest,
  },
  {
    refusal: 'credentials: in another order, or twice the same',
    file: 'chain/codec.ts',
    find: 'keyOf(values[i - 1] as T) < keyOf(value)',
    replace: 'true',
    test: chainTest,
  },
  ...takenOut(sessions, gatewayTest, {
    'credentials: a password that crossed a network': 'if (!login.isPrivate)',
  }),
  {
    refusal: 'credentials: a session whose credential was taken away, or has expired',
    file: sessions,
    find: "session.login.type === 'credential' ||",
    replace: '',
    test: gatewayTest,
    only: 'the session ends',
  },
  {
    refusal: 'credentials: a wrong password',
    file: check,
    find: 'if (!credential)',
    replace: "if (!credential) return ok({ hash, expiresAt: trust.now(), scope: 'send' })\n  if (false)",
    test: gatewayTest,
    only: 'a wrong password',
  },
  {
    refusal: 'credentials: a password that has expired',
    file: check,
    find: 'return over < 0 ?',
    replace: 'return true ?',
    test: gatewayTest,
    only: 'a wrong password',
  },
  {
    refusal: 'credentials: to publish with one that is to receive',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'if (!topic || mayNot ||',
    replace: 'if (!topic ||',
    test: gatewayTest,
    only: 'publishes nothing',
  },
]
