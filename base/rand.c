/* Random numbers: xoshiro256** for workers, getrandom(2) for secrets and seeds. */
#include "base/rand.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/must.h"

/* splitmix64 spreads a small seed over the state; the state is never all zero. */
static uint64_t split_mix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rng_init(struct rng *r, uint64_t seed)
{
    if (seed == 0) rand_bytes(&seed, sizeof(seed));
    for (size_t i = 0; i < ARRAY_LEN(r->s); i++)
        r->s[i] = split_mix(&seed);
}

static uint64_t rotate(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    must(n > 0);
    /* The lowest 2^64 mod n values would make some results likelier than others: draw again. */
    uint64_t uneven = (0 - n) % n;
    uint64_t x;
    do {
        x = rng_next(r);
    } while (x < uneven);
    return x % n;
}

void rand_bytes(void *to, size_t n)
{
    unsigned char *at = to;
    while (n) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR) continue;
        must(got > 0);
        at += got;
        n -= (size_t)got;
    }
}

/* Eight hexadecimal digits, a byte each: nibbles are spread over a word, and those above 9 get the
 * distance from '9' to 'a' added. */
static void uuid_digits(uint32_t bits, char *to)
{
    uint64_t x = bits;
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
    uint64_t letters = (x + 0x0606060606060606) >> 4 & 0x0101010101010101;
    x += 0x3030303030303030 + letters * ('a' - '9' - 1);
    memcpy(to, &x, sizeof x);
}

void rng_uuid(struct rng *r, char out[37])
{
    char digits[32];
    uint64_t high = rng_next(r), low = rng_next(r);
    uuid_digits((uint32_t)high, digits);
    uuid_digits((uint32_t)(high >> 32), digits + 8);
    uuid_digits((uint32_t)low, digits + 16);
    uuid_digits((uint32_t)(low >> 32), digits + 24);
    digits[12] = '4';             /* version */
    digits[16] = "89ab"[low & 3]; /* variant of RFC 4122 */
    memcpy(out, digits, 8);
    memcpy(out + 9, digits + 8, 4);
    memcpy(out + 14, digits + 12, 4);
    memcpy(out + 19, digits + 16, 4);
    memcpy(out + 24, digits + 20, 12);
    out[8] = out[13] = out[18] = out[23] = '-';
    out[36] = '\0';
}
