"""The data plane of the model gateway: what stands between an application and a model, for every call.

A bare ASGI callable. It knows no SQL, no web framework and no rows: it goes by an immutable `Snapshot` that the control
plane hands it, spends from leases that the control plane set aside in the ledger, and writes what it did to a spool
from which the control plane settles. All it asks of the control plane is the protocol `Control`.

    door      the ASGI callable: key, limits, answers and errors in the callers' own protocol
    process   the parts of one process's plane, what it goes by, and its clocks
    wire      HTTP/1.1 towards callers, where there is no web server around the plane
    bodies    requests' bodies as they come in
    dialect   what an API is to the plane, and the way from it to a server
    openai, anthropic, responses   the APIs; what is translated to chat is in `*_as_chat`, from the pieces of `chat`
    inference   models that take tensors, by the Open Inference Protocol
    cache     answers that are given again
    affinity  which of several equal servers a conversation goes to
    opinions  what a caller says of an answer afterwards
    call      one call: its reservation, its attempts, what was delivered, its end
    request   a request's body: the few fields that matter, and the two changes that are made to its bytes
    stream    an answer's events: usage read from the tail, content counted
    pool      connections to model servers; addresses checked at connect
    turn      what is said to others leaves at the end of a turn of the event loop
    terms     what all calls share that one key makes of one model
    health    which server is worth trying: weights, order, circuit breaker
    meters    what is counted for whoever watches
    duties    what the law of a place asks of a call
    guard     what is done for it to one attempt: masking, revealing, labels
    retries   calls under a name, made once however often they come
    limits    requests and tokens a minute, calls at once
    purse     leases: money in hand, and asking for more before it runs out
    spool     the write-ahead file
    ledgering of what the spool holds is the control plane's: `serving.settlement`

Law of the plane: nothing is forwarded that is not reserved, nothing is delivered whose end is not first written.
"""
