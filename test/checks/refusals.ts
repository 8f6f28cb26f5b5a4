/**
 * The refusals that the project promises, and what it promises not to do, each with the one check behind it and a test that
 * must go red without it (main.ts takes them out one at a time). `find` occurs once in its file.
 */

import { agent } from './agent-refusals.ts'
import { answers } from './answer-refusals.ts'
import { attachedRefusals } from './attached-refusals.ts'
import { contracts } from './contract-refusals.ts'
import { credentials } from './credential-refusals.ts'
import { contractDecisions } from './decision-refusals.ts'
import { gatewayPort } from './gateway-refusals.ts'
import { handovers } from './handover-refusals.ts'
import { hearing } from './hearing-refusals.ts'
import { keptMessages } from './kept-refusals.ts'
import { lists } from './list-refusals.ts'
import { deviceMessages } from './message-refusals.ts'
import { operators } from './operator-refusals.ts'
import { plain } from './plain-refusals.ts'
import { plausibilityRefusals } from './plausibility-refusals.ts'
import { queue } from './queue-refusals.ts'
import { quotas } from './quota-refusals.ts'
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'
import { retention } from './retention-refusals.ts'
import { rights } from './rights-refusals.ts'
import { selections } from './selection-refusals.ts'
import { takingOver } from './taking-over-refusals.ts'
import { votes } from './vote-refusals.ts'
import { wireManners } from './wire-refusals.ts'

const joining: readonly RefusalCheck[] = [
  ...takenOut('chain/registration.ts', 'test/unit/chain/execute-identity.test.ts', {
    'a grant spent on another device than its token key signed':
      'if (!verifies(verification, { key: grant.tokenKey, message, signature: body.tokenSignature }))',
    'a grant that is used up': 'if (grant.used >= grant.quota)',
    'a grant past its expiry': 'if (grant.expiry <= time)',
    'a grant of who is no active authority':
      "if (!isAuthority(parameters, grant.operator) || operator?.status !== 'active')",
    'a label above the grant': 'if (rank[body.label] > rank[grant.highestLabel])',
    'a challenge of who is no coordination node':
      "if (record?.label !== 'coordination' || record.status !== 'active')",
    'a challenge that is over': 'if (Math.abs(time - issuedAt) > most)',
  }),
  {
    refusal: 'a registration whose signer is not the inception key',
    file: 'chain/admission.ts',
    find: 'if (signer.deviceId !== deviceIdOf(inceptionKey) || signer.keyId !== keyIdOf(inceptionKey))',
    replace: never,
    test: 'test/unit/chain/execute-identity.test.ts',
  },
  {
    refusal: 'a challenge that the coordinator did not give, or gave and saw used',
    file: 'node/registry/join-service.ts',
    find: 'unwrap(this.#challenges.redeem(body.challenge, device, this.#clock.steady()))',
    replace: '',
    test: 'test/unit/node/join-service.test.ts',
  },
  ...takenOut('client/coordination-address.ts', 'test/unit/client/coordination-address.test.ts', {
    "a coordination node's address for another chain": 'if (address.chainId !== chainId)',
    "a coordination node's address past its expiry": 'if (expiry <= time)',
    "a coordination node's address that never ends": 'if (expiry > time + maxAddressLifetimeMs)',
    'an address of a revoked coordination node': "if (record.status !== 'active')",
    'an address of who is no coordination node': 'if (record.label !== label)',
    'an address under a key that is over': "if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, time))",
    'an address with a forged signature':
      'if (!verifier.verify(entry.key, addressSigningBytes(payload), signature))',
  }),
  ...takenOut('node/registry/coordination-addresses.ts', 'test/unit/client/coordination-address.test.ts', {
    'an address that another device hands in': 'if (parsed.address.device !== deviceId)',
  }),
]

const advice: readonly RefusalCheck[] = [
  {
    refusal: 'an assignment to where no active full node says that it is',
    file: 'client/coordination-address.ts',
    find: 'if (address?.id === id) serving.push(address)',
    replace: "serving.push(address ?? { id, api: '', addresses: [] })",
    test: 'test/unit/node/serving-nodes.test.ts',
  },
  {
    refusal: 'the address that a coordination node gives a newcomer unsigned',
    file: 'client/join.ts',
    find: "await verifiedAssignment(assignment, signed => verifiedAddress(client, signed, 'full'))",
    replace: 'assignment',
    test: 'test/unit/node/join-service.test.ts',
    only: 'what that one signed',
  },
  ...takenOut('node/light/serving-nodes.ts', 'test/unit/node/serving-nodes.test.ts', {
    'assignments without end': 'if (!this.#reassignments.take())',
  }),
]

const transactions: readonly RefusalCheck[] = takenOut(
  'chain/admission.ts',
  'test/unit/chain/execution.test.ts',
  {
    'a transaction with a forged signature':
      'if (!verifies(around.verification, { key, message, signature: parsed.signature }))',
    'a transaction of a suspended or revoked signer': "if (record.status !== 'active')",
    'a transaction under a key that is over': 'if (!isKeyValidAt(entry, around.time))',
    'a transaction that was executed before': 'if (remembered.has(id, expiry))',
    'a transaction past its expiry': 'if (expiry <= time)',
    'a transaction for another chain': 'if (chainId !== around.chainId)',
    'a transaction of an unknown signer': 'if (!record)',
  },
)

const keys: readonly RefusalCheck[] = [
  {
    refusal: 'an encryption key that nobody can seal to',
    file: 'chain/execute-key.ts',
    find: "if (key.purpose === 'encrypt') return checkUsable('key', key.key)",
    replace: "if (key.purpose === 'encrypt') return permit(undefined)",
    test: 'test/unit/chain/execute-key.test.ts',
  },
  ...takenOut('chain/execute-identity.ts', 'test/unit/chain/execute-identity.test.ts', {
    'a grant whose token key nobody can use': 'if (!usable.ok)',
  }),
  ...takenOut('chain/execute-identity.ts', 'test/unit/chain/execute-governance.test.ts', {
    'suspending or revoking a consenter': 'if (isConsenter(view.parameters(), subject))',
  }),
  {
    refusal: 'suspending or revoking a consenter that is only decided on',
    file: 'chain/permissions.ts',
    find: 'return [consenters, nextConsenters].some(',
    replace: 'return [consenters].some(',
    test: 'test/unit/chain/execute-governance.test.ts',
  },
  ...takenOut('chain/registration.ts', 'test/unit/chain/execute-identity.test.ts', {
    'a transport key that is no point': 'if (transport && !transport.ok)',
  }),
  {
    refusal: 'a genesis file with a field that no genesis has',
    file: 'client/genesis-file.ts',
    find: '  root.mustBeRead()\n',
    replace: '',
    test: 'test/unit/node/genesis-file.test.ts',
  },
  ...takenOut('chain/genesis.ts', 'test/unit/chain/genesis.test.ts', {
    'a genesis with a key that nobody can use': 'if (flaw !== undefined)',
  }),
]

const snapshots: readonly RefusalCheck[] = takenOut(
  'node/ledger/snapshot-stream.ts',
  'test/unit/node/snapshot-stream.test.ts',
  {
    'a snapshot at another place in the log than its header names': 'if (!isPlaceOf(place, header))',
    'a snapshot without a certificate': 'if (!certificate)',
  },
)

const decisions = 'test/unit/mqtt-gateway/verification.test.ts'
const messages: readonly RefusalCheck[] = [
  ...takenOut('mqtt-gateway/server/verification.ts', decisions, {
    'a message of an unknown sender': 'if (!facts.sender)',
    "a message on another device's connection": 'if (sender !== session)',
    'a message of a suspended or revoked sender': "if (facts.sender.status !== 'active')",
    'a message under a key that is no valid signing key of the sender':
      "if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, now))",
    'a message to a revoked recipient': "if (record?.status !== 'active')",
    'a message of no member of the group': 'if (!group.members.includes(sender))',
    'a message under an epoch that is over': 'if (!isEpochAccepted(group.record, target.epoch, now))',
    'a message to a group that is an open topic': 'if (group.record.topic)',
    'a message to no open topic': 'if (!topic?.record.topic)',
    'a message to an open topic of another device than may publish':
      'if (publishers && !publishers.includes(sender))',
    'a message to an open topic under an epoch that is over':
      'if (target.epoch !== epoch || !isEpochAccepted(topic.record, epoch, now))',
    "a message under another epoch key than the chain's":
      'if (target.epoch === epoch && target.epochKeyHash !== epochKeyHash)',
  }),
  ...takenOut('mqtt-gateway/protocol/envelope.ts', decisions, {
    'an expired message': 'if (expiry < head)',
  }),
  {
    refusal: 'a message whose signature does not verify',
    file: 'mqtt-gateway/server/verification.ts',
    find: 'return verifyEnvelope(envelope, entry.key, verifier)\n    ? undefined',
    replace: 'return verifyEnvelope(envelope, entry.key, verifier) || true\n    ? undefined',
    test: decisions,
  },
  {
    refusal: "a message sealed to another key than the recipient's on the chain",
    file: 'mqtt-gateway/server/verification.ts',
    find: "if (entry?.purpose === 'encrypt' && isGood(entry) && sealingFlaw(entry.key) === undefined)\n    return errorOf(checkSuite(envelope.header.suite, entry.key))",
    replace: 'return undefined',
    test: decisions,
  },
  {
    refusal: 'a replayed message',
    file: 'mqtt-gateway/server/verification.ts',
    find: 'return errorOf(replayWindow.check({ keyId, counter, expiry }, times.head))',
    replace: 'return undefined',
    test: decisions,
  },
  {
    refusal: 'any message while the trust data is older than trustTtl',
    file: 'mqtt-gateway/server/verification.ts',
    find: 'checkFresh(facts.ageMs, trustTtlMs)',
    replace: 'checkFresh(facts.ageMs, Number.POSITIVE_INFINITY)',
    test: decisions,
  },
  {
    refusal: 'an epoch that a removal ended',
    file: 'chain/execute-group.ts',
    find: 'epochGraceUntil: never, previousEpochGraceUntil: never }, members)',
    replace: '}, members)',
    test: 'test/unit/chain/execute-group.test.ts',
  },
  ...takenOut('mqtt-gateway/device/listener.ts', 'test/unit/mqtt-gateway/listener.test.ts', {
    'at the recipient: an unknown sender': 'if (!record)',
    'at the recipient: a revoked sender': "if (record.status !== 'active')",
    'at the recipient: a signature that does not verify':
      'if (!verifyEnvelope(envelope, entry.key, verifier))',
    'at the recipient: a view of the chain that is too old': 'if (!fresh.ok)',
  }),
  {
    refusal: 'at the recipient: a message that was given out before',
    file: 'mqtt-gateway/device/listening-place.ts',
    find: '      held.value.use()',
    replace: '      held.value.free()',
    test: 'test/unit/mqtt-gateway/listener.test.ts',
  },
]

const broker = 'test/e2e/gateway-broker.test.ts'
const sessions: readonly RefusalCheck[] = [
  {
    refusal: 'the live session of a revoked device',
    file: 'mqtt-gateway/server/gateway.ts',
    find: '    this.#broker.disconnect(session.clientId)\n',
    replace: '',
    test: broker,
    only: 'a revoked sender is refused',
  },
  {
    refusal: 'the connection of a revoked device',
    file: 'mqtt-gateway/server/sessions.ts',
    find: "if (record.status !== 'active')",
    replace: never,
    test: broker,
    only: 'a revoked sender is refused',
  },
  ...takenOut('mqtt-gateway/server/sessions.ts', broker, {
    'a password that somebody else signed':
      "if (valid.value.type !== 'key' || !verifyAssertion(parsed.value, valid.value.key, verifier))",
    "another device's password": 'if (assertion.device !== device)',
  }).map(check => ({ ...check, only: 'an assertion opens one connection' })),
  {
    refusal: 'a password that opened a connection before',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'return used.ok ? this.#admit(session) : used',
    replace: 'return this.#admit(session)',
    test: broker,
    only: 'an assertion opens one connection',
  },
  {
    refusal: 'a connection while the trust data is too old',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'if (!fresh.ok) return fresh',
    replace: '',
    test: broker,
    only: 'while its trust data is stale',
  },
]

const peers = 'test/e2e/libp2p-network.test.ts'
const decoders: readonly RefusalCheck[] = [
  ...takenOut('node/network/hello.ts', peers, {
    'a peer whose identity is suspended or revoked':
      "if (record.status !== 'active' && !identities.isVoter?.(id))",
    'a peer that is not on the chain': 'if (!record)',
    "a peer on another transport key than its record's":
      'if (!record.transportKey || !transportKey || !equalBytes(record.transportKey, transportKey))',
    'a peer with a changed proof': 'if (!verified.ok)',
  }).map(check => ({ ...check, only: 'hello' })),
  {
    refusal: 'a revoked peer whose old proof nothing covers that a light node has seen',
    file: 'node/light/identities.ts',
    find: 'return this.#isFresh() && this.#records.deviceStands(id, height)',
    replace: 'return true',
    test: 'test/e2e/revoked-peer.test.ts',
  },
  {
    refusal: 'more requests of a proven peer than its rate',
    file: 'node/network/rate-limit.ts',
    find: 'if (this.#tokens < cost) return false',
    replace: '',
    test: peers,
    only: 'request rate',
  },
  ...takenOut('node/network/peer-links.ts', peers, {
    'frames of a node that is no full node': "if (link.peer?.record.label !== 'full')",
    'more frames of a full node that is no voter than its rate':
      'if (events.isCounted(from) && !link.takeFrame(frame.length))',
  }).map(check => ({ ...check, only: 'frames' })),
  ...takenOut('client/address-shares.ts', 'test/e2e/libp2p-garbage.test.ts', {
    'more connections that prove nothing of one address than its share':
      'if (own && own.connections.size >= this.#limits.perAddress)',
  }).map(check => ({ ...check, only: 'prove nothing' })),
  {
    refusal: 'room of full nodes to others',
    file: 'node/network/peer-links.ts',
    find: 'return others.length < maxConnections - keptForFullNodes',
    replace: 'return others.length < maxConnections',
    test: 'test/e2e/libp2p-garbage.test.ts',
    only: 'full nodes have room',
  },
  {
    refusal: 'to go on with who goes on over its rate',
    file: 'node/network/peer-links.ts',
    find: 'if (this.#excess === this.#options.limits.maxExcess)',
    replace: never,
    test: peers,
    only: 'goes on and on',
  },
  ...takenOut('node/network/rate-limit.ts', 'test/unit/node/rate-limit.test.ts', {
    'more who wait of one caller than its places': 'if (taken >= each || this.#all >= all)',
  }),
  {
    refusal: 'requests of a peer that is not confirmed at a fresh head',
    file: 'node/network/requests.ts',
    find: '      deviceId: confirmed?.id,',
    replace: '      deviceId: link.peer?.id,',
    test: peers,
    only: 'not confirmed',
  },
  {
    refusal: 'libp2p: what needs an identity of who has proven none',
    file: 'node/network/requests.ts',
    find: "if (from === 'anyone' || caller.deviceId !== undefined)",
    replace: 'if (true)',
    test: 'test/unit/node/requests.test.ts',
  },
  ...takenOut('node/network/requests.ts', 'test/unit/node/requests.test.ts', {
    'libp2p: an answer over the limit': 'if (bytes.length > maxAnswerBytes)',
  }),
  ...takenOut('node/network/requests.ts', peers, {
    'to ask more than proofs of a peer that is not confirmed':
      "if (!link.confirmedFor(protocol) && of === 'confirmed')",
  }).map(check => ({ ...check, only: 'not confirmed' })),
  {
    refusal: 'libp2p: a message before hello',
    file: 'node/network/peer-links.ts',
    find: 'const sender = () => link.confirmedFor(protocol)?.id',
    replace: "const sender = () => link.confirmedFor(protocol)?.id ?? ('nobody' as DeviceId)",
    test: 'test/e2e/libp2p-garbage.test.ts',
    only: 'before hello',
  },
  {
    refusal: 'libp2p: transactions, Raft messages and signatures of who does not keep the chain',
    file: 'node/ledger/members.ts',
    find: "return this.#others.has(from) || (type === 'raft' && this.#departing.has(from))",
    replace: 'return true',
    test: 'test/unit/node/replica.test.ts',
  },
  ...takenOut('node/network/streams.ts', 'test/unit/node/framing.test.ts', {
    'libp2p: a frame over the limit': 'if (this.#expected > this.#maxFrameBytes)',
  }),
  {
    refusal: 'HTTP: a body over the limit',
    file: 'node/service/api.ts',
    find: '{ bodyLimit: maxTransactionBytes, schema: { querystring: waitQuery, response } }',
    replace: '{ bodyLimit: 2 ** 30, schema: { querystring: waitQuery, response } }',
    test: 'test/e2e/full-node.test.ts',
    only: 'at its announced length',
  },
  ...takenOut('chain/codec.ts', 'test/unit/chain/codec.test.ts', {
    'any decoder: more bytes than the limit': 'if (bytes.length > maxBytes)',
  }),
  ...takenOut('chain/messagepack.ts', 'test/unit/chain/codec.test.ts', {
    'any decoder: bytes after the end': 'if (!reader.atEnd())',
    'any decoder: an integer that is not in its shortest form': 'if (value <= below)',
    'any decoder: arrays in arrays without end': 'if (depth >= maxDepth)',
  }),
]

const clocks: readonly RefusalCheck[] = [
  ...takenOut('client/freshness.ts', 'test/unit/client/freshness.test.ts', {
    'a head from the future as fresh': 'if (time > wall + futureBoundMs)',
  }),
  {
    refusal: 'a head as young that arrived long ago, whatever the wall clock says',
    file: 'client/freshness.ts',
    find: 'arrivedAt === undefined ? 0 : Math.floor(steady - arrivedAt))',
    replace: '0)',
    test: 'test/unit/client/freshness.test.ts',
  },
  {
    refusal: 'to trust a device by a head that is not fresh',
    file: 'cli/device.ts',
    find: 'checkFresh(record.ageMs, trustTtlMs)',
    replace: 'checkFresh(0, trustTtlMs)',
    test: 'test/unit/cli/trust.test.ts',
  },
  {
    refusal: 'a block without the clocks of a majority',
    file: 'node/replica/block-time.ts',
    find: '  return times[Math.floor(voters.length / 2)]\n',
    replace: '  return times[Math.floor(voters.length / 2)] ?? times.at(-1)\n',
    test: 'test/unit/node/block-time.test.ts',
    only: 'without the clocks of a majority',
  },
  {
    refusal: "a proposal later than a follower's own estimate and the bound",
    file: 'node/replica/block-time.ts',
    find: 'return time === undefined ? certified : Math.max(certified, time + clockBoundMs)',
    replace: 'return Number.POSITIVE_INFINITY',
    test: 'test/unit/node/voter-clocks-exchange.test.ts',
  },
  {
    refusal: 'to hold back what is not later than the newest certified block',
    file: 'node/replica/block-time.ts',
    find: 'Math.max(certified, time + clockBoundMs)',
    replace: 'time + clockBoundMs',
    test: 'test/unit/node/voter-clocks-exchange.test.ts',
  },
]

const rekeys: readonly RefusalCheck[] = [
  {
    refusal: 'to keep the others from a new key because one member has none to seal to',
    file: 'mqtt-gateway/device/box-sealing.ts',
    find: '    else\n      leftOut.push({',
    replace:
      "    else if (sealed !== undefined || key === undefined) return refuse('key-not-usable', member)\n    else\n      leftOut.push({",
    test: 'test/unit/mqtt-gateway/epoch-boxes.test.ts',
  },
  {
    refusal: 'to leave a member out in silence',
    file: 'mqtt-gateway/device/agent-epochs.ts',
    find: '        for (const each of leftOut) this.#options.onLeftOut?.(id, each)\n',
    replace: '        void leftOut\n',
    test: 'test/unit/mqtt-gateway/agent-epochs.test.ts',
  },
]

const replication = 'test/unit/consensus/replication.test.ts'
const leading: readonly RefusalCheck[] = [
  {
    refusal: 'a command that followers would drop',
    file: 'consensus/replication.ts',
    find: 'if (largest > maxBytesPerMessage)',
    replace: never,
    test: replication,
  },
  {
    refusal: 'limits of appends that followers would drop',
    file: 'consensus/config.ts',
    find: 'if (value > most)',
    replace: 'if (value < 0)',
    test: 'test/unit/consensus/durability.test.ts',
  },
  {
    refusal: 'a change of members that could not be abandoned',
    file: 'consensus/membership.ts',
    find: 'if (problemOfAbandoning !== undefined)',
    replace: never,
    test: 'test/unit/consensus/membership.test.ts',
  },
  {
    refusal: 'an election timeout below twice the heartbeat',
    file: 'consensus/config.ts',
    find: 'if (config.electionTimeoutTicks < 2 * config.heartbeatTicks)',
    replace: never,
    test: 'test/unit/node/config.test.ts',
  },
  {
    refusal: 'a configuration file that the core would not start with',
    file: 'node/config.ts',
    find: 'if (problem !== undefined) throw',
    replace: 'if (problem === null) throw',
    test: 'test/unit/node/config.test.ts',
  },
  {
    refusal: 'to offer a snapshot once only',
    file: 'consensus/replication.ts',
    find: "    send(state, progress.id, { type: 'install-snapshot', from, term: state.currentTerm, snapshot })\n",
    replace: '    void [from, send]\n',
    test: 'test/scenarios/scenarios.test.ts',
    only: 'a lost offer',
  },
  {
    refusal: 'to let go of a snapshot that is offered still',
    file: 'node/replica/replica.ts',
    find: 'this.#parts.snapshots.keep(effect.snapshot)',
    replace: 'void effect',
    test: 'test/unit/node/snapshots.test.ts',
    only: 'is let go 30 s after',
  },
  {
    refusal: 'to keep a snapshot for a follower that is not heard',
    file: 'consensus/replication.ts',
    find: 'if (leadership.ticks - progress.heardAt <= state.config.electionTimeoutTicks)\n      state.effects',
    replace: 'state.effects',
    test: 'test/unit/consensus/snapshot.test.ts',
  },
  {
    refusal: 'to step back by one term of a conflict at a time',
    file: 'consensus/log.ts',
    find: 'if (run.term <= term && end',
    replace: 'if (run.term === term && end',
    test: replication,
  },
]

export const refusalChecks: readonly RefusalCheck[] = [
  ...answers,
  ...joining,
  ...advice,
  ...transactions,
  ...handovers,
  ...keys,
  ...snapshots,
  ...messages,
  ...deviceMessages,
  ...agent,
  ...contracts,
  ...contractDecisions,
  ...credentials,
  ...sessions,
  ...decoders,
  ...selections,
  ...takingOver,
  ...clocks,
  ...rekeys,
  ...leading,
  ...quotas,
  ...hearing,
  ...gatewayPort,
  ...wireManners,
  ...operators,
  ...retention,
  ...rights,
  ...votes,
  ...lists,
  ...keptMessages,
  ...attachedRefusals,
  ...plausibilityRefusals,
  ...plain,
  ...queue,
]
