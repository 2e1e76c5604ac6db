#!/usr/bin/env python3
"""A driver of directories that tells one lie, named by LIAR_LIE; without one it is honest."""
import json, os, re, shutil, socket, sys

LIE = os.environ.get("LIAR_LIE", "")
sock = socket.socket(fileno=int(os.environ["CONVOY_DRIVER_FD"]))
state = {"greeted": False, "root": None, "memory": {}}
TIME = "2026-11-23T08:38:07Z"


class Refused(Exception):
    def __init__(self, kind, message):
        self.data = {"kind": kind, "message": message, "retryable": False}


def send(message):
    sock.sendall((json.dumps(dict(jsonrpc="2.0", **message)) + "\n").encode())


def checked(name):
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}", name):
        raise Refused("invalid_argument", f"{name!r} is no name")
    return name


def path(name):
    return os.path.join(state["root"], "volumes", checked(name))


def there(name):
    if name not in state["memory"] and not (LIE != "forgetful" and os.path.isdir(path(name))):
        raise Refused("not_found", f"there is no volume {checked(name)}")


def volume(name):
    return {"name": name, "size": 0, "created": TIME, "info": {}, "snapshots": [], "health": "good"}


def sync(directory):
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def describe(_):
    options = [{"name": "liar.token", "help": "a secret", "required": False, "secret": True}]
    return {"name": "liar", "version": "1", "protocol": "1.0", "capabilities": [], "options": options, "create_options": []}


def opened(request):
    unknown = [name for name in request.get("options", {}) if name != "liar.token"]
    if unknown:
        raise Refused("invalid_argument", f"unknown option {unknown[0]}")
    if LIE == "talkative":
        print("my token is", request["options"].get("liar.token"), flush=True)
    state["root"] = request["root"]
    volumes = os.path.join(state["root"], "volumes")
    os.makedirs(volumes, exist_ok=True)
    for left in os.listdir(volumes):
        if left.startswith(".") and LIE != "untidy":
            shutil.rmtree(os.path.join(volumes, left))
    return {"recovered": [], "warnings": []}


def create(request):
    name = request["name"]
    if request.get("options"):
        raise Refused("invalid_argument", f"unknown option {list(request['options'])[0]}")
    if os.path.isdir(path(name)):
        raise Refused("already_exists", f"the volume {name} exists")
    os.mkdir(path(name))
    sync(os.path.dirname(path(name)))
    state["memory"][name] = True
    return volume(name)


def delete(request):
    name = request["name"]
    there(name)
    if request.get("reference_only"):
        raise Refused("unsupported", "data is not kept")
    doomed = os.path.join(state["root"], "volumes", "." + name)
    os.rename(path(name), doomed)
    sync(os.path.dirname(doomed))
    shutil.rmtree(doomed)
    state["memory"].pop(name, None)
    return {}


def mount(request):
    if request.get("mountpoint"):
        raise Refused("unsupported", "a mountpoint of the caller's choice")
    there(request["name"])
    return {"mountpoint": path(request["name"])}


def unmount(request):
    there(request["name"])
    return {}


def get(request):
    there(request["name"])
    return volume(request["name"])


def listed(request):
    all_names = list(state["memory"]) if LIE == "forgetful" else os.listdir(os.path.join(state["root"], "volumes"))
    names = sorted(n for n in all_names if not n.startswith(".") and n > (request.get("after") or ""))
    limit = request.get("limit") or len(names)
    return {"volumes": [volume(name) for name in names[:limit]], "more": len(names) > limit}


METHODS = {
    "driver.describe": describe, "driver.open": opened, "driver.info": lambda _: {"info": {}},
    "driver.probe": lambda _: {"healthy": True}, "driver.close": lambda _: {}, "volume.create": create,
    "volume.delete": delete, "volume.mount": mount, "volume.unmount": unmount, "volume.get": get, "volume.list": listed,
}


def answer(message):
    method, params = message["method"], message.get("params") or {}
    if method == "hello":
        if not params["version"].startswith("1."):
            raise Refused("unsupported", "expected version 1.x")
        state["greeted"] = True
        return {"protocol": "convoy-driver", "version": "1.0", "features": ["goodbye"], "software": "liar 1"}
    if not state["greeted"] and LIE != "rude":
        raise Refused("unavailable", "expected hello first")
    if method not in METHODS:
        raise Refused("internal" if LIE == "unhelpful" else "unsupported", f"no method {method}")
    if state["root"] is None and method not in ("driver.describe", "driver.open", "driver.probe"):
        raise Refused("unavailable", "the driver is not open")
    return METHODS[method](params["request"])


for line in sock.makefile():
    message = json.loads(line)
    if message.get("method") == "goodbye" and LIE != "clinging":
        sys.exit(3 if LIE == "sulking" else 0)
    if "id" not in message:
        continue
    try:
        send({"id": message["id"], "result": answer(message)})
    except Refused as refused:
        code = 0 if LIE == "codeless" else -32000
        send({"id": message["id"], "error": {"code": code, "message": refused.data["message"], "data": refused.data}})
if LIE == "clinging":
    import time
    time.sleep(60)
