/**
 * Checks of what a route takes, and writers of what it answers, compiled when a request first needs one and not all of them at every
 * start: most nodes are asked by few of their routes. By the packages, and with the options, that Fastify would use itself.
 */
import checks from '@fastify/ajv-compiler'
import writers from '@fastify/fast-json-stringify-compiler'
import type { FastifyInstance, FastifySchemaCompiler } from 'fastify'

type Check = ReturnType<FastifySchemaCompiler<unknown>>

/** For routes that are added to `app` from now on. */
export function compileSchemasLate(app: FastifyInstance): void {
  // The schemas are ours; to check them, Ajv would compile the schema of schemas.
  const check = once(() => checks()({}, { customOptions: { validateSchema: false } }))
  app.setValidatorCompiler(route => {
    const compiled = once(() => check()(route as object))
    const validate: Check = data => {
      const isValid = compiled()(data) === true
      // Fastify reads there what was wrong.
      validate.errors = (compiled().errors ?? null) as NonNullable<Check['errors']> | null
      return isValid
    }
    return validate
  })
  const write = once(() => writers()({}))
  app.setSerializerCompiler(route => {
    const compiled = once(() => write()({ ...route, httpStatus: route.httpStatus ?? '' }))
    return data => compiled()(data)
  })
}

function once<T extends object>(make: () => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}
