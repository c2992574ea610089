-- For wrk: sends the request DEPTH times over before it waits, and at the end says what run needs, in one line.
local format = wrk.format

wrk.format = function()
    return string.rep(format(), tonumber(os.getenv("DEPTH")))
end

function done(summary)
    local errors = summary.errors
    io.write(string.format("requests %d seconds %.6f bytes %d errors %d\n", summary.requests, summary.duration / 1e6,
        summary.bytes, errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
