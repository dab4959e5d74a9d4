-- Extend leases: 1 it is mine, 0 another's, -1 gone. KEYS: leases. ARGV: owner, ttl in ms.
local mine, answers = '+' .. ARGV[1], {}
for n, key in ipairs(KEYS) do
  local found = redis.call('GET', key)
  if not found then
    answers[n] = -1
  elseif found == mine then
    redis.call('PEXPIRE', key, ARGV[2])
    answers[n] = 1
  else
    answers[n] = 0
  end
end
return answers
