"""An agent made from the .proto alone: registers, sends, takes an order, reports, leaves.

Run by `cargo xtask ci --only python`, which makes the stubs and starts the headend.
"""

import argparse
import faulthandler
import json
import queue
import secrets
import threading
import time
import urllib.error
import urllib.request
import uuid

import grpc
from derms.v1 import agent_link_pb2 as pb
from derms.v1 import agent_link_pb2_grpc as rpc

TOTAL_S = 40  # for the whole run: past it the stacks are printed and the process ends
ANSWER_S = 10  # for one answer of the headend


def check(condition, message):
    if not condition:
        raise SystemExit(f"FAILED: {message}")
    print(f"ok: {message.split(';')[0]}")


def uuid7():
    value = int(time.time() * 1000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 2 << 62))


class Rest:
    def __init__(self, address):
        self.base = f"http://{address}"

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            self.base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def get(self, path):
        status, body = self.call("GET", path)
        if status != 200:
            raise SystemExit(f"FAILED: GET {path} answered {status}: {body}")
        return body

    def until(self, path, wanted, what):
        """Reads `path` until `wanted` holds for it: for what happens soon, but not at once."""
        deadline = time.monotonic() + ANSWER_S
        pause = threading.Event()
        while not wanted(body := self.get(path)):
            if time.monotonic() > deadline:
                raise SystemExit(f"FAILED: {what}; after {ANSWER_S} s GET {path} is {body}")
            pause.wait(0.05)
        print(f"ok: {what}")
        return body


class Link:
    """The stream, with what came in a queue and what goes out in another."""

    def __init__(self, address):
        self.outgoing = queue.Queue()
        self.incoming = queue.Queue()
        self.log_acks = {}
        self.call = rpc.AgentLinkStub(grpc.insecure_channel(address)).Stream(
            iter(self.outgoing.get, None), timeout=TOTAL_S
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for message in self.call:
                self.incoming.put(message)
        except grpc.RpcError:
            pass  # told by the code of the call, when it is asked for
        self.incoming.put(None)

    def send(self, **body):
        self.outgoing.put(pb.AgentMessage(**body))

    def receive(self, *wanted, timeout=ANSWER_S):
        """The next message of a wanted kind, None at the end of the stream or of the time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                message = self.incoming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if message is None:
                self.incoming.put(None)
                return None
            kind = message.WhichOneof("body")
            body = getattr(message, kind) if kind else None
            if kind == "ping":
                self.send(pong=pb.Pong(nonce=body.nonce))
            if kind == "log_ack":
                self.log_acks[body.log_id] = body.up_to_seq
            if kind in wanted:
                return body
            if kind == "close":
                reason = pb.CloseReason.Name(body.reason)
                raise SystemExit(f"FAILED: the headend closed the session: {reason} {body.text!r}")

    def acknowledged(self, log_id, seq):
        """Waits until the log is acknowledged up to `seq`."""
        deadline = time.monotonic() + ANSWER_S
        while self.log_acks.get(log_id, 0) < seq and time.monotonic() < deadline:
            self.receive("log_ack", timeout=max(0.0, deadline - time.monotonic()))
        return self.log_acks.get(log_id, 0) == seq

    def end(self):
        """The status that the stream ended with, or None if it did not end."""
        while self.receive("close") is not None:
            pass
        return self.call.code() if self.call.done() else None


class ReportLog:
    def __init__(self, link, asset_id):
        self.link = link
        self.asset_id = asset_id
        self.log_id = str(uuid.uuid4())
        self.next_seq = 1

    def setpoint(self, order, phase):
        entry = pb.ReportEntry(
            asset_id=self.asset_id,
            setpoint=pb.SetpointReport(
                dispatch_id=order.dispatch_id,
                revision=order.revision,
                phase=phase,
                applied_mw=order.mw,
            ),
        )
        entry.at.GetCurrentTime()
        report = pb.Report(log_id=self.log_id, first_seq=self.next_seq, entries=[entry])
        self.next_seq += 1
        self.link.send(report=report)


def register(link, asset, telemetry_log, report_log):
    message = pb.Register(
        agent_id=asset["id"],  # a single-asset agent is named like its asset
        instance_id=uuid7(),
        software=pb.Software(name="python-agent", version="1"),
        logs=[
            pb.LogHead(kind=pb.LOG_KIND_TELEMETRY, log_id=telemetry_log, first_seq=1, next_seq=1),
            pb.LogHead(kind=pb.LOG_KIND_REPORT, log_id=report_log, first_seq=1, next_seq=1),
        ],
        assets=[
            pb.AssetState(
                asset_id=asset["id"],
                kind=pb.AssetKind.Value("ASSET_KIND_" + asset.get("type", "other").upper()),
                rating=pb.Rating(min_mw=asset["min_mw"], max_mw=asset["max_mw"]),
                control=pb.Control(source=pb.CONTROL_SOURCE_DEFAULT),
                availability=pb.AVAILABILITY_AVAILABLE,
            )
        ],
    )
    message.agent_time.GetCurrentTime()
    link.send(register=message)
    registered = link.receive("registered")
    check(registered is not None, "Register is answered")
    check(registered.epoch > 0, f"the session has an epoch; it is {registered.epoch}")
    grants = {grant.asset_id: pb.GrantStatus.Name(grant.status) for grant in registered.grants}
    check(
        grants == {asset["id"]: "GRANT_STATUS_GRANTED"},
        f"the asset is granted and nothing else is; grants are {grants}",
    )
    return registered


def telemetry(link, rest, asset, log_id):
    sample = pb.Sample(asset_id=asset["id"], quality=pb.QUALITY_GOOD, mw=0.125, soc_pct=50.0)
    sample.measured_at.GetCurrentTime()
    link.send(telemetry=pb.Telemetry(log_id=log_id, first_seq=1, samples=[sample]))
    check(
        link.acknowledged(log_id, 1),
        f"telemetry is acknowledged up to 1; acknowledged is {link.log_acks}",
    )
    latest = rest.get(f"/telemetry/{asset['id']}")
    check(latest["mw"] == 0.125, f"REST shows the power that was sent; it shows {latest}")


def dispatch(link, rest, reports, asset, epoch):
    mw = asset["max_mw"] / 2 or asset["min_mw"] / 2
    order = {"asset_id": asset["id"], "mw": mw, "duration_s": 1}
    answers = queue.Queue()
    threading.Thread(
        target=lambda: answers.put(rest.call("POST", "/dispatch?wait_s=5", order)), daemon=True
    ).start()

    setpoint = link.receive("setpoint")
    check(setpoint is not None, "the order arrives as a Setpoint")
    check(
        (setpoint.asset_id, setpoint.mw, setpoint.epoch) == (asset["id"], mw, epoch)
        and setpoint.duration.seconds == 1
        and setpoint.revision > 0,
        f"it is the order that was given; it is {setpoint}",
    )
    reports.setpoint(setpoint, pb.SETPOINT_PHASE_RECEIVED)
    started = time.monotonic()
    reports.setpoint(setpoint, pb.SETPOINT_PHASE_STARTED)
    status, answer = answers.get(timeout=ANSWER_S)
    check(
        status == 202 and answer["status"] == "active" and answer["id"] == setpoint.dispatch_id,
        f"the POST that waited is told that it is active; it was told {status} {answer}",
    )

    # The lease runs to its end while the stream is read.
    link.receive(timeout=max(0.0, started + 1 - time.monotonic()))
    reports.setpoint(setpoint, pb.SETPOINT_PHASE_COMPLETED)
    rest.until(
        f"/dispatch/{setpoint.dispatch_id}",
        lambda body: body["status"] == "completed",
        "the dispatch is completed when the agent has said so",
    )
    check(
        link.acknowledged(reports.log_id, 3),
        f"reports are acknowledged up to 3; acknowledged is {link.log_acks}",
    )


def leave(link, rest, asset):
    link.send(close=pb.Close(reason=pb.CLOSE_REASON_NORMAL, text="done"))
    code = link.end()
    check(code == grpc.StatusCode.OK, f"the stream ends after Close; its status is {code}")
    rest.until(
        "/agents",
        lambda agents: all(agent["agent_id"] != asset["id"] for agent in agents),
        "the agent is no longer shown as connected",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", required=True, help="host:port of REST")
    parser.add_argument("--grpc", required=True, help="host:port of the agent link")
    args = parser.parse_args()
    faulthandler.dump_traceback_later(TOTAL_S, exit=True)

    rest = Rest(args.http)
    asset = next(asset for asset in rest.get("/assets") if asset["max_mw"] > asset["min_mw"])
    link = Link(args.grpc)
    telemetry_log = str(uuid.uuid4())
    reports = ReportLog(link, asset["id"])
    registered = register(link, asset, telemetry_log, reports.log_id)
    telemetry(link, rest, asset, telemetry_log)
    dispatch(link, rest, reports, asset, registered.epoch)
    leave(link, rest, asset)
    print(f"an agent in Python served {asset['name']}")


if __name__ == "__main__":
    main()
