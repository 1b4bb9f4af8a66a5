-- One POST, repeated. Body and token come from files, so that no shell sees them.
local function contents(name)
  local file = assert(io.open(os.getenv("LOAD_FOLDER") .. "/" .. name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

wrk.method = "POST"
wrk.body = contents("body")
wrk.headers["X-Vault-Token"] = contents("token")
wrk.headers["Content-Type"] = "application/json"

local before, after = string.match(wrk.body, "^(.-){number}(.*)$")
if before then
  local sent = 0
  math.randomseed(os.time())
  local run = math.random(1, 1000000000)
  function request()
    sent = sent + 1
    return wrk.format(nil, nil, nil, before .. run .. "-" .. sent .. after)
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
