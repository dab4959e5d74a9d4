// Shared by the peers on Redis that run on Node; copied beside them when they are installed.
const now = () => performance.now() / 1000

/** Keep so many runs in flight for about `seconds`; at least one run per slot. Latencies are those of whole runs. */
export async function keepInFlight(run, { slots, work, seconds }) {
  await run()
  const latencies = []
  const started = now()
  const slot = async () => {
    let begun = now()
    for (;;) {
      await run()
      const ended = now()
      latencies.push(ended - begun)
      begun = ended
      if (ended >= started + seconds) return
    }
  }
  await Promise.all(Array.from({ length: slots }, slot))
  const ended = now()
  latencies.sort((a, b) => a - b)
  const latency = latencies[Math.floor(latencies.length / 2)] * 1000
  return { work: work * latencies.length, runs: latencies.length, started, ended, latency_ms: latency }
}

/** What a measurement asked of Redis: commands per node, and bytes that stay per run. */
export async function counting(redis, work, measure) {
  const before = await usage(redis)
  const reply = await measure()
  const after = await usage(redis)
  const runs = reply.runs + 1 // the one to warm up
  return {
    ...reply,
    commands_per_node: (after.calls - before.calls) / (runs * work),
    kb_per_run: (after.memory - before.memory) / runs / 1000,
  }
}

async function usage(redis) {
  const stats = await redis.info('commandstats')
  const calls = [...stats.matchAll(/calls=(\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0)
  const memory = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))[1])
  return { calls, memory }
}
