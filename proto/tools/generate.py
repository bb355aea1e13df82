#!/usr/bin/env python3
"""Makes the C code of the slices. usage: generate.py PROTO_FOLDER GEN_FOLDER

Writes GEN/<path>.pb-c.{c,h} with protobuf-c and GEN/proto/tables.c. protobuf-c sees a copy of the descriptors without
options: they would only pull in more files, and `deprecated` would become compiler warnings. Files that would not change
keep their time, so that little is compiled again.
"""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import descriptors
import gen_tables

F = descriptors.descriptor_pb2.FieldDescriptorProto
SCALARS = set(range(1, 19)) - {F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_MESSAGE, F.TYPE_GROUP}


def stripped(files):
    """The descriptors without our options."""
    out = descriptors.descriptor_pb2.FileDescriptorSet()
    for file in files.file:
        if file.name in descriptors.OPTION_FILES:
            continue
        new = out.file.add()
        new.CopyFrom(file)
        new.ClearField("options")
        keep = [d for d in file.dependency if d not in descriptors.OPTION_FILES]
        del new.dependency[:], new.extension[:]
        new.dependency.extend(keep)
        for name, enum in descriptors.enums(new):
            for value in enum.value:
                value.ClearField("options")
        for name, message in descriptors.messages(new):
            strip_message(message)
    return out


def strip_message(message):
    for oneof in message.oneof_decl:
        oneof.ClearField("options")
    for field in message.field:
        field.ClearField("options")
        if field.label == F.LABEL_REPEATED and field.type in SCALARS:
            field.options.packed = True  # protobuf-c does not know proto3's default


def write(path, text):
    """Writes only what changes."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def tamed(text):
    """Without what our warnings (-Wswitch-enum, -Wcast-qual) refuse in every user of the headers."""
    # A made-up enum value forces the size of int; gcc needs no force.
    text = re.sub(r"\n *PROTOBUF_C__FORCE_ENUM_TO_BE_INT_SIZE\(\w+\)", "", text)
    return text.replace("(char *)protobuf_c_empty_string", "(char *)(uintptr_t)protobuf_c_empty_string")


def main():
    root, gen = sys.argv[1], sys.argv[2]
    work = os.path.join(gen, "work")
    files, support, validate = descriptors.load(root, work)
    write(os.path.join(gen, "proto", "tables.c"), gen_tables.Tables(files, support, validate).text())
    small, fresh = stripped(files), os.path.join(work, "c")
    bare = os.path.join(work, "bare.desc")
    with open(bare, "wb") as out:
        out.write(small.SerializeToString())
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    names = [file.name for file in small.file]
    descriptors.run("protoc", f"--descriptor_set_in={bare}", f"--c_out={fresh}", *names)
    for name in names:
        for end in (".pb-c.c", ".pb-c.h"):
            path = name[:-len(".proto")] + end
            with open(os.path.join(fresh, path), encoding="utf-8") as file:
                text = file.read()
            write(os.path.join(gen, path), tamed(text))


main()
