"""What generated requests need to reach a headend's rules: ids of things that are there, and orders
that it can carry out. And what its document can't say.
"""

import datetime
import hashlib
import json
import math
import os
import threading
import time
import urllib.request
import uuid

import schemathesis

URL = os.environ["DERMS_URL"]
# Of an admin, for what is made here, and of who sends the requests; where nobody is asked, none.
ADMIN_TOKEN = os.environ.get("DERMS_ADMIN_TOKEN")
CALLER_TOKEN = os.environ.get("DERMS_CALLER_TOKEN")
ANSWER_S = 30

# Longer waits are tried with the clock stopped, in derms-headend-sdk/tests/headend/dispatch.rs.
MOST_WAIT_S = 0.05

# `code` of a refusal that needs the meaning of a request: parts of it that exclude each other, the
# range of an asset, the time of day. The document says these in words.
BY_MEANING = {"invalid_request", "confirmation_required", "out_of_range"}


def call(method, path, body=None):
    headers = {"content-type": "application/json"}
    if ADMIN_TOKEN:
        headers["authorization"] = f"Bearer {ADMIN_TOKEN}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
        return json.load(response)


def until(path, wanted):
    """Reads `path` until `wanted` is found in it: for what happens soon, but not at once."""
    deadline = time.monotonic() + ANSWER_S
    pause = threading.Event()
    while not (found := wanted(call("GET", path))):
        if time.monotonic() > deadline:
            raise SystemExit(f"GET {path} does not show what the run needs after {ANSWER_S} s")
        pause.wait(0.05)
    return found


class Known:
    """A fleet with an agent at one site, and a past."""

    def __init__(self):
        agent = until("/agents", lambda agents: agents and agents[0])
        self.site = agent["site_id"]
        self.served = [asset["id"] for asset in agent["assets"]]
        until("/telemetry", lambda latest: len(latest) == len(self.served))
        for asset in self.served:
            until(f"/heartbeat/{asset}/history", lambda page: page["items"])
        assets = [asset["id"] for asset in call("GET", "/assets")]
        away, stopped = [asset for asset in assets if asset not in self.served][:2]
        orders = [
            {"asset_id": self.served[0], "mw": 1, "duration_s": 3600},
            {"site_id": self.site, "mw": 3},
            {"asset_id": away, "mw": 1},
        ]
        orders = [call("POST", "/dispatch?wait_s=5", order) for order in orders]
        call("DELETE", f"/dispatch/{orders[2]['id']}")
        limits = [
            call("POST", "/limits", {"asset_id": self.served[1], "max_mw": 10}),
            call("POST", "/limits", {"asset_id": away, "min_mw": 0, "duration_s": 3600}),
        ]
        stops = [
            call("POST", "/stop", {"asset_id": asset, "confirm": "stop", "reason": "a test"})
            for asset in (away, stopped)
        ]
        call("DELETE", f"/stop/{stops[0]['id']}?return_within_s=0")
        events = until("/events", lambda page: page["items"])
        ids = lambda items: [item["id"] for item in items]
        self.assets, self.sites = assets, ids(call("GET", "/sites"))
        # Of what an order is for: some can't be carried out.
        self.ordered = [*self.served, stopped]
        # By the first word of the path.
        self.ids = {
            "assets": assets,
            "telemetry": [*self.served, away],
            "heartbeat": [*self.served, away],
            "dispatch": ids(orders),
            "limits": ids(limits),
            "stop": ids(stops),
            "events": ids(events),
        }

    def cursor(self, path, step):
        """One that the list has given, if it has two pages."""
        path = f"{path.replace('{id}', self.served[0])}?limit=1"
        if step is not None:
            path += f"&step={step}"
        return call("GET", path)["next_cursor"]


KNOWN = Known()


@schemathesis.hook
def before_load_schema(context, document):
    for item in document["paths"].values():
        for operation in item.values():
            # It stands for what a fault of the headend or a layer of its host answers. With it every
            # status would be a documented one.
            operation["responses"].pop("default", None)
    # The document has the data of an event, which is JSON; what is judged is the whole event.
    stream = document["paths"]["/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": stream["schema"]}
    stream["schema"] = {"type": "object", "required": ["data"], "properties": {"data": data}}


def number_of(value):
    """A number for a choice that comes out the same when the request is repeated."""
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:6], "big")


def there(known, value):
    """One of `known` in place of most ids."""
    try:
        number = number_of(uuid.UUID(value))
    except (AttributeError, TypeError, ValueError):
        return value
    return known[number // 8 % len(known)] if number % 8 else value


def power(value):
    """A power that a battery can give."""
    return math.fmod(value, 5.0)


def order(body, number):
    if number % 2:
        body.pop("asset_id", None)
        body["site_id"] = KNOWN.site
    else:
        body["asset_id"] = KNOWN.ordered[number // 2 % len(KNOWN.ordered)]
        for name in ("site_id", "split_policy", "rebalance"):
            body.pop(name, None)
    body["mw"] = power(body["mw"])
    if isinstance(body.get("follow_up"), dict):
        if number % 2:
            del body["follow_up"]
        else:
            body["follow_up"] = {"value": power(body["follow_up"]["value"])}
    if body.get("start_at"):
        ahead = datetime.timedelta(seconds=60 + number % 3600)
        body["start_at"] = (datetime.datetime.now(datetime.timezone.utc) + ahead).isoformat()


def limit(body, number):
    body["asset_id"] = KNOWN.assets[number % len(KNOWN.assets)]
    # Each asset can stand still, and each limit lets it.
    body["min_mw"] = -abs(power(body.get("min_mw") or 0.0))
    body["max_mw"] = abs(power(body.get("max_mw") or 0.0))


def stop(body, number):
    for name in ("asset_id", "site_id", "all"):
        body.pop(name, None)
    scopes = [("asset_id", KNOWN.assets[number // 3 % len(KNOWN.assets)]), ("site_id", KNOWN.site), ("all", True)]
    name, value = scopes[number % 3]
    body[name] = value
    body["confirm"] = "stop"


POSSIBLE = {"/dispatch": order, "/dispatch/preview": order, "/limits": limit, "/stop": stop}


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    if CALLER_TOKEN:
        case.headers["authorization"] = f"Bearer {CALLER_TOKEN}"
    if case.path_parameters and "id" in case.path_parameters:
        known = KNOWN.ids[path.split("/")[1]]
        case.path_parameters["id"] = there(known, case.path_parameters["id"])
    for part in (case.query, case.body):
        if isinstance(part, dict):
            for name, known in (("asset_id", KNOWN.assets), ("site_id", KNOWN.sites)):
                if name in part:
                    part[name] = there(known, part[name])
    content = case.operation.definition.raw["responses"].get("200", {}).get("content", {})
    # Nobody asks for CSV unless told to.
    if "text/csv" in content and number_of(case.query) % 4 == 0:
        case.headers["accept"] = "text/csv"
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query or {}
    if "wait_s" in query:
        query["wait_s"] = min(float(query["wait_s"]), MOST_WAIT_S)
    # It can't be made up.
    if "cursor" in query:
        query["cursor"] = KNOWN.cursor(path, query.get("step"))
        if query["cursor"] is None:
            del query["cursor"]
    if path in POSSIBLE and isinstance(case.body, dict):
        number = number_of(case.body)
        # One in four stays as it came.
        if number % 4:
            POSSIBLE[path](case.body, number // 4)


@schemathesis.hook
def after_call(context, case, response):
    """Ends what would hold for all orders that follow."""
    if case.operation.path in ("/limits", "/stop") and response.status_code in (201, 202):
        if case.method == "POST":
            call("DELETE", f"{case.operation.path}/{response.json()['id']}")


@schemathesis.check
def code_conformance(ctx, response, case):
    """The `code` of a problem is one that the description of its status names."""
    if response.headers.get("content-type") != ["application/problem+json"]:
        return
    documented = case.operation.responses.find_by_status_code(response.status_code)
    # What is not documented at all is told by the check of the status.
    if documented is not None:
        code, text = response.json()["code"], documented.definition["description"]
        assert f"`{code}`" in text, f"the code {code} is not among the documented ones: {text}"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if failure.code != "ST202":
        return True
    problem = response.json()
    span = {"from", "to"} <= (case.query or {}).keys()
    return not (problem["code"] in BY_MEANING or span and "is after to" in problem["detail"])
