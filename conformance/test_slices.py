"""Our slices against the published descriptors (PyPI xds-protos): nothing renamed, renumbered, retyped or left out.

Runs under pytest with a Python that has xds-protos; without it the module is skipped, which ./dev test counts aloud.
"""
import importlib
import os
import pkgutil
import subprocess

import pytest

pytest.importorskip("envoy.config.core.v3.base_pb2", reason="xds-protos is not installed")

from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: E402

F = descriptor_pb2.FieldDescriptorProto
SLICES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "proto")
OURS_ALONE = ("skiff/", "validate/", "istio/")  # Istio publishes no descriptors
WELL_KNOWN = "any duration empty field_mask struct timestamp wrappers descriptor".split()


def import_published():
    """Every published module, so that the default pool knows every type."""
    for root in ("envoy", "xds", "udpa", "validate", "google.rpc"):
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, root + "."):
            if module.name.endswith("_pb2"):
                try:
                    importlib.import_module(module.name)
                except Exception:  # pylint: disable=broad-except
                    pass  # its own imports are not published; a slice that needs it fails below
    return descriptor_pool.Default()


def read_slices(folder):
    """The FileDescriptorSet of our slices."""
    known = descriptor_pb2.FileDescriptorSet()
    for name in WELL_KNOWN:
        importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(known.file.add())
    (folder / "known.desc").write_bytes(known.SerializeToString())
    names = [os.path.relpath(os.path.join(at, n), SLICES) for at, _, ns in os.walk(SLICES) for n in ns
             if n.endswith(".proto")]
    subprocess.run(["protoc", f"--descriptor_set_in={folder / 'known.desc'}", f"-I{SLICES}", "-o",
                    str(folder / "slices.desc"), *names], check=True)
    return descriptor_pb2.FileDescriptorSet.FromString((folder / "slices.desc").read_bytes())


def walk(prefix, messages):
    for message in messages:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from walk(name, message.nested_type)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    pool = import_published()  # first: it teaches the parser the rules' extension
    files = read_slices(tmp_path_factory.mktemp("slices"))
    return pool, [f for f in files.file if not f.name.startswith(OURS_ALONE)]


def published_message(pool, name):
    proto = descriptor_pb2.DescriptorProto()
    pool.FindMessageTypeByName(name).CopyToProto(proto)
    return proto


def type_of(field):
    return (field.type, field.type_name) if field.type_name else (field.type, None)


def compare_field(pool, where, ours, theirs):
    """What differs between two FieldDescriptorProtos of one number."""
    out = []
    for part in ("name", "label"):
        if getattr(ours, part) != getattr(theirs, part):
            out.append(f"{where}: {part} {getattr(ours, part)} is {getattr(theirs, part)} upstream")
    left_out = ours.type_name == ".skiff.Unsupported" and theirs.type == F.TYPE_MESSAGE
    if type_of(ours) != type_of(theirs) and not left_out:
        out.append(f"{where}: type {type_of(ours)} is {type_of(theirs)} upstream")
    if ours.options.deprecated != theirs.options.deprecated:
        out.append(f"{where}: deprecated differs")
    rules = pool.FindExtensionByName("validate.rules")
    if ours.options.Extensions[rules] != theirs.options.Extensions[rules]:
        out.append(f"{where}: rules differ")
    return out


def oneofs(message):
    """The sets of numbers that exclude each other; a proto3 `optional` is our oneof of one."""
    groups = {}
    for field in message.field:
        if field.HasField("oneof_index"):
            groups.setdefault(field.oneof_index, set()).add(field.number)
    return sorted(map(sorted, groups.values()))


def compare_message(pool, name, ours):
    theirs = published_message(pool, name)
    mine, upstream = ({f.number: f for f in m.field} for m in (ours, theirs))
    out = [f"{name}: field {upstream[n].name} = {n} is missing" for n in upstream.keys() - mine.keys()]
    out += [f"{name}: field {mine[n].name} = {n} does not exist upstream" for n in mine.keys() - upstream.keys()]
    for number in mine.keys() & upstream.keys():
        out += compare_field(pool, f"{name}.{upstream[number].name}", mine[number], upstream[number])
    if not out and oneofs(ours) != oneofs(theirs):
        out.append(f"{name}: oneofs differ")
    required = pool.FindExtensionByName("validate.required")
    if not out and (sum(o.options.Extensions[required] for o in ours.oneof_decl)
                    != sum(o.options.Extensions[required] for o in theirs.oneof_decl)):
        out.append(f"{name}: required oneofs differ")
    return out


def declares_fields(pool, name, ours):
    """A message that only houses nested ones that we use may be empty here."""
    return ours.field or not published_message(pool, name).field


def test_every_message_is_whole(world):
    pool, files = world
    wrong, houses = [], []
    for file in files:
        for name, message in walk(file.package, file.message_type):
            if declares_fields(pool, name, message):
                wrong += compare_message(pool, name, message)
            else:
                houses.append(name)
    assert not wrong, "\n".join(wrong)
    used = {f.type_name[1:] for file in files for _, m in walk(file.package, file.message_type) for f in m.field}
    assert not used & set(houses), "a message without fields is used as a type"


def test_every_enum_is_whole(world):
    pool, files = world
    wrong = []
    for file in files:
        found = [(f"{file.package}.{e.name}", e) for e in file.enum_type]
        for name, message in walk(file.package, file.message_type):
            found += [(f"{name}.{e.name}", e) for e in message.enum_type]
        for name, enum in found:
            theirs = {(v.name, v.number) for v in pool.FindEnumTypeByName(name).values}
            mine = {(v.name, v.number) for v in enum.value}
            if mine != theirs:
                wrong.append(f"{name}: {sorted(mine ^ theirs)}")
    assert not wrong, "\n".join(wrong)


def test_paths_and_packages_are_upstreams(world):
    pool, files = world
    for file in files:
        theirs = pool.FindFileByName(file.name)
        assert theirs.package == file.package
        for name, _ in walk(file.package, file.message_type):
            assert pool.FindMessageTypeByName(name).file.name == file.name
