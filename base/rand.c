/* Random numbers: xoshiro256** for workers, getrandom(2) for secrets and seeds. */
#include "base/rand.h"

#include <errno.h>
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

void rng_uuid(struct rng *r, char out[37])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t bits[2] = {rng_next(r), rng_next(r)};
    for (size_t i = 0, at = 0; i < 32; i++) {
        unsigned nibble = (unsigned)(bits[i / 16] >> (i % 16 * 4)) & 15;
        if (i == 12) nibble = 4;                /* version */
        if (i == 16) nibble = 8 | (nibble & 3); /* variant of RFC 4122 */
        if (i == 8 || i == 12 || i == 16 || i == 20) out[at++] = '-';
        out[at++] = digits[nibble];
    }
    out[36] = '\0';
}
