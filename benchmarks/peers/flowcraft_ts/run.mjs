// The TypeScript original in memory. Speaks the protocol of ../protocol.py: a JSON request per line in, a JSON reply per line out.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { createFlow, FlowRuntime } from 'flowcraft'

const WARM_UP = 0.25
const noop = async () => ({})

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

async function measure({ shape, size, seconds }) {
  const flow = shapes[shape](size)
  const blueprint = flow.toBlueprint()
  const functionRegistry = flow.getFunctionRegistry()
  const runtime = new FlowRuntime({})
  const nodes = shape === 'chain' ? size : size + 2
  const run = async () => {
    const result = await runtime.run(blueprint, {}, { functionRegistry })
    if (result.status !== 'completed') throw new Error(`the run ended as ${result.status}`)
    const outputs = Object.keys(result.context).filter((key) => key.startsWith('_outputs.')).length
    if (outputs !== nodes) throw new Error(`${outputs} of ${nodes} nodes ran`)
  }
  const now = () => performance.now() / 1000
  const warm = now() + seconds * WARM_UP
  do await run()
  while (now() < warm)
  let runs = 0
  const started = now()
  let ended = started
  while (ended < started + seconds) {
    await run()
    runs++
    ended = now()
  }
  return { work: nodes * runs, runs, started, ended }
}

const entry = createRequire(import.meta.url).resolve.paths('flowcraft')[0]
const { version } = JSON.parse(readFileSync(`${entry}/flowcraft/package.json`, 'utf8'))
const send = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`)

send({ versions: { 'flowcraft (npm)': version, Node: process.versions.node } })
for await (const line of createInterface({ input: process.stdin })) {
  try {
    send(await measure(JSON.parse(line)))
  } catch (error) {
    send({ error: String(error).slice(0, 300) })
  }
}
