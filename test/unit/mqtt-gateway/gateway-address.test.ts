import { expect, test } from 'vitest'
import { parseGatewayUrl } from '../../../mqtt-gateway/device/gateway-address.ts'

test('gateway address: host, port and TLS of a URL; 1883 and 8883 unless it has a port', () => {
  expect(parseGatewayUrl('mqtt://10.0.0.5')).toEqual({ host: '10.0.0.5', port: 1883 })
  expect(parseGatewayUrl('mqtts://gateway.example/', 'PEM')).toEqual({
    host: 'gateway.example',
    port: 8883,
    tls: { ca: 'PEM' },
  })
  expect(parseGatewayUrl('mqtts://[::1]:9000')).toMatchObject({ host: '::1', port: 9000, tls: {} })
})

test.each([
  'gateway.example',
  'http://gateway.example',
  'mqtts://',
  'mqtts://user:word@host',
  'mqtt://host/topic',
  '',
])("gateway address: refuses '%s'", text => {
  expect(() => parseGatewayUrl(text)).toThrow('gateway: expected mqtt://host:port or mqtts://host:port')
})
