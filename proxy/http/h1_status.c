/* Reason phrases of status codes. */
#include "proxy/http/h1.h"

enum { STATUS_FIRST = 100, STATUS_END = 600 };

static const struct str status_texts[STATUS_END - STATUS_FIRST] = {
    [100 - STATUS_FIRST] = {"Continue", 8},
    [101 - STATUS_FIRST] = {"Switching Protocols", 19},
    [102 - STATUS_FIRST] = {"Processing", 10},
    [103 - STATUS_FIRST] = {"Early Hints", 11},
    [200 - STATUS_FIRST] = {"OK", 2},
    [201 - STATUS_FIRST] = {"Created", 7},
    [202 - STATUS_FIRST] = {"Accepted", 8},
    [203 - STATUS_FIRST] = {"Non-Authoritative Information", 29},
    [204 - STATUS_FIRST] = {"No Content", 10},
    [205 - STATUS_FIRST] = {"Reset Content", 13},
    [206 - STATUS_FIRST] = {"Partial Content", 15},
    [207 - STATUS_FIRST] = {"Multi-Status", 12},
    [208 - STATUS_FIRST] = {"Already Reported", 16},
    [226 - STATUS_FIRST] = {"IM Used", 7},
    [300 - STATUS_FIRST] = {"Multiple Choices", 16},
    [301 - STATUS_FIRST] = {"Moved Permanently", 17},
    [302 - STATUS_FIRST] = {"Found", 5},
    [303 - STATUS_FIRST] = {"See Other", 9},
    [304 - STATUS_FIRST] = {"Not Modified", 12},
    [305 - STATUS_FIRST] = {"Use Proxy", 9},
    [307 - STATUS_FIRST] = {"Temporary Redirect", 18},
    [308 - STATUS_FIRST] = {"Permanent Redirect", 18},
    [400 - STATUS_FIRST] = {"Bad Request", 11},
    [401 - STATUS_FIRST] = {"Unauthorized", 12},
    [402 - STATUS_FIRST] = {"Payment Required", 16},
    [403 - STATUS_FIRST] = {"Forbidden", 9},
    [404 - STATUS_FIRST] = {"Not Found", 9},
    [405 - STATUS_FIRST] = {"Method Not Allowed", 18},
    [406 - STATUS_FIRST] = {"Not Acceptable", 14},
    [407 - STATUS_FIRST] = {"Proxy Authentication Required", 29},
    [408 - STATUS_FIRST] = {"Request Timeout", 15},
    [409 - STATUS_FIRST] = {"Conflict", 8},
    [410 - STATUS_FIRST] = {"Gone", 4},
    [411 - STATUS_FIRST] = {"Length Required", 15},
    [412 - STATUS_FIRST] = {"Precondition Failed", 19},
    [413 - STATUS_FIRST] = {"Payload Too Large", 17},
    [414 - STATUS_FIRST] = {"URI Too Long", 12},
    [415 - STATUS_FIRST] = {"Unsupported Media Type", 22},
    [416 - STATUS_FIRST] = {"Range Not Satisfiable", 21},
    [417 - STATUS_FIRST] = {"Expectation Failed", 18},
    [421 - STATUS_FIRST] = {"Misdirected Request", 19},
    [422 - STATUS_FIRST] = {"Unprocessable Entity", 20},
    [423 - STATUS_FIRST] = {"Locked", 6},
    [424 - STATUS_FIRST] = {"Failed Dependency", 17},
    [425 - STATUS_FIRST] = {"Too Early", 9},
    [426 - STATUS_FIRST] = {"Upgrade Required", 16},
    [428 - STATUS_FIRST] = {"Precondition Required", 21},
    [429 - STATUS_FIRST] = {"Too Many Requests", 17},
    [431 - STATUS_FIRST] = {"Request Header Fields Too Large", 31},
    [500 - STATUS_FIRST] = {"Internal Server Error", 21},
    [501 - STATUS_FIRST] = {"Not Implemented", 15},
    [502 - STATUS_FIRST] = {"Bad Gateway", 11},
    [503 - STATUS_FIRST] = {"Service Unavailable", 19},
    [504 - STATUS_FIRST] = {"Gateway Timeout", 15},
    [505 - STATUS_FIRST] = {"HTTP Version Not Supported", 26},
    [506 - STATUS_FIRST] = {"Variant Also Negotiates", 23},
    [507 - STATUS_FIRST] = {"Insufficient Storage", 20},
    [508 - STATUS_FIRST] = {"Loop Detected", 13},
    [510 - STATUS_FIRST] = {"Not Extended", 12},
    [511 - STATUS_FIRST] = {"Network Authentication Required", 31},
};

struct str http_status_text(uint32_t status)
{
    if (status < STATUS_FIRST || status >= STATUS_END || !status_texts[status - STATUS_FIRST].len)
        return STR("Unknown");
    return status_texts[status - STATUS_FIRST];
}
