/** The one form of `/livez` and `/readyz` (docs/OPERATIONS.md, Health), asked of a program that runs, whatever its label. */
import { expect } from 'vitest'
import { errorTable } from '../../chain/errors.ts'

interface Health {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** Asks, and checks what holds of every answer. */
async function health(base: string, path: '/livez' | '/readyz'): Promise<Health> {
  const response = await fetch(base + path)
  const body = (await response.json()) as Record<string, unknown>
  const { status, headers } = response
  expect(headers.get('cache-control')).toBe('no-store')
  const type = status === 200 ? 'application/json; charset=utf-8' : 'application/problem+json; charset=utf-8'
  expect(headers.get('content-type')).toBe(type)
  expect(headers.get('retry-after')).toBe(status === 503 ? '1' : null)
  if (status === 200) return { status, body }
  const code = body['code'] as keyof typeof errorTable
  const { sentence } = errorTable[code]
  expect(body).toEqual({
    type: `urn:mote:error:${code}`,
    title: sentence,
    status,
    code,
    detail: expect.stringMatching(/./),
  })
  return { status, body }
}

/** Code and detail of what the program lacks; undefined when it is ready. Its process is sound either way. */
export async function unreadiness(base: string): Promise<{ code: string; detail: string } | undefined> {
  expect(await health(base, '/livez')).toEqual({ status: 200, body: { status: 'alive' } })
  const { status, body } = await health(base, '/readyz')
  if (status === 200) expect(body['status']).toBe('ready')
  else expect(status).toBe(503)
  return status === 200 ? undefined : (body as { code: string; detail: string })
}

/** The program is broken: neither alive nor ready, for the same reason. */
export async function expectBroken(base: string, code: string): Promise<void> {
  expect(await health(base, '/livez')).toMatchObject({ status: 500, body: { code } })
  expect(await health(base, '/readyz')).toMatchObject({ status: 503, body: { code } })
}
