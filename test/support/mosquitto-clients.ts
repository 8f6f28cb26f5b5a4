/** Mosquitto's command line: clients of MQTT that know nothing of ours. */
import { spawnSync } from 'node:child_process'
import { type ForeignProgram, startForeignProgram } from './foreign-program.ts'

/** Whether they are installed; a package has all of them. */
export const hasMosquittoClients = spawnSync('mosquitto_sub', ['--help']).error === undefined

/** `mosquitto_sub`, `mosquitto_pub` or `mosquitto_rr` at QoS 1, which says each line when it has it. */
export function startMosquitto(program: 'sub' | 'pub' | 'rr', words: readonly string[]): ForeignProgram {
  return startForeignProgram('stdbuf', ['-oL', `mosquitto_${program}`, '-q', '1', ...words])
}

/** Topics and bytes of what a program has printed in the format `%t %x`. */
export function messagesIn(stdout: string): readonly string[] {
  return stdout.split('\n').flatMap(line => /^(\S+\/\S+ [0-9a-f]+)$/.exec(line)?.[1] ?? [])
}
