/**
 * MQTT clients that others wrote, as a test uses them: Mosquitto's command line, mqtt.js, Python's paho-mqtt. They know a name and a
 * password and nothing of ours.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { type ForeignProgram, findPython, startForeignProgram } from './foreign-program.ts'
import { until } from './gateway-fixture.ts'
import { hasMosquittoClients, messagesIn, startMosquitto } from './mosquitto-clients.ts'

/** Where they connect, and as whom. */
interface PlainLogin {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
  readonly version: 4 | 5
}

/** What a client of one kind does; each message that comes is a topic and its bytes in hexadecimal. */
interface ForeignClient {
  /** Resolves once it is granted, to what comes; rejects when it is refused. */
  subscribe(topicFilter: string): Promise<() => readonly string[]>
  /** Resolves when the broker has acknowledged it. */
  publish(topicName: string, payload: Uint8Array): Promise<unknown>
}

export const clientKinds = ['mosquitto', 'mqtt.js', 'paho-mqtt'] as const
type ClientKind = (typeof clientKinds)[number]

const python = findPython('paho.mqtt.client')

/** Why clients of a kind cannot be run here. */
export const missingClients: Readonly<Record<ClientKind, string | undefined>> = {
  mosquitto: hasMosquittoClients ? undefined : 'mosquitto-clients is not installed',
  'mqtt.js': undefined,
  'paho-mqtt': python === undefined ? 'python3-paho-mqtt is not installed' : undefined,
}

const pahoProgram = `
import sys, threading
import paho.mqtt.client as mqtt
host, port, client_id, user, password, version, what, topic, payload = sys.argv[1:]
client = mqtt.Client(client_id=client_id, protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311)
client.username_pw_set(user, password)
done = threading.Event()
refused = []

def on_connect(*_):
    client.subscribe(topic, 1) if what == "subscribe" else client.publish(topic, bytes.fromhex(payload), 1)

def on_subscribe(_client, _data, _id, granted, *_):
    code = granted[0] if isinstance(granted[0], int) else granted[0].value
    if code >= 0x80:
        refused.append(code)
        done.set()
    else:
        print("granted", flush=True)

client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = lambda _c, _d, message: print(message.topic, message.payload.hex(), flush=True)
client.on_publish = lambda *_: done.set()
client.connect(host, int(port), 60)
client.loop_start()
done.wait()
client.disconnect()
client.loop_stop()
sys.exit(1 if refused else 0)
`

export class PlainClients implements AsyncDisposable {
  readonly #login: PlainLogin
  readonly #directory: string
  readonly #running: { stop(): unknown }[] = []
  #names = 0

  private constructor(login: PlainLogin, directory: string) {
    this.#login = login
    this.#directory = directory
  }

  static async of(login: PlainLogin): Promise<PlainClients> {
    return new PlainClients(login, await mkdtemp(join(tmpdir(), 'mote-plain-')))
  }

  client(kind: ClientKind): ForeignClient {
    switch (kind) {
      case 'mosquitto':
        return {
          subscribe: topicFilter =>
            granted(
              this.mosquitto('sub', ['-t', topicFilter, '-d', '-F', '%t %x']),
              /^Subscribed \(mid: \d+\): [012]$/m,
            ),
          publish: async (topicName, payload) =>
            endedWell(this.mosquitto('pub', ['-t', topicName, '-f', await this.#fileWith(payload)])),
        }
      case 'mqtt.js':
        return {
          subscribe: async topicFilter => {
            const client = await this.#mqttJs()
            const seen: string[] = []
            client.on('message', (topic, payload) => seen.push(`${topic} ${payload.toString('hex')}`))
            await client.subscribeAsync(topicFilter, { qos: 1 })
            return () => seen
          },
          publish: async (topicName, payload) =>
            (await this.#mqttJs()).publishAsync(topicName, Buffer.from(payload), { qos: 1 }),
        }
      case 'paho-mqtt':
        return {
          subscribe: topicFilter => granted(this.#paho('subscribe', topicFilter), /granted/),
          publish: (topicName, payload) => endedWell(this.#paho('publish', topicName, payload)),
        }
    }
  }

  /** With the login, and these words more. */
  mosquitto(program: 'sub' | 'pub' | 'rr', words: readonly string[]): ForeignProgram {
    const { host, port, username, password, version } = this.#login
    const login = ['-h', host, '-p', String(port), '-i', this.#clientId(), '-u', username, '-P', password]
    const protocol = ['-V', version === 5 ? 'mqttv5' : 'mqttv311']
    return this.#started(startMosquitto(program, [...login, ...protocol, ...words]))
  }

  /** Ends those that run. */
  async stop(): Promise<void> {
    await Promise.all(this.#running.splice(0).map(each => each.stop()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await rm(this.#directory, { recursive: true })
  }

  #paho(what: string, topicName: string, payload: Uint8Array = new Uint8Array()): ForeignProgram {
    const { host, port, username, password, version } = this.#login
    const login = [host, String(port), this.#clientId(), username, password, String(version)]
    const words = [...login, what, topicName, Buffer.from(payload).toString('hex')]
    return this.#started(startForeignProgram(python ?? '', ['-c', pahoProgram, ...words]))
  }

  async #mqttJs(): Promise<MqttClient> {
    const { version: protocolVersion, ...login } = this.#login
    const clientId = this.#clientId()
    const client = await mqtt.connectAsync({ ...login, clientId, protocolVersion, reconnectPeriod: 0 })
    this.#running.push({ stop: () => client.endAsync(true) })
    return client
  }

  /** MQTT ends the older of two connections with one client id. */
  #clientId(): string {
    return `${this.#login.username}.c${this.#names++}`
  }

  async #fileWith(payload: Uint8Array): Promise<string> {
    const file = join(this.#directory, String(this.#names++))
    await writeFile(file, payload)
    return file
  }

  #started(program: ForeignProgram): ForeignProgram {
    this.#running.push({
      stop: () => {
        program.stop()
        return program.ended
      },
    })
    return program
  }
}

async function granted(program: ForeignProgram, sign: RegExp): Promise<() => readonly string[]> {
  await until(() => program.hasEnded || sign.test(program.stdout), 'a SUBACK')
  if (program.hasEnded) throw new Error(`refused: ${(await program.ended).stderr}`)
  return () => messagesIn(program.stdout)
}

async function endedWell(program: ForeignProgram): Promise<void> {
  const { code, stderr } = await program.ended
  if (code !== 0) throw new Error(stderr)
}
