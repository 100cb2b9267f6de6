"""Several small requests in one: done one after the other, so that a far client pays one round trip for all.

    {"op":"batch","steps":[{"op":"mkdir","path":"runs/x/0"},{"op":"put","n":17,…},…]}     payload: theirs, joined

`n` is how many bytes of the payload are a step's own. The answer has a result for each step; the first that fails
ends it, unless the step says `"optional":true`: then its result is {"error":{…}}.
"""

from launcher.agent.operation import Failure


def batch(operation):
    from launcher.agent import serve  # it knows all requests, this one too

    payload = memoryview(operation.payload())
    results = []
    for step in operation.args["steps"]:
        args = dict(step)
        name, size, optional = args.pop("op"), args.pop("n", 0), args.pop("optional", False)
        own, payload = payload[:size], payload[size:]
        try:
            results.append(serve.find(name)(_Step(operation, args, bytes(own))) or {})
        except Exception as error:
            if not optional:
                raise
            results.append({"error": serve.explain(error)})
    return {"results": results}


class _Step:
    """What the function of a step is given, in place of an Operation."""

    def __init__(self, operation, args, payload):
        self.args = args
        self.id = operation.id
        self.root = operation.root
        self._operation = operation
        self._payload = payload

    def uploads(self):
        if self._payload:
            yield self._payload

    def payload(self):
        return self._payload

    def send(self, payload=b"", **keys):
        raise Failure("bad", "a request that streams cannot be part of a batch")

    send_frames = send_file = send

    def on_cancel(self, act):
        self._operation.on_cancel(act)

    def linger(self, work):
        self._operation.linger(work)

    def check(self):
        self._operation.check()

    @property
    def cancelled(self):
        return self._operation.cancelled
