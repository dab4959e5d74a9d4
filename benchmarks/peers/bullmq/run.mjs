// BullMQ flows: one tree of jobs per run, one worker in this process. Argument: the address of Redis.
// Speaks the protocol of ../protocol.py: a JSON request per line in, a JSON reply per line out.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { FlowProducer, Worker } from 'bullmq'
import IORedis from 'ioredis'
import { keepInFlight, counting } from './inflight.mjs'

const CONCURRENCY = 100
const queueName = 'bench'
const connect = () => new IORedis(process.argv[2], { maxRetriesPerRequest: null })
const producer = new FlowProducer({ connection: connect() })
const watcher = connect()
const waiting = new Map()

// The root of a tree is executed last: then the run has ended.
const worker = new Worker(
  queueName,
  async (job) => {
    if (job.data.root) waiting.get(job.data.root)?.()
  },
  { connection: connect(), concurrency: CONCURRENCY },
)
await worker.waitUntilReady()

const trees = {
  // A job's children are executed before it, so a chain is a tree of one branch, upside down.
  chain(size, root) {
    let tree = { name: 'node', queueName, data: {} }
    for (let number = 1; number < size; number++) tree = { name: 'node', queueName, data: {}, children: [tree] }
    return { ...tree, data: { root } }
  },
  // A tree has no source that all children share: one node less than the others have.
  fan(size, root) {
    const children = Array.from({ length: size }, () => ({ name: 'node', queueName, data: {} }))
    return { name: 'join', queueName, data: { root }, children }
  },
}

let runs = 0
async function measure({ shape, size, in_flight: slots, seconds }) {
  const run = async () => {
    const root = `r${runs++}`
    const ended = new Promise((resolve) => waiting.set(root, resolve))
    await producer.add(trees[shape](size, root))
    await ended
    waiting.delete(root)
  }
  const work = shape === 'chain' ? size : size + 1
  return counting(watcher, work, () => keepInFlight(run, { slots, work, seconds }))
}

const entry = createRequire(import.meta.url).resolve.paths('bullmq')[0]
const { version } = JSON.parse(readFileSync(`${entry}/bullmq/package.json`, 'utf8'))
const send = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`)

send({ versions: { BullMQ: version, Node: process.versions.node } })
for await (const line of createInterface({ input: process.stdin })) {
  try {
    send(await measure(JSON.parse(line)))
  } catch (error) {
    send({ error: String(error).slice(0, 300) })
  }
}
process.exit(0)
