"""Engines: released models that the foundation runs itself, behind the gateway.

An endpoint that is hosted is a child process of the server of a home, one for each. It speaks OpenAI's API on a socket in
the home, so to the data plane it is a model server like any other: routes, weights, fallbacks, limits and charges are the
same. It is a child because what runs there was made by others: a model that crashes, eats memory or is taken over harms
its own calls alone. Before it looks at the model it gives up the network and the file system (`kernel.sandbox.confine`);
the files it runs are handed to it open, and it hashes them before it uses them.

    parts       which of a release's files an engine runs: pure
    host        the server's side: starts the children, hears them, starts them again, lets them end
    child       the process: confined, loaded, warmed up, then heard
    door        OpenAI's API on the socket
    batches     calls that wait while a batch runs are in the next one
    encoder     a model of embeddings: tokens, ONNX Runtime, pooling
    embeddings  its API
    writer      a model that writes: llama.cpp over a GGUF file; `template` writes its conversations
    answers     what is asked of it and what it answers, in OpenAI's documents
    talk        its API, one call at a time

`child` and what it stands on import no SQL, no web framework and no room: a process for each model stays small.
"""
