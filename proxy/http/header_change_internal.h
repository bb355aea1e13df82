/* Inside of struct header_change, for its translation. */
#pragma once
#include "proxy/api/format.h"
#include "proxy/api/header_change.h"
#include "proxy/api/matcher.h"

enum header_append {
    HEADER_APPEND_OR_ADD,
    HEADER_ADD_IF_ABSENT,
    HEADER_OVERWRITE_OR_ADD,
    HEADER_OVERWRITE_IF_EXISTS
}; /* numbers of HeaderValueOption.HeaderAppendAction */
enum header_op_kind { HEADER_OP_REMOVE, HEADER_OP_REMOVE_MATCH, HEADER_OP_ADD };
struct header_op {
    enum header_op_kind kind;
    struct str name; /* lower case */
    enum header_append append;
    bool keep_empty;
    struct str literal;          /* value as configured */
    const struct format *format; /* NULL: literal */
    struct string_matcher match; /* HEADER_OP_REMOVE_MATCH: names */
};
struct header_change {
    struct header_op *ops; /* unless `ordered`, removals come first */
    size_t count;
    bool ordered; /* HeaderMutation: each sees what those before it did */
};
