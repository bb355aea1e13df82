"""Writes gen/proto/tables.c: the registry of types, and what protobuf-c's descriptors leave out of each field."""
from google.protobuf import descriptor_pb2

import descriptors

F = descriptor_pb2.FieldDescriptorProto
KINDS = {"google.protobuf.Any": "ANY", "google.protobuf.Duration": "DURATION", "google.protobuf.Timestamp": "TIMESTAMP",
         "google.protobuf.Struct": "STRUCT", "google.protobuf.Value": "VALUE", "google.protobuf.ListValue": "LIST_VALUE",
         "google.protobuf.Empty": "EMPTY", "google.protobuf.FieldMask": "FIELD_MASK",
         "xds.type.v3.TypedStruct": "TYPED_STRUCT", "udpa.type.v1.TypedStruct": "TYPED_STRUCT",
         "skiff.Unsupported": "UNSUPPORTED"}
KINDS.update({f"google.protobuf.{t}Value": "WRAPPER" for t in
              "Bool Bytes Double Float Int32 Int64 String UInt32 UInt64".split()})
SIGNED = ("int32", "int64")
UNSIGNED = ("uint32", "uint64")


def quote(text):
    """A C string literal."""
    if text is None:
        return "NULL"
    out = ""
    for byte in text.encode():
        out += chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else "\\%03o" % byte
    return f'"{out}"'


class Tables:
    """Collects the C text. Rules are numbered; equal ones are shared."""

    def __init__(self, files, support, validate):
        self.files, self.support, self.validate = files, support, validate
        self.lines, self.rules, self.types = [], {}, {}
        self.marks = []
        for file in files.file:
            if file.name in descriptors.OPTION_FILES:
                continue
            self.types.update(descriptors.messages(file))
            for name, enum in descriptors.enums(file):
                self.marks += self.enum_marks(name, enum)
        self.marked = {mark[0] for mark in self.marks}

    def enum_marks(self, name, enum):
        for value in enum.value:
            refused = value.options.Extensions[self.support.value].refused
            if refused or value.options.deprecated:
                yield (name, value.number, int(value.options.deprecated), int(refused))

    def rule(self, rules):
        """The C expression for a FieldRules (NULL when it asks for nothing)."""
        flags, members = [], []
        if rules.HasField("message"):
            flags += ["REQUIRED"] * rules.message.required + ["SKIP"] * rules.message.skip
        kind = rules.WhichOneof("type") if rules.DESCRIPTOR.oneofs else None
        for name in [f.name for f, _ in rules.ListFields() if f.name != "message"]:
            kind = name
        if kind is not None:
            self.typed_rule(kind, getattr(rules, kind), flags, members)
        if not flags and not members:
            return "NULL"
        text = ", ".join([".flags = " + (" | ".join("RULE_" + f for f in flags) or "0")] + members)
        if text not in self.rules:
            self.rules[text] = f"rules_{len(self.rules)}"
            self.lines.append(f"static const struct proto_rules {self.rules[text]} = {{{text}}};")
        return "&" + self.rules[text]

    def typed_rule(self, kind, rule, flags, members):
        for field, value in rule.ListFields():
            name = field.name
            if name in ("gt", "gte", "lt", "lte"):
                flags.append(name.upper())
                members.append(f".{'low' if name[0] == 'g' else 'high'}{self.number(kind, value)}")
            elif name in ("min_len", "max_len"):
                flags.append(name.upper())
                members.append(f".{name} = {value}")
            elif name == "max_bytes":
                flags.append("MAX_BYTES")
                members.append(f".max_bytes = {value}")
            elif name in ("min_items", "max_items", "min_pairs"):
                flags.append("MIN_ITEMS" if name.startswith("min") else "MAX_ITEMS")
                members.append(f".{'min_len' if name.startswith('min') else 'max_len'} = {value}")
            elif name in ("required", "unique", "ignore_empty", "defined_only"):
                flags.extend([name.upper()] * bool(value))
            elif name == "const" and kind == "bool":
                flags.append("CONST")
                members.append(f".low = {{.u = {int(value)}}}")
            elif name in ("pattern", "prefix", "suffix"):
                members.append(f".{name} = {quote(value)}")
            elif name == "in" and kind == "string":
                values = ", ".join(quote(v) for v in value)
                members.append(f".in = (const char *const[]){{{values}, NULL}}")
            elif name == "not_in" and kind == "enum":
                members.append(f".not_in = (const int32_t[]){{{', '.join(map(str, value))}}}")
                members.append(f".not_in_count = {len(value)}")
            elif name in ("items", "values", "keys"):
                members.append(f".{'keys' if name == 'keys' else 'items'} = {self.rule(value)}")
            elif name == "well_known_regex":
                flags.append("HEADER_NAME" if value == 1 else "HEADER_VALUE")
                flags.extend(["LOOSE"] * (rule.HasField("strict") and not rule.strict))
            elif name != "strict":
                raise SystemExit(f"gen_tables.py: rule {kind}.{name} is not known; teach it and validate.c")

    def number(self, kind, value):
        if kind == "duration":
            return f" = {{.i = {value.seconds * 10**9 + value.nanos}LL}}"
        if kind in SIGNED:
            return f" = {{.i = {value}LL}}"
        if kind in UNSIGNED:
            return f" = {{.u = {value}ULL}}"
        return f" = {{.d = {value!r}}}"

    def field(self, message, field):
        """One initializer of struct proto_field."""
        options = field.options
        mine = options.Extensions[self.support.field]
        out = [f".json_name = {quote(field.json_name or camel(field.name))}"]
        rules = self.rule(options.Extensions[self.validate.rules])
        if rules != "NULL":
            out.append(f".rules = {rules}")
        if field.type == F.TYPE_MESSAGE:
            name = field.type_name[1:]
            out.append(f".type = &{symbol(name)}")
            if self.types[name].options.map_entry:
                out.append(".map = true")
        if mine.ignored:
            out += [".verdict = PROTO_IGNORED", f".reason = {quote(mine.ignored)}"]
        elif mine.refused:
            out.append(".verdict = PROTO_REFUSED")
        repeated = field.label == F.LABEL_REPEATED
        members = sum(1 for f in message.field if f.HasField("oneof_index") and f.oneof_index == field.oneof_index)
        in_oneof = field.HasField("oneof_index")
        facts = {"deprecated": options.deprecated, "oneof": in_oneof and members > 1, "sensitive": mine.sensitive,
                 "presence": not repeated and (in_oneof or field.type == F.TYPE_MESSAGE),
                 "enum_marked": field.type == F.TYPE_ENUM and field.type_name[1:] in self.marked}
        out += [f".{name} = true" for name, value in facts.items() if value]
        return "{" + ", ".join(out) + "}"

    def message(self, name, message):
        fields = sorted(message.field, key=lambda f: f.number)
        rows = [self.field(message, f) for f in fields]
        ident = symbol(name)
        required = []
        for index, oneof in enumerate(message.oneof_decl):
            if oneof.options.Extensions[self.validate.required]:
                first = next(i for i, f in enumerate(fields) if f.HasField("oneof_index") and f.oneof_index == index)
                required.append(f"{{.name = {quote(oneof.name)}, .first = {first}}}")
        if rows:
            self.lines.append(f"static const struct proto_field {ident}_fields[] = {{")
            self.lines += [f"    {row}, /* {f.name} */" for row, f in zip(rows, fields)] + ["};"]
        if required:
            self.lines.append(f"static const struct proto_required {ident}_required[] = {{{', '.join(required)}}};")
        out = [f".name = {quote(name)}", f".desc = &{descriptors.lower(name)}__descriptor",
               f".fields = {ident}_fields" if rows else ".fields = NULL"]
        if required:
            out += [f".required = {ident}_required", f".required_count = {len(required)}"]
        kind = "MAP_ENTRY" if message.options.map_entry else KINDS.get(name, "PLAIN")
        out += [f".kind = PROTO_KIND_{kind}"]
        out += [".deprecated = true"] * message.options.deprecated
        out += [".has_rules = true"] * (name in self.with_rules) + [".has_verdicts = true"] * (name in self.with_verdicts)
        self.lines.append(f"const struct proto_type {ident} = {{{', '.join(out)}}};")

    def closure(self, direct):
        """The types that satisfy `direct` or reach one that does."""
        found = {n for n, m in self.types.items() if direct(m)}
        grown = True
        while grown:
            more = {n for n, m in self.types.items() if n not in found
                    and any(f.type == F.TYPE_MESSAGE and f.type_name[1:] in found for f in m.field)}
            found |= more
            grown = bool(more)
        return found

    def has_rules(self, message):
        return (any(f.options.HasExtension(self.validate.rules) for f in message.field)
                or any(o.options.Extensions[self.validate.required] for o in message.oneof_decl))

    def has_verdicts(self, message):
        return any(f.options.HasExtension(self.support.field) or f.options.deprecated
                   or (f.type == F.TYPE_ENUM and f.type_name[1:] in self.marked) for f in message.field)

    def text(self):
        self.with_rules, self.with_verdicts = self.closure(self.has_rules), self.closure(self.has_verdicts)
        names = sorted(self.types)
        head = ["/* Generated by proto/tools/gen_tables.py from the slices; do not edit. */",
                '#include "proto/proto.h"', '#include "proto/rules.h"', ""]
        head += [f"extern const ProtobufCMessageDescriptor {descriptors.lower(n)}__descriptor;" for n in names]
        head += [f"extern const struct proto_type {symbol(n)};" for n in names]
        for name in names:
            self.message(name, self.types[name])
        tail = ["const struct proto_type *const proto_type_table[] = {"] + [f"    &{symbol(n)}," for n in names]
        tail += ["};", f"const size_t proto_type_table_count = {len(names)};"]
        tail.append("const struct proto_enum_mark proto_enum_marks[] = {")
        tail += ["    {%s, %d, %d, %d}," % (quote(n), v, d, r) for n, v, d, r in self.marks]
        tail += ["    {NULL, 0, 0, 0},", "};", f"const size_t proto_enum_mark_count = {len(self.marks)};", ""]
        return "\n".join(head + self.lines + tail)


def camel(name):
    """lowerCamelCase as protoc makes JSON names."""
    out, up = "", False
    for char in name:
        if char == "_":
            up = True
        else:
            out, up = out + (char.upper() if up else char), False
    return out


def symbol(name):
    return "proto_type__" + descriptors.lower(name)
