/** Refusals about messages that are kept: how many, how long, and that each is judged again when it is given out. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const wireTest = 'test/e2e/gateway-kept.test.ts'
const placeTest = 'test/unit/mqtt-gateway/listening-place.test.ts'
const boxTest = 'test/unit/mqtt-gateway/mailboxes.test.ts'
const verification = 'mqtt-gateway/server/verification.ts'

export const keptMessages: readonly RefusalCheck[] = [
  ...takenOut('mqtt-gateway/server/mailboxes.ts', boxTest, {
    'kept: more messages at a gateway than it keeps':
      'if (this.#messages + recipients.length > messagesInAll)',
    'kept: more bytes at a gateway than it keeps': 'if (this.#bytes + wire.length > bytesInAll)',
    'kept: more messages for one device than it keeps': 'if (messages >= messagesPerDevice)',
    'kept: more bytes for one device than it keeps': 'if (bytes + wire.length > bytesPerDevice)',
  }),
  {
    refusal: 'kept: for more than seven days',
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: 'keepUntil - now > maxKeepMs + maxEnvelopeLifetimeMs',
    replace: 'false',
    test: wireTest,
    only: 'mailbox that is full',
  },
  {
    refusal: 'kept: until a time before the expiry',
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: 'if (header.keepUntil !== notKept && header.keepUntil <= header.expiry)',
    replace: never,
    test: 'test/unit/mqtt-gateway/envelope.test.ts',
    only: 'keep',
  },
  {
    refusal: 'kept: to give out what is past its time',
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: 'return keepUntil < times.head',
    replace: 'return false',
    test: 'test/unit/mqtt-gateway/envelope.test.ts',
    only: 'keep',
  },
  {
    refusal: 'kept: to give out what is of a sender that was revoked since',
    file: verification,
    find: 'checkSender({ ...input, session: input.envelope.header.sender }) ??',
    replace: '',
    test: wireTest,
    only: 'revoked since',
  },
  {
    refusal: 'kept: to give a removed member what waited for it',
    file: verification,
    find: 'checkRecipientNow(input) ??',
    replace: '',
    test: wireTest,
    only: 'removed member',
  },
  {
    refusal: 'kept: a message above 1 MiB',
    file: 'mqtt-gateway/device/agent.ts',
    find: 'if (text.keepMs !== undefined && contents.length > 1)',
    replace: never,
    test: wireTest,
    only: 'mailbox that is full',
  },
  {
    refusal: 'kept: to overtake older mail',
    file: 'mqtt-gateway/server/kept-deliveries.ts',
    find: 'isKept ? recipients : recipients.filter(each => this.#hasOlderMail(each))',
    replace: 'isKept ? recipients : []',
    test: wireTest,
    only: 'newer mail behind it',
  },
  {
    refusal: 'kept: to forget what nobody has acknowledged',
    file: 'mqtt-gateway/server/kept-deliveries.ts',
    find: 'if (mail.isBehind) await',
    replace: 'if (mail.number > 0) await',
    test: wireTest,
    only: 'not acknowledged',
  },
  {
    refusal: 'kept: under an epoch of which the gateway has no boxes any more',
    file: verification,
    find: 'if (keepUntil !== notKept && target.epoch !== epoch)',
    replace: never,
    test: 'test/unit/mqtt-gateway/verification.test.ts',
    only: 'keep',
  },
  {
    refusal: 'kept: to use up the counter of what was not kept',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'held.free()',
    replace: 'held.use()',
    test: wireTest,
    only: 'counter was not used up',
  },
  {
    refusal: 'kept: to hold back for ever what its recipient had no room for',
    file: 'mqtt-gateway/server/kept-deliveries.ts',
    find: 'if (lane.sent.size > 0 && performance.now() - lane.heardAt > redeliverMs)',
    replace: never,
    test: wireTest,
    only: 'no room for',
  },
  {
    refusal: 'kept: to use up the counter of what was not taken',
    file: 'mqtt-gateway/device/listening-place.ts',
    find: 'if (!taken?.ok) held.value.free()',
    replace: 'if (!taken?.ok) held.value.use()',
    test: placeTest,
    only: 'not used up',
  },
  {
    refusal: 'kept: another message on the counter of one that is on its way',
    file: 'mqtt-gateway/protocol/replay-window.ts',
    find: 'if (this.#held.has(',
    replace: 'if (new Set().has(',
    test: placeTest,
    only: 'meanwhile',
  },
  {
    refusal: 'kept: to take a message again whose counter a crash left unmarked',
    file: 'mqtt-gateway/agent/inbox.ts',
    find: 'this.#taken.has(message.messageId) ||',
    replace: '',
    test: 'test/unit/mqtt-gateway/arrival-crash.test.ts',
    only: 'after the inbox',
  },
  {
    refusal: 'kept: to keep what nobody took in time',
    file: 'mqtt-gateway/server/kept-deliveries.ts',
    find: '.filter(({ until }) => until < head)',
    replace: '.filter(() => false)',
    test: wireTest,
    only: 'nobody took in time',
  },
]
