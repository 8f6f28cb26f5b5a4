/**
 * Every refusal the project can answer with: one table, one meaning per code.
 *
 * docs/ERRORS.md is generated from it (`test/unit/errors.test.ts` keeps them equal). Codes are stable; match on
 * them, never on the text of a message.
 */

/** Exit codes of the command line (the README lists them for people). */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  notAuthorised: 4,
  predicateFalse: 5,
  noLeader: 6,
  timeout: 124,
  interrupted: 130,
} as const

export interface ErrorRow {
  /** What happened and what to do next, in one sentence. */
  readonly sentence: string
  /** HTTP status of a response that carries it (RFC 9457 problem). */
  readonly http: number
  /** MQTT 5 reason code (section 2.4) of the same refusal. */
  readonly mqtt: number
  /** Exit code of the command line. */
  readonly exit: number
  /** True when sending the same bytes again later may succeed. */
  readonly retry: boolean
}

function row(http: number, mqtt: number, exit: number, retry: boolean, sentence: string): ErrorRow {
  return { http, mqtt, exit, retry, sentence }
}

export const errorTable = {
  // Bytes from outside
  malformed: row(
    400,
    0x99,
    1,
    false,
    'The bytes do not have the documented form; compare them with docs/FORMATS.md.',
  ),
  'too-large': row(413, 0x95, 1, false, 'The message is over the documented size limit; send less.'),
  'unknown-version': row(
    400,
    0x99,
    1,
    false,
    'The format version is not one this program speaks; upgrade one of the two.',
  ),
  'wrong-chain': row(409, 0x87, 1, false, 'The message or configuration names another chain id.'),
  'bad-signature': row(403, 0x87, 4, false, 'The signature does not verify under the named key.'),
  'rate-limited': row(
    429,
    0x97,
    1,
    true,
    'Too many requests from this peer, or transactions of this signer; slow down.',
  ),

  // Transactions
  'transaction-expired': row(
    409,
    0x87,
    1,
    false,
    'The expiry lies before the block time; sign a new transaction.',
  ),
  'expiry-too-far': row(409, 0x87, 1, false, 'The expiry is more than ten minutes after the block time.'),
  duplicate: row(409, 0x87, 1, false, 'A transaction with this id is already on the chain.'),
  'unknown-signer': row(403, 0x87, 3, false, 'No identity with this id is on the chain.'),
  'signer-not-active': row(403, 0x87, 4, false, 'The signing identity is suspended or revoked.'),
  'key-not-valid': row(403, 0x87, 4, false, 'The signing key is not valid at this block time.'),
  'key-not-usable': row(
    400,
    0x99,
    1,
    false,
    'The key is none that every implementation can use: off its curve, of small order, an RSA key of another form, or one that already serves another purpose; make a new one.',
  ),
  'not-authorised': row(
    403,
    0x87,
    4,
    false,
    'This signer may not do this; the permission table says who may.',
  ),
  'kind-not-supported': row(
    422,
    0x83,
    1,
    false,
    'This kind of transaction is reserved and not executed yet.',
  ),
  'unknown-subject': row(
    404,
    0x90,
    3,
    false,
    'The device, key, grant or group that is named is not on the chain.',
  ),
  'version-conflict': row(
    409,
    0x87,
    1,
    false,
    'The record has changed since it was read; read it again and decide again.',
  ),
  'already-exists': row(409, 0x87, 1, false, 'What is to be created exists already.'),
  'invalid-state': row(
    409,
    0x87,
    1,
    false,
    'The record is in a state in which this is not possible (a revoked identity stays revoked; a consenter is voted out first, with mote chain consenters set).',
  ),
  'limit-exceeded': row(409, 0x97, 1, false, 'A named limit of the chain would be exceeded.'),
  'grant-not-valid': row(
    403,
    0x87,
    4,
    false,
    'The grant is unknown, expired, used up, or does not allow this label.',
  ),
  'possession-not-proven': row(
    403,
    0x87,
    4,
    false,
    'The proof of possession does not verify for this device id.',
  ),
  'epoch-conflict': row(409, 0x87, 1, true, 'Another member re-keyed the group first; read the group again.'),

  // Records and contracts
  'contract-invalid': row(
    400,
    0x99,
    2,
    false,
    'The contract is not one that could run; the message names the place in it, `mote contract test` checks a file.',
  ),

  'unknown-contract': row(
    404,
    0x90,
    3,
    false,
    'No contract with this address is on the chain, or it is retired.',
  ),
  'rule-violated': row(
    422,
    0x99,
    5,
    false,
    'A contract that guards the topic, or a rule of an agent, does not let this through; the receipt or the message names contract and rule.',
  ),
  'decision-failed': row(
    422,
    0x99,
    5,
    false,
    'The contract came to no decision, so nothing is published and its state is as it was; a record that came with the call stands. The message says where it failed.',
  ),

  // Submission
  overloaded: row(
    503,
    0x97,
    6,
    true,
    'The node has too much unfinished work; send the same bytes again later.',
  ),
  'no-leader': row(503, 0x88, 6, true, 'No leader is known; send the same bytes again.'),
  'certification-lag': row(
    503,
    0x97,
    6,
    true,
    'Blocks are committed but not certified; the leader waits for signatures.',
  ),
  unconfirmed: row(
    503,
    0x97,
    6,
    true,
    'One node refused the transaction and no second one has yet; one alone cannot say so. Send the same bytes again.',
  ),
  'not-ready': row(503, 0x88, 6, true, 'The node is starting, stopping or catching up; ask another node.'),
  timeout: row(
    504,
    0x88,
    124,
    true,
    'No answer in time; the outcome is unknown, sending the same bytes again is safe.',
  ),
  unreachable: row(503, 0x88, 1, true, 'No node answered; check the addresses and that the network is up.'),

  // Reads and proofs
  'not-found': row(404, 0x90, 3, false, 'There is no such device, group, transaction, block, node or file.'),
  forgotten: row(
    410,
    0x90,
    3,
    false,
    'The node keeps only the leaf hashes of this block; ask one that keeps blocks longer, or prove what you have kept of it (mote record proof --from).',
  ),
  'height-not-available': row(
    404,
    0x90,
    3,
    true,
    'The node does not keep the state of this height (any more, or yet).',
  ),
  'bad-proof': row(
    502,
    0x87,
    1,
    false,
    'The proof does not lead to the state root of the certified header; ask another node.',
  ),
  'bad-certificate': row(
    502,
    0x87,
    1,
    false,
    'The certificate is not signed by a quorum of the consenters; ask another node.',
  ),
  'bad-header': row(
    502,
    0x87,
    1,
    false,
    'The header does not follow from what is certified already; ask another node.',
  ),
  stale: row(
    503,
    0x88,
    1,
    true,
    'The trust data is older than trustTtl; wait for newer headers or ask another node.',
  ),
  withheld: row(
    502,
    0x87,
    1,
    false,
    'The node answered with a value that later certified changes have replaced; ask another node.',
  ),

  // Joining
  'challenge-expired': row(
    403,
    0x87,
    4,
    true,
    'The challenge of the coordination node is unknown, used or over; ask for a new one.',
  ),
  'id-active': row(409, 0x87, 4, false, 'A device with this id is active already.'),
  'label-not-allowed': row(403, 0x87, 4, false, 'The grant does not allow this label.'),
  'no-full-node': row(503, 0x88, 1, true, 'No live full node is known to the coordination node; try again.'),
  'hello-required': row(403, 0x87, 4, false, 'The connection has not proven a certified identity yet.'),
  'hello-refused': row(
    403,
    0x87,
    4,
    false,
    'The peer did not prove an active identity that names its transport key.',
  ),

  // The gateway
  'assertion-invalid': row(
    401,
    0x86,
    4,
    false,
    'The password is not a valid signed assertion of this device; run `mote device credentials`.',
  ),
  'credential-invalid': row(
    403,
    0x86,
    4,
    false,
    'The password is none of the credentials that the chain has for the device now, or the certificate names another device or is over; make another one (`mote device credentials`).',
  ),
  'assertion-used': row(
    401,
    0x86,
    4,
    false,
    'This assertion was used already; each is good for one connection.',
  ),
  'not-member': row(
    403,
    0x87,
    4,
    false,
    'The sender is not a member of the group, or of the one that may publish to the open topic.',
  ),
  'recipient-not-active': row(403, 0x87, 5, false, 'The recipient is unknown, suspended or revoked.'),
  'recipient-key-mismatch': row(
    403,
    0x87,
    5,
    false,
    "The recipient's key, or an open topic's, in the message is not the one on the chain; `mote device contact refresh` takes the chain's.",
  ),
  'suite-mismatch': row(
    403,
    0x87,
    5,
    false,
    "The message is sealed by a suite that is not for the recipient's key; the key decides.",
  ),
  'suite-not-allowed': row(
    403,
    0x87,
    5,
    false,
    'The chain does not allow messages that are sealed by this suite; its genesis lists those that it allows.',
  ),
  'epoch-mismatch': row(
    403,
    0x87,
    5,
    true,
    'The group or open topic has a newer epoch key, or needs one after a removal; fetch it, or let a member re-key, and send again.',
  ),
  replayed: row(409, 0x87, 5, false, 'A message with this counter has been relayed already.'),
  'counter-too-old': row(
    409,
    0x87,
    5,
    false,
    'The counter of a message lies so far behind newer ones that nobody knows whether it was used; send it anew.',
  ),
  'envelope-expired': row(409, 0x87, 5, false, 'The message is past its expiry.'),
  'device-revoked': row(
    403,
    0x98,
    5,
    false,
    'The device has been suspended or revoked; its session was cut.',
  ),
  'mailbox-full': row(
    429,
    0x97,
    5,
    true,
    'So much waits already for a recipient, or at the gateway, that it keeps nothing more; send it again later, or without --keep.',
  ),
  'too-slow': row(
    429,
    0x97,
    1,
    true,
    'The connection was ended since too much waited for it, or for too long; read faster, or subscribe to less.',
  ),
  'topic-not-allowed': row(
    403,
    0x90,
    4,
    false,
    'A device may publish and subscribe to its own topics only, and to what its rights on the chain add (`mote device rights`); docs/FORMATS.md lists them.',
  ),
  'cannot-open': row(422, 0x99, 1, false, 'The ciphertext does not open under the key it names.'),

  // This machine
  'config-invalid': row(
    500,
    0x83,
    2,
    false,
    'The configuration file is not valid; the message names the field.',
  ),
  'key-not-found': row(500, 0x83, 3, false, 'The key directory has no such name.'),
  'key-invalid': row(
    500,
    0x83,
    2,
    false,
    'A key file, or the list of names beside it, cannot be used; the message names the file and what is wrong.',
  ),
  'in-use': row(500, 0x83, 1, false, 'Another process uses this directory; stop it first.'),
  'storage-corrupt': row(
    500,
    0x80,
    1,
    false,
    'Stored data fails its check; the message says what to do about it.',
  ),
  'storage-failed': row(500, 0x80, 1, true, 'The disk refused a read or a write.'),
  'state-lost': row(
    500,
    0x80,
    1,
    false,
    'A peer has shown what this node said and its data directory does not know; check that it is the newest directory and that the key runs nowhere else, put the newest back, or join again as a new member.',
  ),
  'execution-diverged': row(
    500,
    0x80,
    1,
    false,
    'This node computed another block than the certified one; it stopped serving.',
  ),
  'start-failed': row(500, 0x80, 1, true, 'A process did not become ready; its log says why.'),
  'not-installed': row(
    501,
    0x83,
    1,
    false,
    'A program that this needs is not on this machine; the message says which one, and how to install it.',
  ),
  'not-running': row(
    500,
    0x80,
    3,
    false,
    'What was asked does not run; `mote devnet up` starts a devnet, `mote chaos restart NODE` one of its nodes.',
  ),
  usage: row(400, 0x83, 2, false, 'The command line is not valid; see --help.'),
  interrupted: row(500, 0x80, 130, true, 'Stopped by a signal.'),
  internal: row(500, 0x80, 1, true, 'Something unexpected failed; the log has the cause.'),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof errorTable
