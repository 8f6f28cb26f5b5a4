/** Connects a device to its gateway, or to the broker that the gateway stands beside, with what the device's keys and the chain give. */
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import type { TrustView } from '../protocol/trust.ts'
import { accountLogin } from './account-login.ts'
import { type ConnectionOptions, MqttConnection } from './mqtt-connection.ts'

export interface DeviceConnectionOptions
  extends Pick<ConnectionOptions, 'gateway' | 'timeoutMs' | 'reconnects'> {
  readonly keys: IdentityKeys
  readonly chain: Pick<TrustView, 'chainId' | 'device' | 'now'>
}

/** Throws what `MqttConnection.open` and, at a broker, `accountLogin` throw. */
export async function openDeviceConnection({
  keys,
  chain,
  gateway,
  timeoutMs,
  reconnects,
}: DeviceConnectionOptions): Promise<MqttConnection> {
  const { brokerOf } = gateway
  return MqttConnection.open({
    gateway,
    chainId: chain.chainId,
    device: keys.id,
    signer: signerOf(keys),
    now: () => chain.now(),
    account: brokerOf && (await accountLogin({ chain, keys, gateway: brokerOf })),
    timeoutMs,
    reconnects,
  })
}
