"""Restores a backup in the format of convoy 0.5, by the rules of that format and nothing else.

    reader_of_0_5.py STORE VOLUME BACKUP TARGET

It shares no code with convoy, needs only Python's own library, and fails at whatever 0.5 would not have understood.
"""

import gzip
import hashlib
import json
import os
import sys
import tarfile

BLOCK = 2 << 20


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def directory(store, volume):
    padded = volume.ljust(4, "!")
    return os.path.join(store, "convoy-objectstore/volumes", padded[0:2], padded[2:4], padded)


def restore_blocks(home, config, record, target):
    assert config["Size"] % BLOCK == 0, "the size is no multiple of 2 MiB"
    offsets = [block["Offset"] for block in record["Blocks"]]
    assert offsets == sorted(set(offsets)), "the blocks are not in order"
    with open(target, "wb") as device:
        device.truncate(config["Size"])
        for block in record["Blocks"]:
            offset, checksum = block["Offset"], block["BlockChecksum"]
            assert offset % BLOCK == 0 and offset + BLOCK <= config["Size"], offset
            assert len(checksum) == 64, checksum
            path = os.path.join(home, "blocks", checksum[0:2], checksum[2:4], checksum + ".blk")
            with gzip.open(path) as file:
                data = file.read()
            assert len(data) == BLOCK, f"a block of {len(data)} bytes"
            assert hashlib.sha512(data).hexdigest()[:64] == checksum, "a block is not what its name says"
            device.seek(offset)
            device.write(data)


def restore_file(store, path, target):
    assert not path.startswith("/"), path
    with tarfile.open(os.path.join(store, path), "r:gz") as archive:
        archive.extractall(target, numeric_owner=True)
        # The module sets no times of symbolic links.
        for member in archive:
            if member.issym():
                link = os.path.join(target, member.name)
                os.utime(link, (member.mtime, member.mtime), follow_symlinks=False)


def main(store, volume, backup, target):
    home = directory(store, volume)
    config = load(os.path.join(home, "volume.cfg"))
    for key, kind in [("Name", str), ("Driver", str), ("Size", int), ("CreatedTime", str), ("LastBackupName", str)]:
        assert isinstance(config[key], kind), key
    assert config["Name"] == volume
    record = load(os.path.join(home, "backups", f"backup_{backup}.cfg"))
    for key in ["Name", "Driver", "VolumeName", "SnapshotName", "SnapshotCreatedAt", "CreatedTime"]:
        assert isinstance(record[key], str), key
    assert (record["Name"], record["VolumeName"]) == (backup, volume)
    path = record["SingleFile"]["FilePath"]
    if path:
        restore_file(store, path, target)
    else:
        # An increment is made over this one.
        load(os.path.join(home, "backups", f"backup_{config['LastBackupName']}.cfg"))
        restore_blocks(home, config, record, target)


main(*sys.argv[1:])
