/**
 * A Mosquitto among the children of a supervisor (`mote devnet up --broker mosquitto`). It is not one of our programs: it says no ready
 * line, it is ready when its port answers; and it does not watch its standard input, so the kernel is asked to end it with the
 * supervisor, where there is setpriv(1) for that.
 */
import { spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { Child, type ChildOptions } from './child.ts'
import { type Address, layout } from './layout.ts'

/** Its name among the processes of a devnet. */
export const brokerName = 'mosquitto'

/** Where its files are. */
export function brokerDirectory(directory: string): string {
  return layout.node(directory, brokerName)
}

/** Throws `not-installed`. */
export function requireMosquitto(): void {
  if (spawnSync('mosquitto', ['-h']).error)
    throw new MoteError(
      'not-installed',
      'mosquitto: not on this machine; Debian: apt-get install mosquitto; elsewhere see https://mosquitto.org/download',
    )
}

export function brokerChild(directory: string, onUnexpectedEnd: ChildOptions['onUnexpectedEnd']): Child {
  const configuration = join(brokerDirectory(directory), 'mosquitto.conf')
  const endsWithUs = spawnSync('setpriv', ['--version']).error === undefined
  return new Child({
    name: brokerName,
    ...(endsWithUs
      ? {
          program: { executable: 'setpriv', entry: '--pdeathsig' },
          arguments: ['TERM', 'mosquitto', '-c', configuration],
        }
      : { program: { executable: 'mosquitto', entry: '-c' }, arguments: [configuration] }),
    logPath: layout.nodeLog(directory, brokerName),
    onUnexpectedEnd,
  })
}

/** Resolves when somebody listens there. Rejects otherwise. */
export function answersAt({ host, port }: Address): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect(port, host, () => resolve()).on('error', reject)
  return promise.finally(() => socket.destroy())
}
