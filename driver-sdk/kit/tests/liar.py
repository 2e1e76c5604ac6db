#!/usr/bin/env python3
"""A driver of directories that tells one lie, named by LIAR_LIE; without one it is honest.

Whatever takes more than one step is made beside its place and renamed into it. "hasty METHOD" makes it in its
place instead, slowly, and tidies nothing up: what a kill leaves half done is then taken for whole.

    ROOT/volumes/NAME/data               what is mounted
    ROOT/volumes/NAME/snapshots/NAME     data, and an id
    ROOT/backups/ID                      data, and what it is of
    ROOT/restores/HANDLE                 a volume to be
"""
import ctypes, json, os, re, shutil, socket, subprocess, sys, time, uuid

LIE = os.environ.get("LIAR_LIE", "")
SIZED = LIE in ("sized", "hasty volume.resize")
NAP = 0.5
TIME = "2026-11-23T08:38:07Z"
sock = socket.socket(fileno=int(os.environ["CONVOY_DRIVER_FD"]))
state = {"greeted": False, "root": None, "memory": set(), "open": {}, "finished": {}}


class Refused(Exception):
    def __init__(self, kind, message):
        self.data = {"kind": kind, "message": message, "retryable": False}


def send(message):
    sock.sendall((json.dumps(dict(jsonrpc="2.0", **message)) + "\n").encode())


def checked(name):
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}", name):
        raise Refused("invalid_argument", f"{name!r} is no name")
    return name


def under(*parts):
    return os.path.join(state["root"], *parts)


def path(name, *parts):
    return under("volumes", checked(name), *parts)


def visible(*parts):
    return sorted(name for name in os.listdir(under(*parts)) if not name.startswith("."))


def names():
    return sorted(state["memory"]) if LIE == "forgetful" else visible("volumes")


def there(name):
    if checked(name) not in names():
        raise Refused("not_found", f"there is no volume {name}")
    return name


def free(name):
    if os.path.isdir(path(name)):
        raise Refused("already_exists", f"the volume {name} exists")
    return name


def snapshot_path(volume, snapshot):
    found = path(there(volume), "snapshots", checked(snapshot))
    if not os.path.isdir(found):
        raise Refused("not_found", f"there is no snapshot {snapshot} of {volume}")
    return found


def no_options(request):
    unknown = [name for name in request.get("options", {}) if name not in ("backup", "path")]
    if unknown:
        raise Refused("invalid_argument", f"unknown option {unknown[0]}")


def read(*parts):
    try:
        with open(os.path.join(*parts)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(text, *parts):
    with open(os.path.join(*parts), "w") as file:
        file.write(str(text))


def sync(directory):
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


PR_SET_PDEATHSIG, SIGKILL = 1, 9
libc = ctypes.CDLL(None)


def copy(source, target):
    # What it has begun ends with it: its next life tidies up there.
    subprocess.run(["cp", "-a", "--", source, target], check=True, stderr=subprocess.DEVNULL,
                   preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, SIGKILL))


def hasty(method):
    return LIE == f"hasty {method}"


def build(method, place, fill):
    """Makes a directory, whole or not at all."""
    if hasty(method):
        os.mkdir(place)
        time.sleep(NAP)
        return fill(place)
    directory, name = os.path.split(place)
    aside = os.path.join(directory, "." + name)
    if LIE == "untidy":
        aside += uuid.uuid4().hex
    os.mkdir(aside)
    time.sleep(NAP if LIE == "untidy" else 0)
    fill(aside)
    os.rename(aside, place)
    sync(directory)


def unmake(method, place):
    """Removes a directory, whole or not at all."""
    directory, name = os.path.split(place)
    if hasty(method):
        shutil.rmtree(os.path.join(place, "data"))
        time.sleep(NAP)
        return shutil.rmtree(place)
    aside = os.path.join(directory, "." + name)
    os.rename(place, aside)
    sync(directory)
    shutil.rmtree(aside)


def shuffle(method, data):
    """In haste, takes the data away for a moment."""
    if hasty(method):
        os.makedirs(data, exist_ok=True)
        away = os.path.join(os.path.dirname(data), f".away-{time.time_ns()}")
        os.rename(data, away)
        time.sleep(NAP)
        os.rename(away, data)


def filled(data=None, size=None, adopted=None):
    """What a new volume has in it: its own data, or what it adopts, which it has by a link."""
    def fill(place):
        if adopted:
            os.symlink(adopted, os.path.join(place, "data"))
        else:
            copy(data, os.path.join(place, "data")) if data else os.mkdir(os.path.join(place, "data"))
        os.mkdir(os.path.join(place, "snapshots"))
        write((size or 64 << 20) if SIZED else 0, place, "size")
    return fill


def snapshot(volume, name):
    return {"name": name, "volume": volume, "created": TIME, "info": {}}


def volume(name):
    whole = os.path.isdir(path(name, "data"))
    taken = visible("volumes", name, "snapshots") if os.path.isdir(path(name, "snapshots")) else []
    return {"name": name, "size": int(read(path(name), "size") or 0), "created": TIME, "info": {},
            "snapshots": [snapshot(name, one) for one in taken],
            "health": "good" if whole else {"damaged": "it has no data"}}


def describe(_):
    options = [{"name": "liar.token", "help": "a secret", "required": False, "secret": True}]
    capabilities = ["snapshots", "read_tree", "restore_tree", "clone", "revert", "native_backup"]
    return {"name": "liar", "version": uuid.uuid4().hex if LIE == "fickle" else "1", "protocol": "1.1",
            "capabilities": capabilities + (["sized", "resize_offline"] if SIZED else []), "options": options,
            "create_options": [{"name": "path", "help": "a directory to adopt", "required": False, "secret": False}]}


def opened(request):
    unknown = [name for name in request.get("options", {}) if name != "liar.token"]
    if unknown and LIE != "careless":
        raise Refused("invalid_argument", f"unknown option {unknown[0]}")
    if LIE == "talkative":
        print("my token is", request["options"].get("liar.token"), flush=True)
    state["root"] = request["root"]
    for directory in ("volumes", "backups", "restores"):
        os.makedirs(under(directory), exist_ok=True)
    shutil.rmtree(under("restores"))
    os.mkdir(under("restores"))
    # A revert whose copy is whole is finished; everything else that was begun is undone.
    for name in visible("volumes"):
        if os.path.isdir(path(name, ".new")) and not os.path.isdir(path(name, "data")):
            os.rename(path(name, ".new"), path(name, "data"))
        tidy(path(name))
        tidy(path(name, "snapshots"))
        shuffle("driver.open", path(name, "data"))
    tidy(under("volumes"))
    tidy(under("backups"))
    return {"recovered": [], "warnings": []}


def tidy(directory):
    if LIE == "untidy":
        return
    for left in os.listdir(directory) if os.path.isdir(directory) else []:
        if left.startswith("."):
            shutil.rmtree(os.path.join(directory, left))


def create(request):
    no_options(request)
    name, url = free(request["name"]), request.get("options", {}).get("backup")
    data = os.path.join(backup_path(url), "data") if url is not None else None
    build("volume.create", path(name), filled(data, request.get("size"), request.get("options", {}).get("path")))
    kept = under("hoard", name)
    if os.path.isdir(kept):
        os.rmdir(path(name, "data"))
        os.rename(kept, path(name, "data"))
    state["memory"].add(name)
    return volume(name)


def delete(request):
    name = there(request["name"])
    if request.get("reference_only"):
        raise Refused("unsupported", "data is not kept")
    if name in [of for of, _ in state["open"].values()]:
        raise Refused("in_use", f"a snapshot of {name} is open")
    if LIE == "greedy":
        shutil.rmtree(os.path.realpath(path(name, "data")))
    if LIE == "hoarding":
        os.makedirs(under("hoard"), exist_ok=True)
        copy(path(name, "data"), under("hoard", name))
    unmake("volume.delete", path(name))
    state["memory"].discard(name)
    for backup in visible("backups") if LIE == "attached" else []:
        if json.loads(read(under("backups", backup), "of"))[0] == name:
            shutil.rmtree(under("backups", backup))
    return {}


def mount(request):
    if request.get("mountpoint"):
        raise Refused("unsupported", "a mountpoint of the caller's choice")
    data = path(there(request["name"]), "data")
    shuffle("volume.mount", data)
    if LIE.startswith("hasty"):
        os.makedirs(data, exist_ok=True)
    return {"mountpoint": data}


def unmount(request):
    shuffle("volume.unmount", path(there(request["name"]), "data"))
    return {}


def resize(request):
    if not SIZED:
        raise Refused("unsupported", "volumes have no size")
    name = there(request["name"])
    if hasty("volume.resize"):
        write(0, path(name), "size")
        time.sleep(NAP)
    write(max(request["size"], volume(name)["size"]), path(name), "new-size")
    os.rename(path(name, "new-size"), path(name, "size"))
    return volume(name)


def listed(request):
    after = [name for name in names() if name > (request.get("after") or "")]
    limit = request.get("limit", len(after))
    return {"volumes": [volume(name) for name in after[:limit]], "more": len(after) > limit}


def take(request):
    of, name = there(request["volume"]), checked(request["snapshot"])
    if os.path.isdir(path(of, "snapshots", name)):
        raise Refused("already_exists", f"the snapshot {name} exists")

    def fill(place):
        copy(path(of, "data"), os.path.join(place, "data"))
        write(uuid.uuid4().hex, place, "id")
    build("snapshot.create", path(of, "snapshots", name), fill)
    return snapshot(of, name)


def drop(request):
    place, which = snapshot_path(request["volume"], request["snapshot"]), (request["volume"], request["snapshot"])
    if which in state["open"].values() or os.path.exists(os.path.join(place, "open")):
        raise Refused("in_use", f"the snapshot {which[1]} is open")
    unmake("snapshot.delete", place)
    return {}


def get_snapshot(request):
    snapshot_path(request["volume"], request["snapshot"])
    return snapshot(request["volume"], request["snapshot"])


def open_snapshot(request):
    place, handle = snapshot_path(request["volume"], request["snapshot"]), uuid.uuid4().hex
    state["open"][handle] = (request["volume"], request["snapshot"])
    if hasty("snapshot.open"):
        write("", place, "open")
    return {"handle": handle, "location": {"kind": "tree", "path": os.path.join(place, "data")}}


def close(request):
    of = state["open"].pop(request["handle"], None)
    if of and hasty("snapshot.open"):
        os.remove(os.path.join(snapshot_path(*of), "open"))
    return {}


def clone(request):
    no_options(request)
    name, source = free(request["name"]), snapshot_path(request["source"], request["snapshot"])
    build("volume.clone", path(name), filled(os.path.join(source, "data"), request.get("size")))
    return volume(name)


def revert(request):
    name = there(request["name"])
    source, data = snapshot_path(name, request["snapshot"]), path(name, "data")
    if hasty("volume.revert"):
        shutil.rmtree(data)
        time.sleep(NAP)
        copy(os.path.join(source, "data"), data)
        return volume(name)
    copy(os.path.join(source, "data"), path(name, ".copy"))
    os.rename(path(name, ".copy"), path(name, ".new"))
    os.rename(data, path(name, ".old"))
    os.rename(path(name, ".new"), data)
    sync(path(name))
    shutil.rmtree(path(name, ".old"))
    return volume(name)


def prepare(request):
    no_options(request)
    if request["kind"] != "tree":
        raise Refused("unsupported", "devices are not restored")
    name, handle = free(request["name"]), uuid.uuid4().hex
    place = path(name) if hasty("restore.prepare") else under("restores", handle)
    build("restore.prepare", place, filled(size=request.get("size")))
    write(name, place, "name")
    return {"handle": handle, "location": {"kind": "tree", "path": os.path.join(place, "data")}}


def finish(request):
    handle = os.path.basename(request["handle"])
    if handle not in state["finished"]:
        name = read(under("restores", handle), "name")
        if not name:
            raise Refused("not_found", f"there is no restore {handle}")
        os.rename(under("restores", handle), path(free(name)))
        sync(under("volumes"))
        state["finished"][handle] = name
    return volume(there(state["finished"][handle]))


def abort(request):
    shutil.rmtree(under("restores", os.path.basename(request["handle"])), ignore_errors=True)
    return {}


def backup_path(url):
    if not re.fullmatch("liar://[0-9a-f]{32}", url):
        raise Refused("invalid_argument", f"expected the URL of a backup, liar://ID, found {url!r}")
    place = under("backups", url.removeprefix("liar://"))
    if not os.path.isdir(place):
        raise Refused("not_found", f"there is no backup {url}")
    return place


def back_up(request):
    no_options(request)
    of = snapshot_path(request["volume"], request["snapshot"])
    identity = read(of, "id")

    def fill(place):
        copy(os.path.join(of, "data"), os.path.join(place, "data"))
        write(json.dumps([request["volume"], request["snapshot"]]), place, "of")
    if not os.path.isdir(under("backups", identity)):
        build("backup.create", under("backups", identity), fill)
    return {"url": "liar://" + identity}


def delete_backup(request):
    try:
        unmake("backup.delete", backup_path(request["url"]))
    except Refused:
        if LIE != "obliging":
            raise
    return {}


def inspect_backup(request):
    of, snapshot = json.loads(read(backup_path(request["url"]), "of"))
    return {"url": request["url"], "volume": of, "snapshot": snapshot, "created": TIME}


def list_backups(request):
    backups = [inspect_backup({"url": "liar://" + identity}) for identity in visible("backups")]
    return {"backups": [backup for backup in backups if request.get("volume") in (None, backup["volume"])]}


METHODS = {
    "driver.describe": describe, "driver.open": opened, "driver.info": lambda _: {"info": {}},
    "driver.probe": lambda _: {"healthy": True}, "driver.close": lambda _: {}, "volume.create": create,
    "volume.delete": delete, "volume.mount": mount, "volume.unmount": unmount, "volume.list": listed,
    "volume.get": lambda request: volume(there(request["name"])), "volume.resize": resize, "volume.clone": clone,
    "volume.revert": revert, "snapshot.create": take, "snapshot.delete": drop, "snapshot.open": open_snapshot,
    "snapshot.list": lambda request: {"snapshots": volume(there(request["volume"]))["snapshots"]},
    "snapshot.get": get_snapshot,
    "snapshot.close": close, "restore.prepare": prepare, "restore.finish": finish, "restore.abort": abort,
    "backup.create": back_up, "backup.delete": delete_backup, "backup.inspect": inspect_backup,
    "backup.list": list_backups,
}


def answer(message):
    method, params = message["method"], message.get("params") or {}
    if method == "hello":
        if not params["version"].startswith("1."):
            raise Refused("unsupported", "expected version 1.x")
        state["greeted"] = True
        return {"protocol": "convoy-driver", "version": "1.1", "features": ["goodbye"], "software": "liar 1"}
    if not state["greeted"] and LIE != "rude":
        raise Refused("unavailable", "expected hello first")
    if method not in METHODS:
        raise Refused("internal" if LIE == "unhelpful" else "unsupported", f"no method {method}")
    if state["root"] is None and method not in ("driver.describe", "driver.open", "driver.probe"):
        raise Refused("unavailable", "the driver is not open")
    try:
        return METHODS[method](params["request"])
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Refused("internal", f"{method}: {error}")


seen = set()
for line in sock.makefile():
    message = json.loads(line)
    if message.get("method") == "goodbye":
        sys.exit(3 if LIE == "sulking" else 0)
    if "id" not in message or message["id"] in seen:
        continue
    if LIE != "repetitive":
        seen.add(message["id"])
    try:
        send({"id": message["id"], "result": answer(message)})
    except Refused as refused:
        code = 0 if LIE == "codeless" else -32000
        send({"id": message["id"], "error": {"code": code, "message": refused.data["message"], "data": refused.data}})
if LIE == "clinging":
    time.sleep(60)
