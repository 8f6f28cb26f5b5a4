/** What the client of NATS is told, whose certificate it takes, and what an operator hears of failures. With real servers: test/e2e/record-queue.test.ts. */
import type { PeerCertificate } from 'node:tls'
import { expect, test } from 'vitest'
import { MoteError } from '../../../../chain/result.ts'
import {
  connectionOptions,
  FailureReport,
  type NatsServers,
  natsFailure,
} from '../../../../mqtt-gateway/records/nats-connection.ts'

const optionsOf = (servers: Partial<NatsServers>) =>
  connectionOptions({ servers: ['10.0.0.1:4222'], ca: undefined, seed: undefined, ...servers })

test('nats connection: TLS is asked for by an authority or by tls:// before one server, and by nothing else', () => {
  expect(optionsOf({})).not.toHaveProperty('tls')
  expect(optionsOf({ ca: 'PEM' }).tls).toMatchObject({ ca: 'PEM' })
  expect(optionsOf({ servers: ['10.0.0.1:4222', 'tls://10.0.0.2:4222'] }).tls).not.toHaveProperty('ca')
})

test('nats connection: servers that a server names are not connected to, and a key is not given up', () => {
  expect(optionsOf({})).toMatchObject({ ignoreClusterUpdates: true, ignoreAuthErrorAbort: true })
})

test('nats connection: a certificate is for the name of its server; where that is an address, for one of those that are configured', () => {
  const tls = optionsOf({ servers: ['tls://10.0.0.1:4222', '10.0.0.2:4222', 'nats.example:4222'] }).tls
  const { checkServerIdentity } = tls as unknown as {
    checkServerIdentity: (name: string, certificate: PeerCertificate) => Error | undefined
  }
  /** @param name what the client gives Node: of an address nothing, so that it is `localhost` */
  const isTaken = (name: string, subjectaltname: string) =>
    checkServerIdentity(name, { subject: {}, subjectaltname } as PeerCertificate) === undefined
  expect(isTaken('localhost', 'IP Address:10.0.0.1')).toBe(true)
  expect(isTaken('localhost', 'IP Address:10.0.0.2')).toBe(true)
  expect(isTaken('localhost', 'IP Address:10.0.0.3')).toBe(false)
  expect(isTaken('localhost', 'DNS:localhost')).toBe(false)
  expect(isTaken('localhost', 'DNS:nats.example')).toBe(false)
  expect(isTaken('nats.example', 'DNS:nats.example')).toBe(true)
  expect(isTaken('nats.example', 'IP Address:10.0.0.1')).toBe(false)
})

test('nats connection: what an operator has to change is config-invalid and names the setting, the rest is unreachable', () => {
  const failureOf = (error: Error, ca?: string) => natsFailure(error, { ca, seed: undefined, replicas: 3 })
  const expired = Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' })
  expect(failureOf(expired, 'PEM')).toMatchObject({
    code: 'config-invalid',
    detail:
      "queue.ca: expected who vouches for the servers' certificates, as they are now, got: certificate has expired",
  })
  // As the client says it, of nats-server 2.9.
  const forbidden = new Error('Permissions Violation for Publish to "$JS.API.INFO"')
  expect(failureOf(forbidden)).toMatchObject({
    code: 'config-invalid',
    detail: `queue.nkey: expected a key with permission for JetStream, got: ${forbidden.message}`,
  })
  const refused = new Error('connection refused')
  expect(failureOf(refused)).toMatchObject({ code: 'unreachable', detail: 'queue: connection refused' })
})

test('nats connection: each kind of failure is told once, until the servers have answered', () => {
  const told: string[] = []
  const report = new FailureReport(({ detail }) => told.push(detail))
  const fail = (detail: string) => report.failed(new MoteError('unreachable', detail))
  for (const detail of ['queue: a', 'queue: b', 'queue.ca: a', 'queue.ca: b', 'queue: c']) fail(detail)
  expect(told).toEqual(['queue: a', 'queue.ca: a'])
  expect(report.last?.detail).toBe('queue: c')
  report.answered()
  expect(report.last).toBeUndefined()
  fail('queue: d')
  expect(told.at(-1)).toBe('queue: d')
})
