/**
 * Reading a configuration file: JSON, checked against a schema before anything starts. An error names the field and
 * what was expected. The programs' own schemas are in `node/config.ts` and
 * `mqtt-gateway/config.ts`; the parts that both share are here.
 */
import { readFile } from 'node:fs/promises'
import { type Static, type TSchema, Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import type { TLocalizedValidationError } from 'typebox/error'
import { MoteError } from '../chain/result.ts'

/** Options of an object schema without other fields. */
export const closed = { additionalProperties: false }
export const pathSchema = Type.String({ minLength: 1, description: 'a path' })
export const listenSchema = Type.Object(
  { host: Type.String({ minLength: 1 }), port: Type.Integer({ minimum: 0, maximum: 65535 }) },
  closed,
)
export const logSchema = Type.Object(
  {
    level: Type.Optional(Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'])),
    /** Written to standard error unless given. */
    file: Type.Optional(pathSchema),
  },
  closed,
)

/** Where a server listens. */
export type ListenAddress = Readonly<Static<typeof listenSchema>>

/** A parser of text that was read from `file`; throws `config-invalid` with the field. */
export function configurationParser<Schema extends TSchema>(
  schema: Schema,
): (content: string, file: string) => Static<Schema> {
  const validator: Validator = Compile(schema)
  return (content, file) => {
    let value: unknown
    try {
      value = JSON.parse(content)
    } catch (cause) {
      throw new MoteError('config-invalid', `${file}: expected JSON`, { cause })
    }
    if (!validator.Check(value))
      throw new MoteError('config-invalid', `${file}: ${firstError(schema, validator.Errors(value), value)}`)
    return value as Static<Schema>
  }
}

/** The text of a configuration file. Throws `config-invalid` if it cannot be read. */
export async function readConfigurationFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new MoteError('config-invalid', `${file}: cannot be read`, { cause })
  }
}

/** The first thing that is wrong, as `field: expected X, got Y`. */
function firstError(schema: TSchema, errors: readonly TLocalizedValidationError[], value: unknown): string {
  const error =
    errors.find(({ keyword }) => keyword === 'additionalProperties' || keyword === 'required') ?? errors[0]
  if (!error) return 'expected a configuration'
  const field = fieldName(error.instancePath)
  const { requiredProperties = [], additionalProperties = [] } = error.params as {
    requiredProperties?: string[]
    additionalProperties?: string[]
  }
  if (error.keyword === 'required')
    return `${join(field, requiredProperties.find(name => !hasField(value, error.instancePath, name)) ?? '')}: expected a value, got nothing`
  if (error.keyword === 'additionalProperties')
    return `${join(field, additionalProperties[0] ?? '')}: expected no such field`
  return `${field || 'configuration'}: expected ${expectation(schema, error)}, got ${JSON.stringify(at(value, error.instancePath))}`
}

function expectation(schema: TSchema, error: TLocalizedValidationError): string {
  const { allowedValues, allowedValue } = error.params as {
    allowedValues?: unknown[]
    allowedValue?: unknown
  }
  if (error.keyword === 'enum') return `one of ${allowedValues?.join(', ')}`
  if (error.keyword === 'const') return String(allowedValue)
  if (error.keyword === 'pattern') return descriptionAt(schema, error.schemaPath)
  return error.message.replace(/^must (be |have |match )?/, '')
}

/** The description of the schema that a path such as `#/properties/chainId` names. */
function descriptionAt(schema: TSchema, schemaPath: string): string {
  const found = at(schema, schemaPath.replace(/^#/, '')) as { description?: string } | undefined
  return found?.description ?? 'another form'
}

function at(value: unknown, pointer: string): unknown {
  return pointer
    .split('/')
    .filter(part => part !== '')
    .reduce<unknown>((inner, part) => (inner as Record<string, unknown> | undefined)?.[part], value)
}

function hasField(value: unknown, pointer: string, name: string): boolean {
  return Object.hasOwn(at(value, pointer) as object, name)
}

/** `/peers/0/id` as `peers[0].id`. */
function fieldName(pointer: string): string {
  return pointer.split('/').filter(Boolean).reduce(join, '')
}

function join(path: string, name: string): string {
  if (/^\d+$/.test(name)) return `${path}[${name}]`
  return path === '' ? name : `${path}.${name}`
}
