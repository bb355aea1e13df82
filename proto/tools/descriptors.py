"""Reads the slices: runs protoc and gives back their descriptors with our options parsed."""
import importlib
import os
import subprocess
import sys

from google.protobuf import descriptor_pb2

WELL_KNOWN = "any duration empty field_mask struct timestamp wrappers".split()
# Files that carry options only: no message of theirs is ever on the wire.
OPTION_FILES = ("google/protobuf/descriptor.proto", "validate/validate.proto", "skiff/support.proto")


def run(*command):
    """Runs a tool; its words on stderr are the error."""
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"failed: {' '.join(command[:4])} …")


def slices(root):
    """All .proto files below the root, as protoc names them."""
    found = []
    for folder, _, names in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, n), root) for n in names if n.endswith(".proto")]
    return sorted(found)


def write_well_known(path):
    """protoc needs the google.protobuf files; Debian's Python runtime carries their descriptors."""
    out = descriptor_pb2.FileDescriptorSet()
    for name in WELL_KNOWN + ["descriptor"]:
        module = importlib.import_module(f"google.protobuf.{name}_pb2")
        module.DESCRIPTOR.CopyToProto(out.file.add())
    with open(path, "wb") as file:
        file.write(out.SerializeToString())


def load(root, work):
    """The FileDescriptorSet of the slices below `root`, plus our option modules. `work` is for scratch files."""
    os.makedirs(work, exist_ok=True)
    known, result = os.path.join(work, "wellknown.desc"), os.path.join(work, "slices.desc")
    write_well_known(known)
    common = ["protoc", f"--descriptor_set_in={known}", f"-I{root}"]
    well_known = [f"google/protobuf/{name}.proto" for name in WELL_KNOWN]
    run(*common, "--include_imports", "-o", result, *slices(root), *well_known)
    run(*common, f"--python_out={work}", "skiff/support.proto", "validate/validate.proto")
    sys.path.insert(0, work)
    # Importing them first makes the options of the set below parse as extensions.
    support = importlib.import_module("skiff.support_pb2")
    validate = importlib.import_module("validate.validate_pb2")
    files = descriptor_pb2.FileDescriptorSet()
    with open(result, "rb") as file:
        files.ParseFromString(file.read())
    return files, support, validate


def lower(full_name):
    """The name of a message's C symbols as protobuf-c makes them: a.v3.FooBar -> a__v3__foo_bar."""
    parts = []
    for part in full_name.split("."):
        out, was_upper = "", True
        for char in part:
            if char.isupper() and not was_upper:
                out += "_"
            out += char.lower()
            was_upper = char.isupper()
        parts.append(out)
    return "__".join(parts)


def messages(file):
    """(full name, DescriptorProto) of every message of a file, map entries included."""
    def walk(prefix, message):
        name = f"{prefix}.{message.name}"
        yield name, message
        for nested in message.nested_type:
            yield from walk(name, nested)
    for message in file.message_type:
        yield from walk(file.package, message)


def enums(file):
    """(full name, EnumDescriptorProto) of every enum of a file."""
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}", enum
    for name, message in messages(file):
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum
