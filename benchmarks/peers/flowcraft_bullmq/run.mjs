// The TypeScript original with its BullMQ adapter, one worker in this process. Argument: the address of Redis.
// Speaks the protocol of ../protocol.py: a JSON request per line in, a JSON reply per line out.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { BullMQAdapter, RedisCoordinationStore } from '@flowcraft/bullmq-adapter'
import { createFlow, FlowRuntime } from 'flowcraft'
import IORedis from 'ioredis'
import { keepInFlight, counting } from './inflight.mjs'

const SIZES = { chain: [10], fan: [100, 1000] }
const noop = async () => ({ output: null })
const silent = { debug() {}, info() {}, warn() {}, error() {} }

const shapes = {
  chain(size) {
    const flow = createFlow(`chain-${size}`)
    for (let number = 0; number < size; number++) {
      flow.node(`n${number}`, noop)
      if (number > 0) flow.edge(`n${number - 1}`, `n${number}`)
    }
    return flow
  },
  fan(size) {
    const flow = createFlow(`fan-${size}`)
    flow.node('source', noop).node('join', noop)
    for (let number = 0; number < size; number++) {
      flow.node(`n${number}`, noop).edge('source', `n${number}`).edge(`n${number}`, 'join')
    }
    return flow
  },
}

const flows = Object.entries(SIZES).flatMap(([shape, sizes]) => sizes.map((size) => shapes[shape](size)))
const blueprints = Object.fromEntries(flows.map((flow) => flow.toBlueprint()).map((blueprint) => [blueprint.id, blueprint]))
const registry = Object.fromEntries(flows.flatMap((flow) => [...flow.getFunctionRegistry()]))
const redis = new IORedis(process.argv[2], { maxRetriesPerRequest: null })
const watcher = new IORedis(process.argv[2])
const waiting = new Map()

/** A user would poll `workflow:status:{run}`; here the end is told at once. */
class TellingAdapter extends BullMQAdapter {
  async publishFinalResult(runId, result) {
    await super.publishFinalResult(runId, result)
    waiting.get(runId)?.(result)
  }
}

const runtime = new FlowRuntime({ blueprints, registry, logger: silent })
const adapter = new TellingAdapter({
  runtimeOptions: { ...runtime.options, blueprints, registry, logger: silent },
  coordinationStore: new RedisCoordinationStore(redis),
  connection: redis,
  queueName: 'bench',
})
adapter.start()

async function measure({ shape, size, in_flight: slots, seconds }) {
  const blueprint = blueprints[`${shape}-${size}`]
  const first = shape === 'chain' ? 'n0' : 'source'
  const run = async () => {
    const runId = randomUUID()
    const ended = new Promise((resolve) => waiting.set(runId, resolve))
    // without its version, even an absent one, the adapter drops every job of the run
    const context = { blueprintId: JSON.stringify(blueprint.id), blueprintVersion: 'null' }
    await redis.hset(`workflow:state:${runId}`, context)
    await adapter.enqueueJob({ runId, blueprintId: blueprint.id, nodeId: first })
    const result = await ended
    waiting.delete(runId)
    if (result.status !== 'completed') throw new Error(`the run ended as ${result.status}: ${result.reason}`)
  }
  const work = shape === 'chain' ? size : size + 2
  return counting(watcher, work, () => keepInFlight(run, { slots, work, seconds }))
}

const entry = createRequire(import.meta.url).resolve.paths('flowcraft')[0]
const read = (name) => JSON.parse(readFileSync(`${entry}/${name}/package.json`, 'utf8')).version
const send = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`)

send({ versions: { '@flowcraft/bullmq-adapter': read('@flowcraft/bullmq-adapter'), 'flowcraft (npm)': read('flowcraft') } })
for await (const line of createInterface({ input: process.stdin })) {
  try {
    send(await measure(JSON.parse(line)))
  } catch (error) {
    send({ error: String(error).slice(0, 300) })
  }
}
process.exit(0)
