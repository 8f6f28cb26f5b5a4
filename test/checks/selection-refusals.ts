/** Refusals where a connection or a stream agrees on its protocol, before anybody has proven anything. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const test = 'test/unit/node/connection-setup.test.ts'
const setup = 'node/network/connection-setup.ts'
const host = 'node/network/libp2p-host.ts'

export const selections: readonly RefusalCheck[] = [
  ...takenOut(setup, test, {
    'selection: to read a length without end': 'if (length > maxSelectionMessageBytes)',
    'selection: to answer names without end': 'if (this.#messages === maxSelectionMessages)',
  }).map(check => ({ ...check, only: 'selection: bytes' })),
  {
    refusal: 'selection: other bytes before Noise',
    file: host,
    find: '    connectionProtector: () => boundConnections,\n',
    replace: '',
    test,
    only: 'closes a socket before Noise',
  },
  {
    refusal: 'selection: other bytes behind Noise',
    file: host,
    find: 'if (!result.streamMuxer) boundSelection(result.connection)',
    replace: '',
    test,
    only: 'closes a connection behind Noise',
  },
  {
    refusal: 'selection: other bytes that came with the last ones of Noise',
    file: setup,
    find: '  admits(receiver.readBuffer)\n',
    replace: '',
    test,
    only: 'closes a connection behind Noise',
  },
  {
    refusal: 'selection: other bytes on a stream that the peer opened',
    file: setup,
    find: 'boundSelection(stream, connection)\n        onRemoteStream(stream)',
    replace: 'onRemoteStream(stream)',
    test,
    only: 'on a stream that it opened',
  },
  {
    refusal: 'selection: other bytes as an answer on a stream',
    file: setup,
    find: 'boundSelection(stream, connection)\n        return stream',
    replace: 'return stream',
    test,
    only: 'as an answer on a stream',
  },
]
