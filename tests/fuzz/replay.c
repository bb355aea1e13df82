/* Replays the inputs of a folder through a fuzz target, then mutations of each made from a fixed
 * seed: the same bytes in every run. A crash that a fuzzer found becomes a file of the folder. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLAY_INPUT_MAX = 1 << 20, REPLAY_MUTATIONS = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* xorshift: good enough, and the same everywhere. */
static uint32_t replay_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Gives the target a heap copy of exactly `size` bytes, so that ASan sees a read past the end. */
static void replay_one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Changes 1 to 4 bytes, or cuts the input short, or repeats a part of it. Gives back the new size.
 */
static size_t replay_mutate(uint8_t *data, size_t size, uint32_t *seed)
{
    if (size == 0) return 0;
    size_t at = replay_random(seed) % size;
    switch (replay_random(seed) % 4) {
    case 0: return at;
    case 1: {
        size_t length = replay_random(seed) % (size - at + 1);
        if (size + length > REPLAY_INPUT_MAX) return size;
        memmove(data + at + length, data + at, size - at);
        return size + length;
    }
    default:
        for (uint32_t n = replay_random(seed) % 4 + 1; n > 0; n--)
            data[replay_random(seed) % size] = (uint8_t)replay_random(seed);
        return size;
    }
}

static void replay_file(const char *path, uint8_t *data, uint8_t *work)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return;
    size_t size = fread(data, 1, REPLAY_INPUT_MAX, file);
    (void)fclose(file);
    replay_one(data, size);
    uint32_t seed = 2463534242U ^ (uint32_t)size;
    for (int i = 0; i < REPLAY_MUTATIONS; i++) {
        memcpy(work, data, size);
        replay_one(work, replay_mutate(work, size, &seed));
    }
}

int main(int argc, char **argv)
{
    uint8_t *data = malloc(REPLAY_INPUT_MAX), *work = malloc(REPLAY_INPUT_MAX);
    if (data == NULL || work == NULL) abort();
    replay_one((const uint8_t *)"", 0);
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL) {
            (void)fprintf(stderr, "%s: no such folder of inputs\n", argv[i]);
            continue;
        }
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            char path[4096];
            int length = snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] == '.' || length < 0 || (size_t)length >= sizeof path) continue;
            replay_file(path, data, work);
            files++;
        }
        (void)closedir(folder);
    }
    free(data);
    free(work);
    (void)printf("%d inputs replayed\n", files);
    return 0;
}
